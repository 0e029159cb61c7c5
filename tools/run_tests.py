"""Tests ausführen, in CI ohne Weg nach draußen: `make unit` und `make site`.

Aufruf: python tools/run_tests.py [--only isolated] ARGUMENT … (alle anderen gehen an pytest)
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import BinaryIO

from run_nbval import without_network

NOTHING_CHOSEN = 5  # so endet pytest, wenn keiner der Tests gemeint war


def follow(shown: BinaryIO, ended: Callable[[], bool]) -> None:
    """Zeigt, was ein anderer in eine Datei schreibt, bis er geendet hat."""
    over = False
    while not over:
        over = ended()  # vor dem Lesen, damit am Ende nichts fehlt
        shutil.copyfileobj(shown, sys.stdout.buffer)
        sys.stdout.flush()
        time.sleep(0 if over else 0.1)


def main() -> int:
    """In CI alle Tests in zwei Teilen; 1, wenn einer davon rot war oder es keinen Test gibt."""
    parser = argparse.ArgumentParser(allow_abbrev=False, add_help=False)
    parser.add_argument("--only", choices=("isolated", "outside"))
    options, rest = parser.parse_known_args()
    pytest = [sys.executable, "-m", "pytest", *rest]
    # Container und Cluster sind nur im Netz des Rechners zu erreichen. Ihre Tests warten meist,
    # deshalb laufen sie neben den anderen; untereinander nie, denn sie teilen Namen und Ports.
    outside = [*pytest, "-m", "outside", "-n", "0"]
    isolated = [*pytest, "-m", "not outside"]
    if os.environ.get("CI"):
        isolated = [*without_network(), *isolated]
    if options.only:
        return subprocess.run(isolated if options.only == "isolated" else outside).returncode
    if not os.environ.get("CI"):
        return subprocess.run(pytest).returncode
    with (
        tempfile.NamedTemporaryFile() as said,
        # Eigens geöffnet: Wer liest, verschiebt sonst die Stelle, an der geschrieben wird.
        open(said.name, "rb") as shown,
        subprocess.Popen(outside, stdout=said, stderr=subprocess.STDOUT) as other,
    ):
        first = subprocess.run(isolated).returncode
        print("\n== mit Docker und Cluster ==", flush=True)
        follow(shown, lambda: other.poll() is not None)
    codes = {first, other.returncode}
    return int(codes == {NOTHING_CHOSEN} or not codes <= {0, NOTHING_CHOSEN})


if __name__ == "__main__":
    sys.exit(main())
