"""Ein Preisrechner im Browser: Regler und Listen hinein, Preis und Vergleich heraus.

Starten: python -m uvicorn examples.gradio_app.app:app --port 8101
"""

import atexit
import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

# Vor dem Import: Gradio meldet sich sonst bei seinem Hersteller.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
# Hierhin kommt, was jemand hochlädt; die Vorgabe ist ein Ordner, der für immer bleibt.
os.environ["GRADIO_TEMP_DIR"] = tempfile.mkdtemp(prefix="gradio-")

import gradio as gr
import numpy as np
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from examples.price_model.data import load_diamonds
from examples.price_model.predict import load_metadata, load_model
from examples.price_model.schema import EXAMPLE, FEATURES, MAX_BODY_BYTES, InvalidStoneError, parse
from examples.price_model.words import GRADES, HINTS, LABELS, german

# Auch wer die App nur importiert, lässt nichts zurück. Ein Dienst räumt in `lifespan` auf: Er endet
# durch ein Signal, und dann geschieht das hier nicht.
atexit.register(shutil.rmtree, os.environ["GRADIO_TEMP_DIR"], ignore_errors=True)

EXAMPLES = {
    "Kleiner Stein": [0.3, "Premium", "G", "SI1", 61.0, 58.0, 4.32, 4.35, 2.65],
    "Ein Karat, fast fehlerlos": [1.0, "Ideal", "D", "VVS1", 61.7, 56.0, 6.42, 6.45, 3.97],
    "Großer Stein": [2.01, "Very Good", "H", "VS2", 62.1, 57.0, 8.02, 8.06, 4.99],
}
# Systemschriften statt Schriften aus dem Netz; dunklere Farben für genug Kontrast.
THEME = gr.themes.Base(
    primary_hue="teal",
    font=["system-ui", "-apple-system", "Segoe UI", "sans-serif"],
    font_mono=["ui-monospace", "monospace"],
).set(
    body_text_color_subdued="*neutral_600",
    body_text_color_subdued_dark="*neutral_300",
    button_primary_background_fill="*primary_700",
    button_primary_background_fill_hover="*primary_800",
    button_primary_background_fill_dark="*primary_700",
    button_primary_background_fill_hover_dark="*primary_800",
    slider_color="*primary_700",
    block_title_text_color="*body_text_color",
)
# Der Fokus soll zu sehen sein; eine Ablehnung steht über ihrem Feld, nicht auf ihm.
CSS = """
:focus-visible { outline: 2px solid var(--primary-500) !important; outline-offset: 2px; }
.wrap:has(> .validation-error), .validation-error { position: static !important; width: 100%; }
.validation-error { border: 1px solid; border-radius: 4px; margin-bottom: 4px; }
.html-container { padding: 0; }
"""
# Für Vorleseprogramme: nur der deutsche Name des Feldes, und Neues wird angesagt.
SCRIPT = """() => {
    const improve = () => {
        for (const input of document.querySelectorAll("input[aria-label*=' for ']"))
            input.ariaLabel = input.ariaLabel.split(" for ")[1];
        for (const place of document.querySelectorAll("#result, [data-testid=status-tracker]"))
            place.ariaLive = "polite";
    };
    improve();
    new MutationObserver(improve).observe(document.body, {childList: true, subtree: true});
}"""

# Einmal je Prozess, nicht je Anfrage.
model = load_model()
metadata = load_metadata()
diamonds = load_diamonds()[0]
# Länge · Breite · Höhe wächst mit dem Gewicht; wo nicht, hat sich jemand vertippt.
volume = diamonds[["x", "y", "z"]].prod(axis="columns") / diamonds["carat"]
MM3_PER_CARAT = volume.median()
diamonds = diamonds[volume.between(0.9 * MM3_PER_CARAT, 1.1 * MM3_PER_CARAT)]


def predict(question: dict | list) -> dict | list:
    """Beantwortet die Frage des Vertrags; eine Ablehnung nennt Felder und Gründe als JSON."""
    try:
        prices = model.predict(parse(question))
    except InvalidStoneError as error:
        detail = json.dumps({"detail": error.problems}, ensure_ascii=False)
        raise gr.Error(detail, print_exception=False) from None
    answers = [{"price_usd": price, "model_version": model.version} for price in prices]
    return answers if isinstance(question, list) else answers[0]


def validate(carat, cut, color, clarity, depth, table, x, y, z) -> list[dict]:
    """Sagt zu jedem Bedienelement, ob sein Wert gilt und warum nicht."""
    values = (carat, cut, color, clarity, depth, table, x, y, z)
    reasons = {}
    try:
        parse(dict(zip(FEATURES, values, strict=True)))
        usual = x * y * z / MM3_PER_CARAT
        if not 0.9 < carat / usual < 1.1:
            reason = f"Ein Stein dieser Maße wiegt etwa {german(usual, 2)} Karat."
            reasons = dict.fromkeys(("carat", "x", "y", "z"), reason)
    except InvalidStoneError as error:
        reasons = {problem["field"]: problem["reason"] for problem in error.problems}
    return [gr.validate(name not in reasons, reasons.get(name, "")) for name in FEATURES]


def calculate(carat, cut, color, clarity, depth, table, x, y, z) -> tuple[str, str]:
    """Gibt den Preis als Text und seine Lage unter ähnlichen Steinen als Bild zurück."""
    values = (carat, cut, color, clarity, depth, table, x, y, z)
    price = model.predict(parse(dict(zip(FEATURES, values, strict=True))))[0]
    similar = diamonds[diamonds["carat"].between(carat * 0.9, carat * 1.1)]["price"]
    text = (
        f"## {german(price)} US-Dollar\n\n"
        f"für {german(carat, 2)} Karat, {cut}, {color}, {clarity} (Modell {model.version}).\n\n"
    )
    if similar.empty:
        return text + "Kein Stein der Daten ist ähnlich schwer: Das Modell rät.", ""
    text += (
        f"Unter {german(len(similar))} Steinen mit ähnlichem Gewicht (±10 %) "
        f"sind {100 * (similar < price).mean():.0f} % günstiger."
    )
    return text, histogram(similar, price)


def histogram(prices, price: float) -> str:
    """Zeichnet, wo der Preis unter ähnlichen Steinen liegt, als SVG in Farben der Seite."""
    top = max(prices.max(), price)
    counts = np.histogram(prices, bins=30, range=(0, top))[0]
    bars = "".join(
        f'<rect x="{i}" y="{100 - height:.1f}" width="0.9" height="{height:.1f}"/>'
        for i, height in enumerate(100 * counts / counts.max())
    )
    return f"""
<div role="img" aria-label="Histogramm der Preise ähnlicher Steine von 0 bis {german(top)}
US-Dollar; eine Linie zeigt diesen Stein bei {german(price)} US-Dollar.">
<svg viewBox="0 0 30 100" preserveAspectRatio="none" width="100%" height="180" aria-hidden="true">
<g fill="var(--primary-600)">{bars}</g>
<rect x="{30 * price / top - 0.1:.2f}" width="0.2" height="100" fill="currentColor"/>
</svg>
<div style="display: flex; justify-content: space-between">
<span>0</span><span>Preis in US-Dollar</span><span>{german(top)}</span></div>
</div>
<p>Balken: Anzahl ähnlicher Steine. Linie: dieser Stein.</p>"""


def control(name: str) -> gr.Slider | gr.Dropdown:
    """Eine Liste erklärter Stufen oder ein Regler über den Bereich der Trainingsdaten."""
    shared = {"value": EXAMPLE[name], "label": LABELS[name], "info": HINTS.get(name)}
    if name == "carat":
        shared["info"] += " Die Maße folgen dem Gewicht."
    if name in GRADES:
        choices = [(f"{grade} – {meaning}", grade) for grade, meaning in GRADES[name].items()]
        return gr.Dropdown(choices, **shared)
    low, high = diamonds[name].min(), diamonds[name].max()
    return gr.Slider(low, high, step=0.01, buttons=[], **shared)


def follow(carat: gr.Slider) -> str:
    """Ein Skript für den Browser: die üblichen Maße zum Gewicht, ohne Umweg über den Server."""
    usual = diamonds[["x", "y", "z"]].div(np.cbrt(diamonds["carat"]), axis="index").median()
    return f"""(carat) => {{
        const size = Math.cbrt(Math.min(Math.max(carat, {carat.minimum}), {carat.maximum}));
        return {usual.round(3).to_list()}.map((mm) => Math.round(100 * mm * size) / 100);
    }}"""


def build() -> gr.Blocks:
    """Ordnet Eingaben und Ergebnis an und verbindet beide mit den Funktionen."""
    with gr.Blocks(title="Preisrechner für Diamanten") as demo:
        gr.Markdown(
            "# Preisrechner für Diamanten\n\n"
            f"Gelernt aus {german(metadata['rows']['train'])} Steinen. Bei anderen liegt "
            f"die Schätzung im Mittel {german(metadata['mae_usd'])} US-Dollar daneben."
        )
        with gr.Row():
            with gr.Column():
                inputs = [control(name) for name in ("carat", "cut", "color", "clarity")]
                with gr.Accordion("Maße", open=False):
                    inputs += [control(name) for name in ("depth", "table", "x", "y", "z")]
                button = gr.Button("Preis schätzen", variant="primary")
            with gr.Column():
                outputs = [
                    gr.Markdown(label="Preis", elem_id="result"),
                    gr.HTML(label="Lage unter ähnlichen Steinen"),
                ]
        inputs[0].input(None, inputs[0], inputs[-3:], js=follow(inputs[0]))
        button.click(
            calculate, inputs, outputs, api_name="calculate", validator=validate, preprocess=False
        )
        demo.load(calculate, inputs, outputs, api_visibility="private")
        gr.api(predict, api_name="predict")
        gr.Examples(
            list(EXAMPLES.values()),
            inputs,
            outputs,
            calculate,
            run_on_click=True,
            label="Beispiele",
            example_labels=list(EXAMPLES),
        )
    return demo


demo = build()


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Löscht am Ende, was hochgeladen wurde."""
    yield
    shutil.rmtree(os.environ["GRADIO_TEMP_DIR"], ignore_errors=True)


# Die Seite /docs holt ihr Skript von einem fremden Server; hier braucht sie niemand.
# `max_file_size` unten gilt nur Dateien, diese Grenze jeder Frage.
service = FastAPI(openapi_url=None, lifespan=lifespan, max_body_size=MAX_BODY_BYTES)


@service.get("/health/live")
async def live() -> dict[str, str]:
    """Der Prozess lebt."""
    return {"status": "live"}


@service.get("/health/ready")
async def ready() -> dict[str, str]:
    """Das Modell ist geladen, sonst wäre der Import gescheitert."""
    return {"status": "ready"}


async def refuse(request: Request, error: RequestValidationError) -> JSONResponse:
    """Lehnt ab, was keine Frage ist; FastAPI legte NaN bei und scheiterte daran mit 500."""
    return JSONResponse({"detail": "Erwartet wird ein Objekt mit der Liste `data`."}, 422)


app = gr.mount_gradio_app(
    service,
    demo,
    path="/",
    theme=THEME,
    css=CSS,
    js=SCRIPT,
    footer_links=[],  # die Seiten dahinter sind englisch
    run_history=False,  # kein Verlauf im Browser eines gemeinsamen Rechners
    show_error=False,  # ein unerwarteter Fehler verrät nichts; ein gr.Error erscheint trotzdem
    app_kwargs={"exception_handlers": {RequestValidationError: refuse}},
    max_file_size=1,  # sonst nähme der Server von jedem beliebig große Dateien an
)
