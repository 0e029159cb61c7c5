"""Drift im Log des laufenden Dienstes suchen.

Aufruf: `python -m examples.drift_detection.detector profile DATEI` beschreibt die Referenz,
`… watch DATEI ORDNER` prüft das Log Fenster für Fenster.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from examples.drift_detection.measures import (
    benjamini_hochberg,
    psi,
    psi_p_value,
    quantile_edges,
    shares,
)
from examples.service_logging import journal

WINDOW = 500
# Beides zusammen ergibt einen Alarm: selten genug und groß genug.
ALPHA = 0.001
RELEVANT = 0.1
PRICE = "price_usd"


class LogError(ValueError):
    """Profil oder Log fehlen, sind unlesbar oder zu kurz."""


def profile() -> dict:
    """Beschreibt die Referenz durch Klassen und Anteile; einzelne Steine enthält sie nicht."""
    # Erst hier: Der Detektor selbst kommt ohne Modell und Daten aus.
    from examples.drift_detection.constructed import estimated, halves
    from examples.price_model.predict import load_metadata
    from examples.price_model.schema import CATEGORIES, FEATURES

    metadata = load_metadata()
    rows = estimated(halves()[0]).rename(columns={"predicted": PRICE})
    columns = {}
    for name, values in rows[[*FEATURES, PRICE]].items():
        edges = list(CATEGORIES.get(name) or quantile_edges(values))
        columns[name] = {"edges": edges, "shares": shares(values, edges).tolist()}
    return {"model_version": metadata["model_version"], "rows": len(rows), "columns": columns}


def check(reference: dict, window: list[dict]) -> dict:
    """Vergleicht ein Fenster mit der Referenz: PSI je Spalte, und welche einen Alarm auslösen."""
    found, p_values = {}, []
    for name, column in reference["columns"].items():
        actual = shares([row[name] for row in window], column["edges"])
        found[name] = psi(np.array(column["shares"]), actual)
        p_values.append(psi_p_value(found[name], len(actual), reference["rows"], len(window)))
    rare = benjamini_hochberg(p_values, ALPHA)
    drifted = [
        name
        for (name, value), unlikely in zip(found.items(), rare, strict=True)
        if unlikely and value > RELEVANT
    ]
    return {"psi": {name: round(value, 3) for name, value in found.items()}, "drifted": drifted}


def read(folder: Path, reference: dict) -> tuple[list[dict], dict[str, int]]:
    """Liest alle Tage der Reihe nach; gibt brauchbare Zeilen zurück und zählt die übrigen."""
    rows, counts = [], {"rows": 0, "other_version": 0, "unreadable": 0}
    names = set(reference["columns"])
    for line in journal.read(folder):
        # Zeilen ohne Stein gehören nicht hierher; `None` ist eine unlesbare.
        if line is not None and line.get("event") != "prediction":
            continue
        try:
            row = journal.seen(line)
            complete = names <= set(row)
        except (TypeError, KeyError):
            complete = False
        if not complete:
            counts["unreadable"] += 1
        elif row["model_version"] != reference["model_version"]:
            counts["other_version"] += 1
        else:
            rows.append(row)
    counts["rows"] = len(rows)
    return rows, counts


def watch(
    reference: dict, folder: Path, size: int = WINDOW, last: int | None = None
) -> Iterator[dict]:
    """Prüft jedes volle Fenster, auf Wunsch nur der letzten Zeilen; nennt zuletzt, was es zählte.

    Ohne ein volles Fenster entsteht `LogError`: Fehlende Daten sind auch eine Nachricht.
    """
    rows, counts = read(folder, reference)
    rows = rows[-last:] if last else rows
    if len(rows) < size:
        raise LogError(
            f"Nur {len(rows)} brauchbare Zeilen, ein Fenster braucht {size} "
            f"(andere Version: {counts['other_version']}, unlesbar: {counts['unreadable']})."
        )
    for number in range(len(rows) // size):
        result = check(reference, rows[number * size : (number + 1) * size])
        yield {"window": number + 1, "alarm": bool(result["drifted"])} | result
    yield counts


def load(path: Path) -> dict:
    """Liest das Profil der Referenz."""
    try:
        reference = json.loads(path.read_text(encoding="utf-8"))
        _ = reference["columns"], reference["rows"], reference["model_version"]
        return reference
    except OSError:
        raise LogError(f"Das Profil {path.name} gibt es nicht.") from None
    except (ValueError, KeyError, TypeError):
        raise LogError(f"{path.name} ist kein Profil dieses Programms.") from None


def main() -> int:
    """Schreibt das Profil oder zeigt je Fenster eine Zeile JSON."""
    parser = argparse.ArgumentParser(description="Drift im Log suchen")
    parser.add_argument("what", choices=["profile", "watch"])
    parser.add_argument("profile", type=Path, help="Datei mit dem Profil der Referenz")
    parser.add_argument("folder", type=Path, nargs="?", help="Ordner des Logs")
    parser.add_argument("--window", type=int, default=WINDOW, help="Zeilen je Fenster")
    parser.add_argument("--last", type=int, help="nur so viele Zeilen am Ende des Logs")
    options = parser.parse_args()
    try:
        if options.what == "profile":
            made = profile()
            try:
                options.profile.write_text(json.dumps(made), encoding="utf-8")
            except OSError as error:
                reason = f"{options.profile.name} lässt sich nicht schreiben: {error.strerror}."
                raise LogError(reason) from None
            print(f"{made['rows']} Steine, {len(made['columns'])} Spalten")
        elif options.folder is None:
            parser.error("Hier fehlt der Ordner.")
        elif options.window < 1:
            parser.error("Ein Fenster hat mindestens eine Zeile.")
        elif options.last is not None and options.last < 1:
            parser.error("Es braucht mindestens eine Zeile.")
        else:
            reference = load(options.profile)
            for row in watch(reference, options.folder, options.window, options.last):
                print(json.dumps(row))
    except (LogError, OSError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
