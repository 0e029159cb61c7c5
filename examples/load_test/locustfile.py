"""Dieselbe Last mit locust: Käufer, die fragen, auf die Antwort warten und Abstand halten.

Aufruf: locust -f examples/load_test/locustfile.py --headless --users 4 --run-time 5s --host URL
In der Umgebung: `PER_SECOND`, höchstens so viele Fragen je Käufer; `REQUESTS`, nach so vielen
ist Schluss; `LATENCIES`, Datei für jede einzelne Latenz; `SLO_P99_MS`, liegt das 99. Perzentil
darüber, so endet locust mit 1.
"""

import json
import os
from pathlib import Path

import gevent
from locust import FastHttpUser, constant_throughput, events, task

from examples.price_model.schema import EXAMPLE

PER_SECOND = float(os.environ.get("PER_SECOND", "20"))
REQUESTS = int(os.environ.get("REQUESTS", "1000000"))
LATENCIES = os.environ.get("LATENCIES")
SLO_P99_MS = float(os.environ.get("SLO_P99_MS", "inf"))
# locust schreibt seine CSV-Dateien jede Sekunde, am Ende aber nicht noch einmal.
CSV_SECONDS = 1.5
measured: list[float] = []


class Buyer(FastHttpUser):
    """Ein Käufer: Seine nächste Frage kommt frühestens, wenn die Antwort da ist."""

    wait_time = constant_throughput(PER_SECOND)

    @task
    def price(self) -> None:
        """Fragt nach einem Preis; eine Antwort ohne Preis ist gescheitert."""
        if len(measured) >= REQUESTS:
            gevent.sleep(CSV_SECONDS)
            self.environment.runner.quit()
            return
        with self.client.post("/predict", json=EXAMPLE, catch_response=True) as response:
            if response.status_code != 200 or "price_usd" not in response.json():
                response.failure("Die Antwort enthält keinen Preis.")


@events.request.add_listener
def remember(response_time: float, **_: object) -> None:
    """Merkt sich jede Latenz in ms: Die Statistik von locust rundet."""
    measured.append(response_time)


@events.quitting.add_listener
def judge(environment: object, **_: object) -> None:
    """Schreibt die Latenzen und macht aus dem Ziel einen Exitcode."""
    if LATENCIES:
        Path(LATENCIES).write_text(json.dumps(measured), encoding="utf-8")
    p99 = environment.stats.total.get_response_time_percentile(0.99) or 0
    # Ein Exitcode ungleich null von locust selbst, etwa wegen Fehlern, bleibt stehen.
    if p99 > SLO_P99_MS:
        environment.process_exit_code = 1
