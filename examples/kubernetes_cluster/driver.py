"""Läuft im Cluster: Last in Runden von einer Sekunde, bis die Standardeingabe endet.

So dauert die Last genau so lange wie der Eingriff, und stirbt der Auftraggeber, so endet auch sie.
"""

import json
import select
import sys
import time

from examples.load_balancing import load

ROUND_SECONDS = 1
TIMEOUT_SECONDS = 20  # gezählt werden Fehler des Dienstes, nicht die eines müden Rechners
PAUSES_SECONDS = (0.1, 0.3, 1, 3)


class Patient(load.Client):
    """Fragt nach einem Fehler noch einmal; erlaubt, weil eine Vorhersage nichts ändert."""

    def ask(self) -> tuple[str, str]:
        """Wiederholt mit wachsenden Pausen, damit ein kranker Dienst nicht noch mehr bekommt."""
        answer = super().ask()
        for pause in PAUSES_SECONDS:
            if answer[0] == "200":
                break
            time.sleep(pause)
            answer = super().ask()
        return answer


def main() -> None:
    """Zeigt alle Runden zusammen als eine Zeile JSON."""
    url, rate, retry = sys.argv[1], float(sys.argv[2]), sys.argv[4:] == ["retry"]
    deadline = time.monotonic() + float(sys.argv[3])
    if retry:
        load.Client = Patient
    answers = []
    while time.monotonic() < deadline:
        answers += load.run(url, ROUND_SECONDS, rate, keep=False, timeout=TIMEOUT_SECONDS)
        if select.select([sys.stdin], [], [], 0)[0]:  # am Ende der Eingabe immer lesbar
            break
    print(json.dumps(load.summary(answers)))


if __name__ == "__main__":
    main()
