"""Eine CSV-Datei mit Steinen bewerten, Zeile für Zeile; kommt ohne Streamlit aus.

Zwei Formen gelten: Komma mit Dezimalpunkt, wie Python schreibt, und Semikolon mit
Dezimalkomma, wie Excel auf einem deutschen Rechner schreibt. Beide in UTF-8.

Aufruf: `python -m examples.streamlit_app.upload DATEI`
"""

import csv
import io
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from examples.price_model.predict import ModelMissingError, PriceModel, load_model
from examples.price_model.schema import (
    CATEGORIES,
    FEATURES,
    MAX_BATCH,
    InvalidStoneError,
    parse,
)

MAX_BYTES = 256 * 1024
# Wer Fehler in der Ergebnisdatei verbessert, lädt sie samt diesen Spalten wieder hoch.
RESULTS = ("price_usd", "model_version", "error")
# Je Form ein Dezimalzeichen: „1.234“ soll nie je nach Rechner 1,234 oder 1234 bedeuten.
NUMBERS = {
    ",": re.compile(r"[+-]?[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?", re.IGNORECASE),
    ";": re.compile(r"[+-]?[0-9]+(,[0-9]+)?(e[+-]?[0-9]+)?", re.IGNORECASE),
}


class UnreadableFileError(ValueError):
    """Eine Datei, aus der sich keine einzige Zeile bewerten lässt; der Text nennt den Grund."""


@dataclass
class Row:
    """Eine Zeile der Datei: entweder mit Preis oder mit Gründen, warum nicht.

    `number` zählt wie eine Tabellenkalkulation, die Kopfzeile ist 1; `cells` sind die
    Zellen als Text; `problems` ist eine Liste aus {"field", "reason"}.
    """

    number: int
    cells: dict[str, str]
    problems: list[dict[str, str]]
    price: float | None = None

    def value_of(self, field: str) -> str:
        """Gibt die Zelle zurück, um die es bei einem Grund geht."""
        return self.cells.get(field, "") or "–"


@dataclass
class Table:
    """Alle Zeilen einer Datei, ihr Trennzeichen und die Version des Modells."""

    rows: list[Row]
    delimiter: str
    model_version: str


def price(content: bytes, model: PriceModel) -> Table:
    """Bewertet jede gültige Zeile; die übrigen behalten ihre Gründe."""
    delimiter, rows = read(content)
    stones = {}
    for row in rows:
        try:
            if not row.problems:
                stones[row.number] = parse(question(row.cells, delimiter))[0]
        except InvalidStoneError as error:
            row.problems = error.problems
    prices = dict(zip(stones, model.predict(list(stones.values())), strict=True)) if stones else {}
    for row in rows:
        row.price = prices.get(row.number)
    return Table(rows, delimiter, model.version)


def read(content: bytes) -> tuple[str, list[Row]]:
    """Gibt Trennzeichen und Zeilen zurück; ohne lesbare Steine `UnreadableFileError`."""
    if len(content) > MAX_BYTES:
        raise UnreadableFileError(f"Die Datei ist größer als {MAX_BYTES // 1024} KiB.")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UnreadableFileError(
            "Die Datei ist kein Text in UTF-8. In Excel beim Speichern das Format CSV UTF-8 wählen."
        ) from None
    if not text.strip():
        raise UnreadableFileError("Die Datei ist leer.")
    delimiter = ";" if ";" in text.splitlines()[0] else ","
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error:
        raise UnreadableFileError(
            "Die Datei ist keine lesbare CSV-Tabelle: Stimmen die Anführungszeichen?"
        ) from None
    header = check_header([name.strip() for name in lines[0]])
    # Excel lässt unter der Tabelle gern Zeilen aus lauter Trennzeichen stehen.
    filled = [(n, cells) for n, cells in enumerate(lines[1:], 2) if any(map(str.strip, cells))]
    if not filled:
        raise UnreadableFileError("Unter der Kopfzeile steht kein Stein.")
    if len(filled) > MAX_BATCH:
        raise UnreadableFileError(
            f"Die Datei enthält {len(filled)} Steine, erlaubt sind höchstens {MAX_BATCH}."
        )
    return delimiter, [build_row(n, header, cells) for n, cells in filled]


def check_header(header: list[str]) -> list[str]:
    """Gibt die Kopfzeile zurück, wenn genau die neun Merkmale darin stehen."""
    names = [name for name in header if name not in RESULTS]
    problems = {
        "Es fehlt": [name for name in FEATURES if name not in names],
        "Unbekannt ist": [name[:60] or "(leer)" for name in names if name not in FEATURES],
        "Doppelt ist": sorted({name for name in names if names.count(name) > 1} & {*FEATURES}),
    }
    found = [f"{what}: {', '.join(names[:9])}." for what, names in problems.items() if names]
    if found:
        raise UnreadableFileError(f"Die Kopfzeile passt nicht. {' '.join(found)}")
    return header


def build_row(number: int, header: list[str], cells: list[str]) -> Row:
    """Ordnet die Zellen den Spalten zu; eine falsche Anzahl ist ein Grund zur Ablehnung."""
    named = dict(zip(header, map(str.strip, cells), strict=False))
    problems = []
    if len(cells) != len(header):
        reason = f"Die Zeile hat {len(cells)} Werte, die Kopfzeile {len(header)}."
        problems = [{"field": "ganze Zeile", "reason": reason}]
    return Row(number, {name: named.get(name, "") for name in FEATURES}, problems)


def question(cells: dict[str, str], delimiter: str) -> dict:
    """Macht aus Zellen die Frage des Vertrags; was keine Zahl ist, bleibt Text."""
    stone: dict[str, str | float] = {}
    for name, text in cells.items():
        if name not in CATEGORIES and NUMBERS[delimiter].fullmatch(text):
            stone[name] = float(text.replace(",", "."))
        elif text:  # eine leere Zelle ist ein fehlendes Feld
            stone[name] = text
    return stone


def to_csv(table: Table) -> bytes:
    """Schreibt alle Zeilen mit Preis oder Gründen, in der Form der gelesenen Datei."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, delimiter=table.delimiter)
    writer.writerow([*FEATURES, *RESULTS])
    for row in table.rows:
        cells = [harmless(cell, table.delimiter) for cell in row.cells.values()]
        reasons = " ".join(f"{p['field']}: {p['reason']}" for p in row.problems)
        if row.price is None:
            writer.writerow([*cells, "", "", reasons])
        else:
            price = f"{row.price:.2f}".replace(".", "," if table.delimiter == ";" else ".")
            writer.writerow([*cells, price, table.model_version, ""])
    # An dieser Marke erkennt Excel UTF-8; andere Programme störte sie.
    return buffer.getvalue().encode("utf-8-sig" if table.delimiter == ";" else "utf-8")


def harmless(cell: str, delimiter: str) -> str:
    """Entschärft Zellen, die eine Tabellenkalkulation als Formel ausführte."""
    if NUMBERS[delimiter].fullmatch(cell):
        return cell
    # Auch mitten in der Zelle: Excel trennt je nach Land an einem anderen Zeichen.
    return re.sub(r"""(^|[,;\s"])([=+\-@])""", r"\1'\2", cell)


def main() -> int:
    """Bewertet eine Datei und gibt das Ergebnis als CSV aus; Fehler sind eine Zeile."""
    if len(sys.argv) != 2:
        print("Aufruf: python -m examples.streamlit_app.upload DATEI", file=sys.stderr)
        return 2
    try:
        table = price(Path(sys.argv[1]).read_bytes(), load_model())
    except (UnreadableFileError, ModelMissingError) as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        name = Path(error.filename or sys.argv[1]).name
        print(f"{name} lässt sich nicht lesen: {error.strerror}.", file=sys.stderr)
        return 1
    sys.stdout.buffer.write(to_csv(table))
    return 0


if __name__ == "__main__":
    sys.exit(main())
