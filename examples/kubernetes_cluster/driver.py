"""Läuft im Cluster: Last in Runden von einer Sekunde, bis die Standardeingabe endet.

So dauert die Last so lange wie der Eingriff, und stirbt der Auftraggeber, so endet auch sie.
Eine Runde liegt ganz davor und eine ganz danach: Wartet jemand lange auf eine Antwort, so füllt
die Runde dazwischen allein den ganzen Eingriff.
"""

import json
import select
import sys
import time
from functools import partial

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
    """Sagt, wann die erste Runde vorbei ist, und zeigt alle zusammen als eine Zeile JSON."""
    url, rate, retry = sys.argv[1], float(sys.argv[2]), sys.argv[4:] == ["retry"]
    deadline = time.monotonic() + float(sys.argv[3])
    if retry:
        load.Client = Patient
    one_round = partial(load.run, url, ROUND_SECONDS, rate, keep=False, timeout=TIMEOUT_SECONDS)
    answers = one_round()
    print("Die erste Runde ist beantwortet.", flush=True)
    last = False
    while time.monotonic() < deadline and not last:
        last = bool(select.select([sys.stdin], [], [], 0)[0])  # am Ende der Eingabe immer lesbar
        answers += one_round()
    print(json.dumps(load.summary(answers)))


if __name__ == "__main__":
    main()
