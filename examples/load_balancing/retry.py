"""Ein Client, der wiederholt: mit und ohne Budget.

Aufruf: python -m examples.load_balancing.retry URL [--requests 100] [--budget 0.1]
"""

import argparse
import json
import sys
import urllib.error
import urllib.request

from examples.load_balancing.load import http_address
from examples.price_model.schema import EXAMPLE

MAX_REQUESTS = 1000
RETRIES = 2


class Budget:
    """Erlaubt Wiederholungen nur als Anteil aller Anfragen: 0,1 heißt eine auf zehn."""

    def __init__(self, share: float) -> None:
        self.share, self.requests, self.retries = share, 0, 0

    def spend(self) -> bool:
        """Nimmt eine Wiederholung, wenn noch eine frei ist."""
        allowed = self.retries + 1 <= self.share * self.requests
        self.retries += allowed
        return allowed


def ask(url: str, retries: int, budget: Budget) -> bool:
    """Fragt einmal und wiederholt, solange es scheitert und das Budget reicht."""
    budget.requests += 1
    for attempt in range(1 + retries):
        if attempt and not budget.spend():
            return False
        if answered(url):
            return True
    return False


def answered(url: str) -> bool:
    """Stellt die Beispielfrage einmal."""
    body, header = json.dumps(EXAMPLE).encode(), {"Content-Type": "application/json"}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, header), timeout=10):
            return True
    except urllib.error.HTTPError as error:
        error.close()
        return False
    except OSError:
        return False


def main() -> None:
    """Zeigt als JSON, wie viele Anfragen wie viele Versuche brauchten."""
    parser = argparse.ArgumentParser(description="Fragen und bei Fehlern wiederholen")
    parser.add_argument("url", type=http_address)
    parser.add_argument("--requests", type=int, default=100)
    # So viele, wie überhaupt möglich sind: kein Budget.
    parser.add_argument("--budget", type=float, default=None)
    options = parser.parse_args()
    if not 1 <= options.requests <= MAX_REQUESTS:
        sys.exit(f"Fehler: Erlaubt sind 1 bis {MAX_REQUESTS} Anfragen.")
    share = RETRIES if options.budget is None else options.budget
    budget = Budget(share)
    good = sum(ask(options.url, RETRIES, budget) for _ in range(options.requests))
    attempts = budget.requests + budget.retries
    print(json.dumps({"requests": budget.requests, "attempts": attempts, "answered": good}))


if __name__ == "__main__":
    main()
