"""Fragen an den Dienst schicken, auf Wunsch auch solche, die scheitern.

Aufruf: python -m examples.monitoring_alerting.traffic URL --requests 100 --crash-every 5
Je Frage eine neue Verbindung, damit alle Worker etwas abbekommen.
"""

import argparse
import json
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx

from examples.price_model.schema import EXAMPLE

CLIENTS = 8
CRASH, REJECT = {"depth": 45.0}, {"carat": -1.0}


def mixture(requests: int, crash_every: int, reject_every: int) -> list[dict]:
    """Gibt Fragen zurück, von denen einige abstürzen oder abgelehnt werden."""
    rows = [dict(EXAMPLE) for _ in range(requests)]
    for number, row in enumerate(rows, start=1):
        if crash_every and number % crash_every == 0:
            row.update(CRASH)
        elif reject_every and number % reject_every == 0:
            row.update(REJECT)
    return rows


def main() -> int:
    """Zeigt gesendet, beantwortet, gescheitert und die Zahl je Status als eine Zeile JSON."""
    parser = argparse.ArgumentParser(description="Fragen an den Preisdienst schicken")
    parser.add_argument("url")
    parser.add_argument("--requests", type=int, default=100)
    parser.add_argument(
        "--crash-every", type=int, default=0, help="jede fünfte bei 5 trifft den Fehler"
    )
    parser.add_argument(
        "--reject-every", type=int, default=0, help="jede zweite bei 2 ist ungültig"
    )
    parser.add_argument(
        "--pause", type=float, default=0, help="Sekunden, die ein Client nach jeder Antwort wartet"
    )
    options = parser.parse_args()
    if options.requests < 1:
        print("Es braucht mindestens eine Frage.", file=sys.stderr)
        return 1
    if not 0 <= options.pause <= 60:
        print("Die Pause dauert 0 bis 60 Sekunden.", file=sys.stderr)
        return 1
    questions = mixture(options.requests, options.crash_every, options.reject_every)

    def ask(stone: dict) -> str:
        try:
            return str(client.post("/predict", json=stone).status_code)
        except httpx.HTTPError as error:
            return type(error).__name__
        finally:
            time.sleep(options.pause)

    fresh = httpx.Limits(max_keepalive_connections=0)
    with (
        httpx.Client(base_url=options.url, timeout=30, limits=fresh) as client,
        ThreadPoolExecutor(CLIENTS) as pool,
    ):
        results = Counter(pool.map(ask, questions))
    answered = results["200"]
    row = {"sent": len(questions), "answered": answered, "failed": len(questions) - answered}
    print(json.dumps(row | {"by_status": dict(sorted(results.items()))}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
