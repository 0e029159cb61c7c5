"""Ein Preisrechner im Browser: Regler und Listen hinein, Preis und Vergleich heraus.

Starten: python -m uvicorn examples.gradio_app.app:app --port 8101
"""

import json
import os

# Vor dem Import: Gradio meldet sich sonst bei seinem Hersteller.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import gradio as gr
from fastapi import FastAPI
from matplotlib.figure import Figure

from examples.price_model.data import load_diamonds
from examples.price_model.predict import load_metadata, load_model
from examples.price_model.schema import EXAMPLE, FEATURES, InvalidStoneError, parse

CUTS = {
    "Fair": "ausreichend",
    "Good": "gut",
    "Very Good": "sehr gut",
    "Premium": "hervorragend",
    "Ideal": "ideal",
}
COLORS = {
    "J": "leicht gelblich",
    "I": "fast farblos",
    "H": "fast farblos, kaum sichtbarer Ton",
    "G": "fast farblos, obere Stufe",
    "F": "farblos",
    "E": "farblos, nur im Labor zu unterscheiden",
    "D": "vollkommen farblos",
}
CLARITIES = {
    "I1": "Einschlüsse mit bloßem Auge sichtbar",
    "SI2": "Einschlüsse unter der Lupe leicht zu sehen",
    "SI1": "Einschlüsse unter der Lupe sichtbar",
    "VS2": "sehr kleine Einschlüsse",
    "VS1": "sehr kleine Einschlüsse, schwer zu finden",
    "VVS2": "winzige Einschlüsse",
    "VVS1": "winzige Einschlüsse, kaum zu finden",
    "IF": "innen lupenrein",
}
LABELS = {
    "carat": "Gewicht (Karat)",
    "depth": "Gesamthöhe (% des Durchmessers)",
    "table": "Tafelbreite (% des Durchmessers)",
    "cut": "Schliff",
    "color": "Farbe",
    "clarity": "Reinheit",
    "x": "Länge (mm)",
    "y": "Breite (mm)",
    "z": "Höhe (mm)",
}
SMALL = [0.3, "Premium", "G", "SI1", 61.0, 58.0, 4.32, 4.35, 2.65]
LARGE = [2.01, "Very Good", "H", "VS2", 62.1, 57.0, 8.02, 8.06, 4.99]
# Systemschriften: das voreingestellte Aussehen lädt Schriften aus dem Netz.
THEME = gr.themes.Base(
    primary_hue="teal",
    font=["system-ui", "-apple-system", "Segoe UI", "sans-serif"],
    font_mono=["ui-monospace", "monospace"],
)

# Einmal je Prozess, nicht je Anfrage.
model = load_model()
ranges = load_metadata()["ranges"]
diamonds = load_diamonds()[0][["carat", "price"]]


def predict(question: dict | list) -> dict | list:
    """Beantwortet die Frage des Vertrags; eine Ablehnung nennt Felder und Gründe als JSON."""
    try:
        prices = model.predict(parse(question))
    except InvalidStoneError as error:
        detail = json.dumps({"detail": error.problems}, ensure_ascii=False)
        raise gr.Error(detail, print_exception=False) from None
    answers = [{"price_usd": price, "model_version": model.version} for price in prices]
    return answers if isinstance(question, list) else answers[0]


def calculate(carat, cut, color, clarity, depth, table, x, y, z) -> tuple[str, Figure]:
    """Gibt Preis und Vergleich als Text sowie das Bild dazu zurück."""
    values = (carat, cut, color, clarity, depth, table, x, y, z)
    try:
        price = model.predict(parse(dict(zip(FEATURES, values, strict=True))))[0]
    except InvalidStoneError as error:
        lines = [f"{LABELS[p['field']]}: {p['reason']}" for p in error.problems]
        raise gr.Error("<br>".join(lines), title="Bitte prüfen", print_exception=False) from None
    similar = diamonds[diamonds["carat"].between(carat * 0.9, carat * 1.1)]["price"]
    text = f"## {german(price)} US-Dollar\n\nModell {model.version}. "
    if similar.empty:
        return text + "Kein Stein der Daten ist ähnlich schwer: Das Modell rät.", Figure()
    text += (
        f"Unter {german(len(similar))} Steinen mit ähnlichem Gewicht (±10 %) "
        f"sind {100 * (similar < price).mean():.0f} % günstiger."
    )
    return text, histogram(similar, price)


def histogram(prices, price: float) -> Figure:
    """Zeichnet, wo der Preis unter ähnlichen Steinen liegt."""
    # Ohne pyplot: dessen gemeinsamer Zustand verträgt keine gleichzeitigen Anfragen.
    figure = Figure(figsize=(6, 3), layout="constrained")
    axes = figure.subplots()
    axes.hist(prices, bins=30, color="#9cc9cc")
    axes.axvline(price, color="#0b6e75", linewidth=3, label="dieser Stein")
    axes.set(xlabel="Preis in US-Dollar", ylabel="Anzahl ähnlicher Steine")
    axes.legend()
    return figure


def german(number: float) -> str:
    """Schreibt eine ganze Zahl mit geschütztem, schmalem Leerzeichen."""
    return f"{number:,.0f}".replace(",", "\u202f")


class Slider(gr.Slider):
    """Ein Regler, der jeden Wert durchreicht: Das Schema prüft und meldet auf Deutsch."""

    is_template = True

    def preprocess(self, payload: object) -> object:
        """Prüft nichts; Gradios eigene Meldungen sind englisch."""
        return payload


class Dropdown(gr.Dropdown):
    """Eine Liste, die jeden Wert durchreicht; siehe Slider."""

    is_template = True

    def preprocess(self, payload: object) -> object:
        """Prüft nichts."""
        return payload


def slider(name: str) -> Slider:
    """Ein Regler über den Bereich, den das Modell aus den Daten kennt."""
    low, high = ranges[name]
    return Slider(low, high, value=EXAMPLE[name], step=0.01, label=LABELS[name])


def choice(name: str, grades: dict[str, str]) -> Dropdown:
    """Eine Liste der Stufen, jede mit Erklärung, von der schlechtesten zur besten."""
    choices = [(f"{grade} – {meaning}", grade) for grade, meaning in grades.items()]
    return Dropdown(choices, value=EXAMPLE[name], label=LABELS[name])


with gr.Blocks(title="Preisrechner für Diamanten") as demo:
    gr.Markdown("# Preisrechner für Diamanten\n\nNeun Merkmale, ein geschätzter Preis.")
    with gr.Row():
        with gr.Column():
            inputs = [
                slider("carat"),
                choice("cut", CUTS),
                choice("color", COLORS),
                choice("clarity", CLARITIES),
            ]
            with gr.Accordion("Maße", open=False):
                inputs += [slider(name) for name in ("depth", "table", "x", "y", "z")]
            button = gr.Button("Preis schätzen", variant="primary")
        with gr.Column():
            result = gr.Markdown("Noch kein Preis geschätzt.", elem_id="result")
            plot = gr.Plot(label="Vergleich mit ähnlichen Steinen")
    gr.Examples([SMALL, LARGE], inputs, label="Beispiele")
    button.click(calculate, inputs, [result, plot], api_name="calculate")
    gr.api(predict, api_name="predict")

demo.queue(default_concurrency_limit=4)

app = FastAPI()


@app.get("/health/live")
async def live() -> dict[str, str]:
    """Der Prozess lebt."""
    return {"status": "live"}


@app.get("/health/ready")
async def ready() -> dict[str, str]:
    """Das Modell ist geladen, sonst wäre der Import gescheitert."""
    return {"status": "ready"}


app = gr.mount_gradio_app(
    app, demo, path="/", theme=THEME, footer_links=["api"], show_error=True, ssr_mode=False
)
