"""Eine Datenanwendung: Steine vergleichen, eine CSV-Datei bewerten, als JSON fragen.

Starten: `python -m streamlit run examples/streamlit_app/app.py`
"""

import json
import re

import pandas as pd
import streamlit as st

from examples.price_model.predict import ModelMissingError, PriceModel, load_metadata, load_model
from examples.price_model.schema import (
    CATEGORIES,
    EXAMPLE,
    FEATURES,
    MAX_BATCH,
    MAX_BODY_BYTES,
    REASONS,
    REFUSALS,
    InvalidStoneError,
    parse,
)
from examples.price_model.words import GRADES, HINTS, LABELS, german
from examples.streamlit_app import upload

MEASURES = ("depth", "table", "x", "y", "z")
SHOWN_ROWS = 20
# Was Streamlit nicht anbietet: Deutsch als Sprache der Seite, keine englischen Hinweise.
PAGE = """
<style>
[data-testid="InputInstructions"], [data-testid="stFileUploaderDropzoneInstructions"],
[data-testid="stElementToolbar"] { display: none }
[data-testid="stMainBlockContainer"] { padding-top: 2rem }
</style>
<script>document.documentElement.lang = "de"</script>
"""


@st.cache_resource(show_spinner="Das Modell wird geladen …")
def price_model() -> PriceModel:
    """Lädt das Modell einmal je Prozess; alle Sitzungen teilen es sich."""
    return load_model()


@st.cache_data(show_spinner=False)
def metadata() -> dict:
    """Liest die Beschreibung des Modells einmal; jeder Aufruf bekommt eine eigene Kopie."""
    return load_metadata()


@st.cache_data(scope="session", max_entries=2, show_spinner="Die Steine werden bewertet …")
def price_file(content: bytes) -> upload.Table:
    """Bewertet eine Datei einmal je Inhalt; nur diese Sitzung sieht das Ergebnis."""
    return upload.price(content, price_model())


def answer(text: str) -> dict | list:
    """Beantwortet die Frage des Vertrags; ungültige ergeben `InvalidStoneError`."""
    if len(text.encode("utf-8", "replace")) > MAX_BODY_BYTES:
        raise InvalidStoneError([dict(zip(("field", "reason"), REFUSALS[413], strict=True))])
    try:
        question = json.loads(text)
    except (ValueError, RecursionError):
        problem = {"field": "body", "reason": REASONS["json_invalid"]}
        raise InvalidStoneError([problem]) from None
    model = price_model()
    prices = model.predict(parse(question))
    answers = [{"price_usd": price, "model_version": model.version} for price in prices]
    return answers if isinstance(question, list) else answers[0]


def control(name: str) -> str | float:
    """Eine Liste erklärter Stufen oder ein Regler über den Bereich der Trainingsdaten."""
    label, hint = LABELS[name], HINTS.get(name)
    if name in GRADES:
        grades, chosen = list(GRADES[name]), EXAMPLE[name]
        explain = {grade: f"{grade} – {meaning}" for grade, meaning in GRADES[name].items()}
        return st.selectbox(
            label, grades, grades.index(chosen), format_func=explain.get, help=hint, key=name
        )
    low, high = metadata()["ranges"][name]
    return st.slider(label, low, high, EXAMPLE[name], 0.01, format="localized", help=hint, key=name)


def compare() -> None:
    """Links der Stein, rechts sein Preis, im Vergleich zum gemerkten Stein."""
    left, right = st.columns(2, gap="large")
    with left:
        stone = {name: control(name) for name in ("carat", *CATEGORIES)}
        with st.expander("Maße"):
            stone |= {name: control(name) for name in MEASURES}
    with right:
        price = price_model().predict(parse(stone))[0]
        show_price(stone, price)
        play_through(stone)


def show_price(stone: dict, price: float) -> None:
    """Zeigt den Preis und, sobald ein Stein gemerkt ist, den Unterschied zu ihm."""
    # session_state gehört dieser einen Sitzung; ein globales Objekt sähen alle.
    known = st.session_state.get("remembered")
    difference = f"{german(price - known['price'])} US-Dollar" if known else None
    st.metric("Geschätzter Preis", f"{german(price)} US-Dollar", difference)
    st.button("Diesen Stein merken", on_click=remember, args=(stone, price), key="remember")
    if known:
        rows = [
            (LABELS[name], decimal(known["stone"][name]), decimal(stone[name]))
            for name in FEATURES
            if known["stone"][name] != stone[name]
        ]
        st.markdown(f"Gemerkt: {german(known['price'])} US-Dollar. Seither geändert:")
        if rows:
            st.table(pd.DataFrame(rows, columns=["Merkmal", "gemerkt", "jetzt"]))
        else:
            st.markdown("nichts")


def remember(stone: dict, price: float) -> None:
    """Merkt sich den Stein für den Vergleich; läuft vor dem nächsten Durchlauf der Seite."""
    st.session_state.remembered = {"stone": stone, "price": price}


def decimal(value: str | float) -> str:
    """Schreibt einen Wert mit Dezimalkomma."""
    return value if isinstance(value, str) else f"{value:.2f}".replace(".", ",")


@st.fragment
def play_through(stone: dict) -> None:
    """Zeigt den Preis für jede Stufe eines Merkmals; läuft nach der Wahl allein neu."""
    name = st.radio(
        "Was wäre, wenn sich nur ein Merkmal änderte?",
        list(CATEGORIES)[::-1],
        format_func=LABELS.get,
        horizontal=True,
        key="feature",
    )
    grades = CATEGORIES[name]
    prices = price_model().predict(parse([stone | {name: grade} for grade in grades]))
    said = ", ".join(
        f"{grade} {german(price)}" for grade, price in zip(grades, prices, strict=True)
    )
    st.vega_lite_chart(bars(prices, grades, stone[name]), alt=f"US-Dollar je Stufe: {said}.")
    st.markdown("Preis in US-Dollar je Stufe; alle übrigen Merkmale bleiben gleich.")


def bars(prices: list[float], grades: tuple[str, ...], chosen: str) -> dict:
    """Beschreibt liegende Balken mit Zahl in Vega-Lite; kräftig ist die gewählte Stufe."""
    values = [
        {"grade": grade, "price": price, "text": german(price), "chosen": grade == chosen}
        for grade, price in zip(grades, prices, strict=True)
    ]
    scale = {"domain": [0, 1.2 * max(prices)]}  # rechts bleibt Platz für die Zahl
    opacity = {"condition": {"test": "datum.chosen", "value": 1}, "value": 0.5}
    number = {"type": "text", "align": "left", "dx": 6, "fontSize": 13}
    return {
        "data": {"values": values},
        "height": 28 * len(grades),
        "encoding": {
            "x": {"field": "price", "type": "quantitative", "axis": None, "scale": scale},
            "y": {"field": "grade", "type": "nominal", "sort": None, "title": None},
        },
        "layer": [
            {"mark": "bar", "encoding": {"opacity": opacity}},
            {"mark": number, "encoding": {"text": {"field": "text", "type": "nominal"}}},
        ],
    }


def price_upload() -> None:
    """Bewertet eine hochgeladene Datei; falsche Zeilen halten die richtigen nicht auf."""
    st.markdown(
        "Eine CSV-Datei mit einem Stein je Zeile, in UTF-8, entweder mit Semikolon und "
        "Dezimalkomma (Excel) oder mit Komma und Dezimalpunkt (Python)."
    )
    template = upload.Table(
        [upload.Row(2, {n: decimal(v) for n, v in EXAMPLE.items()}, [])], ";", ""
    )
    st.download_button(
        "Vorlage herunterladen",
        upload.to_csv(template),
        "vorlage.csv",
        "text/csv",
        on_click="ignore",
        key="template",
    )
    limits = f"höchstens {upload.MAX_BYTES // 1024} KiB und {german(MAX_BATCH)} Steine"
    file = st.file_uploader(f"CSV-Datei mit Steinen, {limits}", "csv", key="file")
    if file is None:
        return
    try:
        show_table(price_file(file.getvalue()))
    except upload.UnreadableFileError as error:
        st.error(plain(str(error)))


def show_table(table: upload.Table) -> None:
    """Zeigt, was bewertet und was abgelehnt wurde, und bietet das Ergebnis an."""
    priced = [row for row in table.rows if row.price is not None]
    rejected = [row for row in table.rows if row.price is None]
    st.metric("Bewertete Steine", f"{german(len(priced))} von {german(len(table.rows))}")
    st.download_button(
        "Ergebnis herunterladen",
        upload.to_csv(table),
        "preise.csv",
        "text/csv",
        on_click="ignore",
        key="result",
    )
    if rejected:
        st.warning("Nicht bewertet wurden diese Zeilen; auch sie stehen in der Ergebnisdatei.")
        problems = [
            (row.number, LABELS.get(p["field"], p["field"]), row.value_of(p["field"]), p["reason"])
            for row in rejected
            for p in row.problems
        ]
        show_rows(problems, ["Zeile", "Merkmal", "Wert", "Grund"])
    if priced:
        rows = [(row.number, *row.cells.values(), german(row.price)) for row in priced]
        show_rows(rows, ["Zeile", *LABELS.values(), "Preis (US-Dollar)"])


def show_rows(rows: list[tuple], columns: list[str]) -> None:
    """Zeigt die ersten Zeilen einer Tabelle; Text von außen erscheint wörtlich."""
    shown = [[plain(str(cell)) for cell in row] for row in rows[:SHOWN_ROWS]]
    st.table(pd.DataFrame(shown, columns=columns))
    if len(rows) > SHOWN_ROWS:
        st.markdown(f"Gezeigt sind die ersten {SHOWN_ROWS} von {german(len(rows))}.")


def plain(text: str) -> str:
    """Entwertet Markdown: Ein Bild in einer Zelle würde sonst fremde Adressen laden."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", text)


def ask() -> None:
    """Nimmt die Frage des Vertrags als JSON an und antwortet ebenso."""
    with st.form("json"):
        question = st.text_area(
            "Ein Stein oder eine Liste von Steinen als JSON",
            json.dumps(EXAMPLE, indent=2),
            height=260,
            key="question",
        )
        asked = st.form_submit_button("Preis erfragen", key="ask")
    if not asked:
        return
    try:
        reply = answer(question)
    except InvalidStoneError as error:
        reply = {"detail": error.problems}
        st.error("Die Frage wurde abgelehnt. Felder und Gründe:")
    # Ohne Einfärbung: deren Kontrast reicht nicht.
    st.code(json.dumps(reply, indent=2, ensure_ascii=False), language=None)


def main() -> None:
    """Baut die Seite; Streamlit führt sie bei jeder Eingabe von vorn aus."""
    st.set_page_config("Preisrechner für Diamanten", layout="wide")
    st.html(PAGE, unsafe_allow_javascript=True)
    st.title("Preisrechner für Diamanten", anchor=False)
    try:
        about, model = metadata(), price_model()
    except ModelMissingError as error:
        st.error(str(error))
        return
    st.markdown(
        f"Gelernt aus {german(about['rows']['train'])} Steinen. "
        f"Im Mittel liegt die Schätzung {german(about['mae_usd'])} US-Dollar daneben. "
        f"Modell {model.version}."
    )
    tabs = st.tabs(["Stein vergleichen", "Datei bewerten", "Als JSON fragen"])
    for tab, show in zip(tabs, (compare, price_upload, ask), strict=True):
        with tab:
            show()


if __name__ == "__main__":
    main()
