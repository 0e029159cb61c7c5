"""Die Prüfungen nacheinander ausführen und am Ende zeigen, was wie lange dauerte.

Aufruf: python tools/run_gates.py lint unit … (jede ist ein Ziel des Makefiles)
"""

import subprocess
import sys
import time


def main() -> int:
    """Führt alle genannten Prüfungen aus, auch nach einem Fehler; 1, wenn eine rot war."""
    results = []
    for gate in sys.argv[1:]:
        print(f"\n== {gate} ==", flush=True)
        started = time.monotonic()
        code = subprocess.run(["make", "--no-print-directory", gate]).returncode
        results.append((gate, time.monotonic() - started, code))
    print("\nPrüfung      Dauer  Ergebnis")
    for gate, seconds, code in results:
        print(f"{gate:<10} {seconds:>5.0f} s  {'rot' if code else 'grün'}")
    print(f"{'gesamt':<10} {sum(seconds for _, seconds, _ in results):>5.0f} s")
    return int(any(code for _, _, code in results))


if __name__ == "__main__":
    sys.exit(main())
