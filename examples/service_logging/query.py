"""Fragen an das Log beantworten.

Aufruf: `python -m examples.service_logging.query ORDNER summary | rejected | rows`
oder `… explain KENNUNG [--position N]` oder `… trace KENNUNG`
"""

import argparse
import json
import re
import sys
from collections import Counter
from pathlib import Path

from examples.price_model.predict import ModelMissingError, load_model
from examples.price_model.schema import CATEGORIES, Stone
from examples.service_logging.journal import read, seen

TOLERANCE_USD = 0.05


class UnansweredError(RuntimeError):
    """Das Log enthält die Antwort nicht."""


def summary(folder: Path) -> dict:
    """Zählt Zeilen je Ereignis und Ebene und die unlesbaren."""
    counts: Counter = Counter()
    for line in read(folder):
        named = line and line.get("event") and line.get("level")
        counts[f"{line['event']} {line['level']}" if named else "unreadable"] += 1
    return dict(sorted(counts.items()))


def rejected(folder: Path) -> dict:
    """Zählt die abgelehnten Felder: Was machen Aufrufer falsch?"""
    lines = (line for line in read(folder) if line)
    return dict(Counter(name for line in lines for name in line.get("rejected", [])).most_common())


def rows(folder: Path) -> list[dict]:
    """Gibt je Stein eine flache Zeile zurück, wie sie der Vergleich auf Drift liest."""
    return [seen(line) for line in read(folder) if line and line.get("event") == "prediction"]


def trace(folder: Path, identity: str) -> list[dict]:
    """Alle Zeilen einer Anfrage, aus welchem Logger auch immer."""
    found = [line for line in read(folder) if line and line.get("request_id") == identity]
    if not found:
        raise UnansweredError(f"Zu {printable(identity)} steht nichts im Log.")
    return found


def printable(identity: str) -> str:
    """Eine Kennung ohne Steuerzeichen, damit die Meldung keine falsche Zeile erzeugt."""
    return re.sub(r"[^\w.-]", "?", identity)[:64]


def explain(folder: Path, identity: str, position: int) -> dict:
    """Warum dieser Preis? Eingabe, Modell, neu gerechnet, und was jede andere Stufe kostete."""
    lines = trace(folder, identity)
    found = [
        line for line in lines if line["event"] == "prediction" and line.get("position") == position
    ]
    if len(found) != 1:
        problem = "keine" if not found else "mehr als eine"
        raise UnansweredError(f"Zu Kennung und Stelle gibt es {problem} Vorhersage im Log.")
    logged, model = found[0], load_model()
    if model.version != logged["model_version"]:
        raise UnansweredError(
            f"Gerechnet hat Modell {logged['model_version']}, hier liegt {model.version}."
        )
    stone = Stone(**logged["features"])
    (again,) = model.predict([stone])
    return {
        "model_version": model.version,
        "features": logged["features"],
        "price_usd": round(logged["price_usd"]),
        "reproduced": abs(again - logged["price_usd"]) < TOLERANCE_USD,
        "other_grades": {
            name: {
                grade: round(model.predict([stone.model_copy(update={name: grade})])[0])
                for grade in grades
                if grade != getattr(stone, name)
            }
            for name, grades in CATEGORIES.items()
        },
    }


def main() -> int:
    """Beantwortet eine Frage als JSON; ohne Antwort endet der Aufruf mit 1."""
    parser = argparse.ArgumentParser(description="Fragen an das Log")
    parser.add_argument("folder", type=Path)
    parser.add_argument("question", choices=["summary", "rejected", "rows", "trace", "explain"])
    parser.add_argument("request_id", nargs="?", default="")
    parser.add_argument("--position", type=int, default=0, help="Stelle im Stapel, ab 0")
    options = parser.parse_args()
    if options.question in ("trace", "explain") and not options.request_id:
        parser.error("Hier fehlt die Kennung.")
    try:
        if not options.folder.is_dir():
            raise UnansweredError(f"Den Ordner {options.folder.name} gibt es nicht.")
        if options.question == "explain":
            answer = explain(options.folder, options.request_id, options.position)
        elif options.question == "trace":
            answer = trace(options.folder, options.request_id)
        else:
            answer = globals()[options.question](options.folder)
    except (UnansweredError, ModelMissingError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())
