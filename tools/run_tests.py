"""Tests ausführen, in CI ohne Weg nach draußen: `make unit` und `make site`.

Aufruf: python tools/run_tests.py ARGUMENT … (alle gehen an pytest)
"""

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
    pytest = [sys.executable, "-m", "pytest", *sys.argv[1:]]
    if not os.environ.get("CI"):
        return subprocess.run(pytest).returncode
    # Container und Cluster sind nur im Netz des Rechners zu erreichen. Ihre Tests warten meist,
    # deshalb laufen sie neben den anderen; untereinander nie, denn sie teilen Namen und Ports.
    outside = [*pytest, "-m", "outside", "-n", "0"]
    isolated = [*without_network(), *pytest, "-m", "not outside"]
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
