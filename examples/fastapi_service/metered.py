"""Derselbe Preisdienst mit Zahlen für Prometheus: so läuft er im Container.

Starten: uvicorn examples.fastapi_service.metered:app
SERVED_BY nennt in jeder Antwort, wer sie gab; PRICE_DELAY_SECONDS macht ihn für Versuche langsam.
"""

import asyncio
import os
import socket
import time

from fastapi import Response
from prometheus_client import CONTENT_TYPE_LATEST, Counter, Histogram, generate_latest
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from examples.fastapi_service.app import app

SERVED_BY = os.environ.get("SERVED_BY") or socket.gethostname()
DELAY_SECONDS = float(os.environ.get("PRICE_DELAY_SECONDS", "0"))
REQUESTS = Counter("price_requests", "Beantwortete Anfragen", ["route", "status"])
SECONDS = Histogram(
    "price_request_seconds",
    "Dauer einer Anfrage in Sekunden",
    ["route"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
)
# Nur bekannte Adressen werden gezählt: Sonst legt jeder Tippfehler eine neue Zeitreihe an.
ROUTES = {"/predict", "/health/live", "/health/ready"}


class Metered:
    """Zählt Anfragen, misst ihre Dauer und nennt in der Antwort, wer sie gab."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Zählt beim Kopf der Antwort; nach Abbruch oder Absturz kommt hier keiner vorbei."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        route = scope["path"] if scope["path"] in ROUTES else "other"
        started = time.perf_counter()

        async def measured(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["X-Served-By"] = SERVED_BY
                REQUESTS.labels(route, str(message["status"])).inc()
                SECONDS.labels(route).observe(time.perf_counter() - started)
            await send(message)

        if DELAY_SECONDS and route == "/predict":
            await asyncio.sleep(DELAY_SECONDS)
        await self.app(scope, receive, measured)


app.add_middleware(Metered)


@app.get("/metrics", include_in_schema=False)
def metrics() -> Response:
    """Gibt die Zähler in dem Format aus, das Prometheus abholt."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
