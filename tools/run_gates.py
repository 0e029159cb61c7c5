"""Die Prüfungen ausführen und am Ende zeigen, was wie lange dauerte.

Aufruf: python tools/run_gates.py lint unit book,site+notebooks:outside …
Jede Prüfung ist ein Ziel des Makefiles, hinter dem Doppelpunkt steht sein Teil (PART). Eine Gruppe
nach der anderen; in einer Gruppe trennt + die Reihen, die nebeneinander laufen, die letzte mit
Vorrang.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from run_tests import follow

# Vorrang hat die letzte Reihe; was daneben den Rechner füllt, tritt zurück.
YIELDING = ["nice", "-n", "19"] if shutil.which("nice") else []
# Chromium nimmt sich als root den Vorrang zurück, wenn es darf.
WITHOUT_RIGHT = ["setpriv", "--bounding-set", "-sys_nice"]
if (
    shutil.which("setpriv")
    and not subprocess.run([*WITHOUT_RIGHT, "true"], capture_output=True).returncode
):
    YIELDING = [*WITHOUT_RIGHT, *YIELDING]


def run(row: str, environment: dict, output: BinaryIO, prefix: list[str]) -> list[tuple]:
    """Führt eine Reihe aus, auch nach einem Fehler; gibt [(Name, Sekunden, Exitcode), …] zurück."""
    results = []
    for gate in row.split(","):
        output.write(f"\n== {gate} ==\n".encode())
        output.flush()
        target, _, part = gate.partition(":")
        command = [*prefix, "make", "--no-print-directory", target]
        command += [f"PART={part}"] if part else []
        started = time.monotonic()
        done = subprocess.run(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
        results.append((gate, time.monotonic() - started, done.returncode))
    return results


def run_beside(rows: list[str], environment: dict) -> list[tuple]:
    """Führt Reihen nebeneinander aus und zeigt die Ausgabe jeder am Stück."""
    first, *others = rows
    prefixes = [*([YIELDING] * len(others)), []]
    with (
        tempfile.TemporaryDirectory() as folder,
        ExitStack() as files,
        ThreadPoolExecutor() as pool,
    ):
        running = []
        for row, prefix in zip(others, prefixes[1:], strict=True):
            output = files.enter_context(Path(folder, str(len(running))).open("wb"))
            running.append((pool.submit(run, row, environment, output, prefix), output))
        results = run(first, environment, sys.stdout.buffer, prefixes[0])
        for future, output in running:
            with open(output.name, "rb") as shown:
                follow(shown, future.done)
            results += future.result()
    return results


def main() -> int:
    """Führt alle genannten Prüfungen aus, auch nach einem Fehler; 1, wenn eine rot war."""
    results = []
    started = time.monotonic()
    # Container schreiben auch als andere Benutzer; was sich nicht löschen lässt, ist kein Fehler.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        skipped = Path(folder) / "skipped"
        skipped.touch()
        # Bibliotheken vergessen dort Sockets und Ordner; so enden auch die mit dem Lauf.
        environment = {**os.environ, "SKIPPED_FILE": str(skipped), "TMPDIR": folder}
        for group in sys.argv[1:]:
            results += run_beside(group.split("+"), environment)
        reasons = sorted(set(skipped.read_text(encoding="utf-8").splitlines()))
    if reasons:
        print("\nÜbersprungen, weil auf diesem Rechner etwas fehlt:")
        print("\n".join(f"- {reason}" for reason in reasons))
    width = max(len(gate) for gate, *_ in results)
    print(f"\n{'Prüfung':<{width}}   Dauer  Ergebnis")
    for gate, seconds, code in results:
        print(f"{gate:<{width}} {seconds:>5.0f} s  {'rot' if code else 'grün'}")
    # Weniger als die Summe: manches lief nebeneinander.
    print(f"{'gesamt':<{width}} {time.monotonic() - started:>5.0f} s")
    return int(any(code for _, _, code in results))


if __name__ == "__main__":
    sys.exit(main())
