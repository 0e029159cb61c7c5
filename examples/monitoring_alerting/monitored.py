"""Derselbe Preisdienst mit Metriken über Anfragen, Eingaben und Vorhersagen.

Starten: python -m examples.monitoring_alerting.serve, bei einem Prozess auch
uvicorn examples.monitoring_alerting.monitored:app; PRICE_LOG nennt den Ordner des Logs.
"""

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import psutil
from fastapi import Response
from fastapi.responses import JSONResponse
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
)
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from examples.fastapi_service.metered import REQUESTS
from examples.price_model.predict import load_metadata
from examples.price_model.schema import FEATURES, REFUSALS
from examples.service_logging.journal import LOGGER
from examples.service_logging.logged import app
from examples.service_logging.middleware import KNOWN, predictions, problem_fields

logger = logging.getLogger(LOGGER)

# [metrics]
PRICES = Histogram(
    "price_predicted_usd",
    "Geschätzte Preise in US-Dollar",
    ["model_version"],
    buckets=(500, 1000, 2000, 3000, 4000, 6000, 8000, 10000, 15000, 20000),
)
REJECTED = Counter("price_rejected_fields", "Felder, an denen Anfragen scheiterten", ["field"])
OUTSIDE = Counter("price_inputs_outside_training", "Werte außerhalb des Trainings", ["feature"])
IN_PROGRESS = Gauge("price_requests_in_progress", "Fragen in Arbeit", multiprocess_mode="livesum")
WORKER_START = Gauge(
    "price_worker_start_time_seconds", "Start des Workers", multiprocess_mode="liveall"
)
# [end metrics]


def prepare() -> None:
    """Legt jede Zeitreihe mit 0 an: Sonst fehlt der Regel der erste Fehler als Anstieg."""
    for status in ("200", "400", "413", "422", "500", "503"):
        REQUESTS.labels("/predict", status)
    for feature in load_metadata()["ranges"]:
        OUTSIDE.labels(feature)
    for field in sorted({*KNOWN, "unknown"}):
        REJECTED.labels(field)
    WORKER_START.set(psutil.Process().create_time())


def outside(stone: dict, ranges: dict[str, list[float]]) -> Iterator[str]:
    """Nennt die Merkmale, deren Wert das Training nie sah."""
    return (name for name, (low, high) in ranges.items() if not low <= stone[name] <= high)


class Observed:
    """Misst Eingaben und Vorhersagen und macht aus einem Absturz eine gezählte Antwort.

    Liegt innen: Eine Ausnahme, die durch die äußeren Schichten fliegt, zählt dort niemand.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app, self.ranges = app, load_metadata()["ranges"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hört bei /predict mit; alles andere geht ungesehen durch."""
        if scope["type"] != "http" or scope["path"] != "/predict":
            return await self.app(scope, receive, send)
        asked, answered, status = bytearray(), bytearray(), 0

        async def heard() -> Message:
            message = await receive()
            asked.extend(message.get("body", b""))
            return message

        async def said(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            answered.extend(message.get("body", b""))
            if message["type"] == "http.response.body" and not message.get("more_body"):
                self.measure(status, asked, answered)
            await send(message)

        with IN_PROGRESS.track_inprogress():
            try:
                await self.app(scope, heard, said)
            except Exception:
                if status:
                    raise
                logger.exception("unhandled")
                field, reason = REFUSALS[500]
                failure = JSONResponse({"detail": [{"field": field, "reason": reason}]}, 500)
                await failure(scope, receive, send)

    def measure(self, status: int, asked: bytes, answered: bytes) -> None:
        """Zählt, was in Frage und Antwort stand; ein Fehler dabei kostet keine Antwort."""
        try:
            if status == 200:
                for row in predictions(json.loads(asked), json.loads(answered)):
                    PRICES.labels(row["model_version"]).observe(row["price_usd"])
                    for feature in outside(row["features"], self.ranges):
                        OUTSIDE.labels(feature).inc()
            elif status < 500:
                for field in problem_fields(json.loads(answered)["detail"]):
                    REJECTED.labels(field).inc()
        except Exception:
            logger.exception("not_measured")


# [multiprocess]
def exposition() -> bytes:
    """Gibt die Metriken aller Worker aus; ohne gemeinsamen Ordner nur die dieses Prozesses."""
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if not folder:
        return generate_latest()
    for path in Path(folder).glob("gauge_live*.db"):
        worker = int(path.stem.rsplit("_", 1)[1])
        if not psutil.pid_exists(worker):
            multiprocess.mark_process_dead(worker)
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)
    return generate_latest(registry)


# [end multiprocess]

assert set(FEATURES) <= KNOWN
app.user_middleware.append(Middleware(Observed))
# Die Adresse gibt es aus dem Kapitel Docker schon, aber nur für einen Prozess.
app.router.routes[:] = [r for r in app.router.routes if getattr(r, "path", "") != "/metrics"]


@app.get("/metrics", include_in_schema=False)
def metrics() -> Response:
    """Gibt alle Metriken in dem Format aus, das Prometheus abholt."""
    return Response(exposition(), media_type=CONTENT_TYPE_LATEST)


prepare()
