"""Anfragen schicken, deren Steine driften oder nicht.

Aufruf: `python -m examples.drift_detection.traffic URL DRIFT [--stones N] [--skip N]`
"""

import argparse
import json
import sys

import httpx

from examples.drift_detection.constructed import DRIFTS, SEED, halves
from examples.price_model.schema import FEATURES

BATCH = 100


def main() -> int:
    """Schickt die Steine in Stapeln und zählt gesendet, beantwortet, gescheitert."""
    parser = argparse.ArgumentParser(description="Anfragen mit und ohne Drift schicken")
    parser.add_argument("url")
    parser.add_argument("drift", choices=list(DRIFTS))
    parser.add_argument("--stones", type=int, default=1500)
    parser.add_argument("--skip", type=int, default=0, help="so viele Steine auslassen")
    options = parser.parse_args()
    rows = DRIFTS[options.drift](halves()[1], SEED)[list(FEATURES)]
    rows = rows.iloc[options.skip : options.skip + options.stones]
    counts = {"sent": 0, "answered": 0, "failed": 0}
    if len(rows) < options.stones:
        print(f"So viele Steine gibt es nicht: höchstens {len(rows)} ab hier.", file=sys.stderr)
        return 1
    with httpx.Client(base_url=options.url, timeout=30) as client:
        for start in range(0, len(rows), BATCH):
            stones = rows.iloc[start : start + BATCH].to_dict("records")
            counts["sent"] += len(stones)
            try:
                answer = client.post("/predict", json=stones)
            except httpx.TransportError as error:
                print(f"Der Dienst antwortet nicht: {type(error).__name__}", file=sys.stderr)
                return 1
            outcome = "answered" if answer.status_code == 200 else "failed"
            counts[outcome] += len(stones)
    print(json.dumps(counts))
    return int(counts["failed"] > 0)


if __name__ == "__main__":
    sys.exit(main())
