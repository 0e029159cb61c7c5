"""Ein Protokoll zum Üben: Nutzer je Tag, Herkunft und Arm, und irgendwo stimmt etwas nicht.

Aufruf: python -m examples.ab_test.prepared > assigned.csv
Geplant war überall ein Anteil von 50 Prozent.
"""

import csv
import sys

import numpy as np

# Je Herkunft: Nutzer je Tag und der Anteil der Behandlung, der wirklich ankam.
ORIGINS = {"web": (500, 0.5), "app": (300, 0.5), "partner": (250, 0.43)}
DAYS = 14


def main() -> int:
    """Schreibt die Tabelle auf die Standardausgabe."""
    rng = np.random.default_rng(0)
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(["day", "origin", "arm", "users"])
    for day in range(1, DAYS + 1):
        for origin, (users, share) in ORIGINS.items():
            treated = int(rng.binomial(users, share))
            table.writerow([day, origin, "control", users - treated])
            table.writerow([day, origin, "treatment", treated])
    return 0


if __name__ == "__main__":
    sys.exit(main())
