"""Stapelvorhersage: eine Datei mit Steinen hinein, eine mit Preisen hinaus, ganz oder gar nicht.

Gelesen wird CSV mit Komma und Kopfzeile oder eine Zeile JSON je Stein (.jsonl), geschrieben
je nach Endung des Ziels. Schon eine falsche Zeile bricht ab: Eine Datei, der Preise fehlen,
sieht aus wie eine vollständige.

Aufruf: python -m examples.docker_image.batch steine.csv preise.csv
"""

import contextlib
import csv
import errno
import json
import os
import signal
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TextIO

from examples.price_model.predict import PriceModel, load_model
from examples.price_model.schema import (
    CATEGORIES,
    FEATURES,
    MAX_BATCH,
    InvalidStoneError,
    Stone,
    parse,
)

RESULTS = ("price_usd", "model_version")
FORMATS = (".csv", ".jsonl")


class BatchError(RuntimeError):
    """Der Lauf ist gescheitert; das Ziel ist unverändert."""


def read_csv(file: TextIO) -> Iterator[tuple[int, object]]:
    """Liefert (Zeile, Frage); eine leere Zelle ist ein fehlendes Feld."""
    lines = csv.reader(file, strict=True)
    header = next(lines, [])
    names = list(filter(None, header))  # Tabellenkalkulationen hängen gern leere an
    if len(set(names)) < len(names):
        raise BatchError("Die Kopfzeile nennt eine Spalte doppelt.")
    for cells in lines:
        if not any(map(str.strip, cells)):  # Tabellenkalkulationen lassen gern leere Zeilen stehen
            continue
        if len(cells) > len(header):
            raise BatchError(f"Zeile {lines.line_num} hat mehr Werte als die Kopfzeile.")
        named = zip(header, cells, strict=False)
        yield lines.line_num, {name: typed(name, text) for name, text in named if text}


def typed(name: str, text: str) -> object:
    """Liest eine Zahl wie JSON; was keine ist, bleibt Text und fällt der Prüfung auf."""
    if name in CATEGORIES:
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def read_jsonl(file: TextIO) -> Iterator[tuple[int, object]]:
    """Liefert (Zeile, Frage); Leerzeilen zählen mit und werden übergangen."""
    for number, line in enumerate(file, 1):
        try:
            if line.strip():
                yield number, json.loads(line)
        except (ValueError, RecursionError):
            raise BatchError(f"Zeile {number} ist kein gültiges JSON.") from None


def checked(rows: Iterable[tuple[int, object]]) -> Iterator[Stone]:
    """Prüft jede Zeile gegen das Schema und nennt bei der ersten falschen Feld und Grund."""
    for number, question in rows:
        try:
            # Eine Liste wäre hier ein Stapel im Stapel.
            (stone,) = parse(question if isinstance(question, dict) else None)
        except InvalidStoneError as error:
            reasons = " ".join(f"{p['field']}: {p['reason']}" for p in error.problems)
            raise BatchError(f"Zeile {number}, {reasons}") from None
        yield stone


def priced(stones: Iterator[Stone], model: PriceModel) -> Iterator[dict]:
    """Bewertet in Stapeln: schneller als einzeln, und der Speicher bleibt klein."""
    while batch := list(islice(stones, MAX_BATCH)):
        for stone, price in zip(batch, model.predict(batch), strict=True):
            yield stone.model_dump() | dict(zip(RESULTS, (price, model.version), strict=True))


def write(rows: Iterable[dict], file: TextIO, suffix: str) -> int:
    """Schreibt alle Zeilen und gibt zurück, wie viele es waren."""
    count = 0
    table = csv.DictWriter(file, [*FEATURES, *RESULTS], lineterminator="\n")
    if suffix == ".csv":
        table.writeheader()
    for row in rows:
        count += 1
        if suffix == ".csv":
            table.writerow(row)
        else:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return count


def run(source: Path, target: Path, model: PriceModel) -> int:
    """Bewertet `source` nach `target`; erst die fertige Datei bekommt ihren Namen."""
    if unknown := {source.suffix, target.suffix} - {*FORMATS}:
        raise BatchError(f"Unbekannte Endung {min(unknown)!r}: erlaubt sind {', '.join(FORMATS)}.")
    reader = read_csv if source.suffix == ".csv" else read_jsonl
    # Derselbe Ordner, denn umbenennen geht nur innerhalb eines Datenträgers.
    partial = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with (
            source.open(encoding="utf-8-sig", newline="") as incoming,
            partial.open("w", encoding="utf-8", newline="") as outgoing,
        ):
            count = write(priced(checked(reader(incoming)), model), outgoing, target.suffix)
            # Erst auf dem Datenträger, dann der Name: sonst überlebt ein Name ohne Inhalt.
            outgoing.flush()
            os.fsync(outgoing.fileno())
        if not count:
            raise BatchError(f"In {source.name} steht kein Stein.")
        partial.replace(target)
    except UnicodeDecodeError:
        raise BatchError(f"{source.name} ist kein Text in UTF-8.") from None
    except csv.Error:
        raise BatchError(f"{source.name} ist keine lesbare CSV-Tabelle.") from None
    except OSError as error:
        raise BatchError(explain(error, source, target)) from None
    finally:
        with contextlib.suppress(OSError):  # wo nichts entstehen konnte, ist nichts zu löschen
            partial.unlink(missing_ok=True)
    return count


def explain(error: OSError, source: Path, target: Path) -> str:
    """Sagt auf Deutsch, woran Lesen oder Schreiben scheiterte."""
    reasons = {
        errno.ENOSPC: f"Kein Platz mehr auf dem Datenträger von {target.name}.",
        errno.EROFS: f"Der Ordner von {target.name} ist schreibgeschützt.",
        errno.EACCES: "Der Zugriff ist verweigert.",
        errno.ENOENT: f"Der Ordner von {target.name} fehlt."
        if os.path.exists(source)  # anders als `Path.exists` nie mit einer Ausnahme
        else f"{source.name} fehlt.",
    }
    reason = reasons.get(error.errno, f"Lesen oder Schreiben ist gescheitert: {error.strerror}.")
    return f"{reason} Es wurde nichts geschrieben."


def main() -> int:
    """Bewertet eine Datei; Fehler sind eine Zeile und der Exitcode 1."""
    if len(sys.argv) != 3:
        print("Aufruf: python -m examples.docker_image.batch QUELLE ZIEL", file=sys.stderr)
        return 2
    # Als erster Prozess eines Containers bekäme Python das Signal sonst gar nicht zu spüren.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    source, target = map(Path, sys.argv[1:])
    try:
        model = load_model()
    except Exception as error:
        print(f"Das Modell lässt sich nicht laden: {error}", file=sys.stderr)
        return 1
    try:
        count = run(source, target, model)
    except BatchError as error:
        print(error, file=sys.stderr)
        return 1
    steine = "Stein" if count == 1 else "Steine"
    print(f"{count} {steine} bewertet, Modell {model.version}, Ergebnis in {target.name}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
