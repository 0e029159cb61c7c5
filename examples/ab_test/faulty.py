"""Derselbe Preisdienst als Behandlungsarm, der sich so benimmt, wie es im Betrieb vorkommt.

Starten: python -m uvicorn examples.ab_test.faulty:app --port 8223
FAULT_ERRORS ist der Anteil der Fragen, auf die er mit 500 antwortet; welche das sind, hängt nur
an der Kennung der Anfrage.
"""

import os

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from examples.ab_test.assignment import bucket
from examples.fastapi_service.app import app

ERRORS = float(os.environ.get("FAULT_ERRORS", "0"))


class Faulty:
    """Stört nur Vorhersagen; die Health-Checks bleiben grün, wie so oft."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Scheitert oder reicht durch."""
        if scope["type"] != "http" or scope["path"] != "/predict":
            return await self.app(scope, receive, send)
        if bucket(Headers(scope=scope).get("x-request-id", ""), "faults") < ERRORS:
            await send({"type": "http.response.start", "status": 500, "headers": []})
            return await send({"type": "http.response.body", "body": b"Internal Server Error"})
        await self.app(scope, receive, send)


app.add_middleware(Faulty)
