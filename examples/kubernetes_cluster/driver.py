"""Läuft im Cluster: Last in Runden von einer Sekunde, bis die Standardeingabe endet.

So dauert die Last genau so lange wie der Eingriff, und stirbt der Auftraggeber, so endet auch sie.
"""

import json
import select
import sys
import time

from examples.load_balancing.load import run, summary

ROUND_SECONDS = 1


def main() -> None:
    """Zeigt alle Runden zusammen als eine Zeile JSON."""
    url, rate = sys.argv[1], float(sys.argv[2])
    deadline = time.monotonic() + float(sys.argv[3])
    answers = []
    while time.monotonic() < deadline:
        answers += run(url, ROUND_SECONDS, rate, keep=False)
        if select.select([sys.stdin], [], [], 0)[0]:  # am Ende der Eingabe immer lesbar
            break
    print(json.dumps(summary(answers)))


if __name__ == "__main__":
    main()
