"""Der Preisdienst für Lasttests: Er nennt seine Rechenzeit und stellt sich auf Wunsch an.

Starten: SEAT_SECONDS=0.01 uvicorn examples.load_test.service:app --port 8241
Mit SEAT_SECONDS gibt es einen einzigen Platz, an dem jede Antwort genau so lange dauert.
Gewartet wird, nicht gerechnet: Ob der Rechner nebenbei viel zu tun hat, ändert daran wenig.
"""

import os
import time

import anyio
from starlette.types import ASGIApp, Receive, Scope, Send

from examples.fastapi_service.metered import app


class OneSeat:
    """Ein Platz, der Reihe nach: Wer kommt, wartet, bis alle vor ihm fertig sind."""

    seconds = float(os.environ.get("SEAT_SECONDS", "0"))
    # Für den ganzen Prozess: wann der Platz frei wird und wie viele gerade da sind.
    free_at, present, taken = 0.0, 0, 0
    # Für welche Anfragen es länger dauert und um wie viel.
    slow, extra_seconds = range(0), 0.0

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Rechnet aus, wann diese Anfrage fertig ist, und wartet bis dahin.

        Die Zeiten folgen aufeinander; verschläft der Rechner eine, verschiebt das keine andere.
        """
        if scope["type"] != "http" or scope["path"] != "/predict" or not OneSeat.seconds:
            return await self.app(scope, receive, send)
        OneSeat.present += 1
        try:
            OneSeat.free_at = max(OneSeat.free_at, time.monotonic()) + OneSeat.seconds
            if OneSeat.taken in OneSeat.slow:
                OneSeat.free_at += OneSeat.extra_seconds
            OneSeat.taken += 1
            await anyio.sleep(max(0, OneSeat.free_at - time.monotonic()))
            await self.app(scope, receive, send)
        finally:
            OneSeat.present -= 1


app.add_middleware(OneSeat)


@app.post("/slow", include_in_schema=False)
async def slow(seconds: float, after: int = 0, requests: int = 1) -> None:
    """Bestellt eine Störung: Nach so vielen Anfragen brauchen so viele um `seconds` länger."""
    first = OneSeat.taken + after
    OneSeat.slow, OneSeat.extra_seconds = range(first, first + requests), seconds


@app.get("/present", include_in_schema=False)
async def present() -> int:
    """Wie viele Anfragen gerade im Dienst sind, wartend oder in Arbeit."""
    return OneSeat.present


@app.get("/cpu-seconds", include_in_schema=False)
async def cpu_seconds() -> float:
    """Wie viel Rechenzeit der Prozess bisher verbraucht hat, in Sekunden."""
    return time.process_time()
