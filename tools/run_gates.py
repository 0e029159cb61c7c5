"""Die Prüfungen nacheinander ausführen und am Ende zeigen, was wie lange dauerte.

Aufruf: python tools/run_gates.py lint unit … (jede ist ein Ziel des Makefiles)
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main() -> int:
    """Führt alle genannten Prüfungen aus, auch nach einem Fehler; 1, wenn eine rot war."""
    results = []
    with tempfile.TemporaryDirectory() as folder:
        skipped = Path(folder) / "skipped"
        skipped.touch()
        environment = {**os.environ, "SKIPPED_FILE": str(skipped)}
        for gate in sys.argv[1:]:
            print(f"\n== {gate} ==", flush=True)
            started = time.monotonic()
            command = ["make", "--no-print-directory", gate]
            code = subprocess.run(command, env=environment).returncode
            results.append((gate, time.monotonic() - started, code))
        reasons = sorted(set(skipped.read_text(encoding="utf-8").splitlines()))
    if reasons:
        print("\nÜbersprungen, weil auf diesem Rechner etwas fehlt:")
        print("\n".join(f"- {reason}" for reason in reasons))
    print("\nPrüfung      Dauer  Ergebnis")
    for gate, seconds, code in results:
        print(f"{gate:<10} {seconds:>5.0f} s  {'rot' if code else 'grün'}")
    print(f"{'gesamt':<10} {sum(seconds for _, seconds, _ in results):>5.0f} s")
    return int(any(code for _, _, code in results))


if __name__ == "__main__":
    sys.exit(main())
