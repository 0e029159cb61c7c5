"""Den Alias unter laufender Last umsetzen und jede Antwort zählen.

Aufruf: python -m examples.model_registry.swap URL --tracking-uri URL --versions 2 1
"""

import argparse
import sys
import threading
import time
from collections import Counter
from datetime import UTC, datetime

import httpx

from examples.experiment_tracking_mlflow import tracking
from examples.model_registry.registry import CHAMPION, MODEL, Registry, RegistryError
from examples.model_registry.wait import wait
from examples.price_model.schema import EXAMPLE

CLIENTS, PER_PHASE = 4, 60
WAIT_SECONDS = 60


class Load:
    """Einige Clients, die ununterbrochen dieselbe Frage stellen."""

    def __init__(self, url: str) -> None:
        self.url, self.stop, self.lock = url, threading.Event(), threading.Lock()
        self.counted: Counter = Counter()
        self.threads = [threading.Thread(target=self.ask) for _ in range(CLIENTS)]

    def ask(self) -> None:
        """Zählt je Antwort, welche Version welchen Preis nannte; alles andere ist ein Fehler."""
        with httpx.Client(base_url=self.url, timeout=30) as client:
            while not self.stop.is_set():
                try:
                    answer = client.post("/predict", json=EXAMPLE).raise_for_status().json()
                    found = answer["model_version"], answer["price_usd"]
                except (httpx.HTTPError, KeyError, ValueError) as error:
                    found = "failed", type(error).__name__
                with self.lock:
                    self.counted[found] += 1

    def more(self) -> None:
        """Wartet auf weitere Antworten, damit vor und nach dem Tausch wirklich gefragt wurde."""
        wanted, deadline = self.counted.total() + PER_PHASE, time.monotonic() + WAIT_SECONDS
        while self.counted.total() < wanted:
            if time.monotonic() > deadline:
                raise RegistryError("Der Dienst antwortet zu langsam.")
            time.sleep(0.02)


def swap(url: str, registry: Registry, versions: list[str]) -> dict:
    """Setzt champion der Reihe nach um; gibt zurück, was die Clients dabei sahen."""
    load, now = Load(url), datetime.now(UTC).isoformat(timespec="seconds")
    labels = [registry.version(number).tags.get("model_version") for number in versions]
    for thread in load.threads:
        thread.start()
    try:
        load.more()
        for number, label in zip(versions, labels, strict=True):
            registry.promote(number, CHAMPION, "swap", now, None)
            wait(url, WAIT_SECONDS, model_version=label, status="current")
            load.more()
    except TimeoutError as error:
        raise RegistryError(str(error)) from error
    finally:
        load.stop.set()
        for thread in load.threads:
            thread.join()
    failed = sum(count for (label, _), count in load.counted.items() if label == "failed")
    prices: dict[str, list[float]] = {}
    for label, price in sorted(key for key in load.counted if key[0] != "failed"):
        prices.setdefault(label, []).append(price)
    return {
        "swaps": len(versions),
        "sent": load.counted.total(),
        "answered": load.counted.total() - failed,
        "failed": failed,
        "prices": prices,
    }


def main() -> int:
    """Tauscht und nennt die Zahlen als JSON."""
    parser = argparse.ArgumentParser(description="Unter Last umsetzen und zählen.")
    parser.add_argument("url", help="Adresse des Dienstes")
    parser.add_argument("--tracking-uri", required=True)
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--versions", nargs="+", required=True, help="nacheinander champion")
    given = parser.parse_args()
    registry = Registry(given.tracking_uri, given.model)
    return tracking.as_json(lambda: swap(given.url, registry, given.versions))


if __name__ == "__main__":
    sys.exit(main())
