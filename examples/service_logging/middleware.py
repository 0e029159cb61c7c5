"""Die Schicht um den Dienst: Kennung der Anfrage, Zeilen fürs Log, Antwort bei Abstürzen."""

import hashlib
import hmac
import json
import logging
import os
import re
import secrets
import time
import uuid
from datetime import UTC, datetime

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from examples.price_model.schema import FEATURES
from examples.service_logging.journal import LOGGER, request_id, route

# Ohne eigenen Schlüssel gilt einer je Prozess: Nach dem Neustart passt kein Pseudonym mehr.
KEY = os.environ.get("PRICE_LOG_KEY", "").encode() or secrets.token_bytes(32)
# Nur hexadezimale Ziffern und Striche: In freien Text passt auch ein Name.
REQUEST_ID = re.compile(r"[0-9A-Fa-f-]{16,64}")
KNOWN = {*FEATURES, "body", "path", "model"}
logger = logging.getLogger(LOGGER)


def accepted_id(sent: str | None) -> str:
    """Übernimmt die Kennung des Aufrufers, wenn sie wie eine aussieht, sonst gibt es eine neue."""
    return sent if sent and REQUEST_ID.fullmatch(sent) else str(uuid.uuid4())


def pseudonym(address: str, day: str, key: bytes = KEY) -> str:
    """Macht aus einer Adresse ein Kennzeichen, je Tag ein anderes.

    Ein Hash ohne Schlüssel taugt nicht: Alle IPv4-Adressen sind schnell durchprobiert.
    """
    return hmac.new(key, f"{day} {address}".encode(), hashlib.sha256).hexdigest()[:12]


def problem_fields(detail: list[dict]) -> list[str]:
    """Nennt die abgelehnten Felder; ein unbekanntes ist freier Text und heißt hier `unknown`."""
    names = [problem["field"].split(".")[-1] for problem in detail]
    return sorted({name if name in KNOWN else "unknown" for name in names})


def level_of(path: str, status: int) -> int:
    """Ordnet eine Antwort einer Ebene zu; Health-Checks und Abrufe der Metriken sind Rauschen.

    Auch ein 503 beim Hochfahren ist normal; scheitert das Laden, meldet der Dienst es selbst.
    """
    if path in ("/health", "/metrics") or path.startswith("/health/"):
        return logging.DEBUG
    if status >= 500:
        return logging.ERROR
    return logging.WARNING if status >= 400 else logging.INFO


class RequestLog:
    """Schreibt auf, was gefragt und was geantwortet wurde, und gibt jeder Anfrage eine Kennung."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hört mit; die Zeilen entstehen vor dem Ende der Antwort, nie statt ihrer."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        identity = accepted_id(Headers(scope=scope).get("x-request-id"))
        token, started = request_id.set(identity), time.perf_counter()
        predicting = scope["path"] == "/predict"
        asked, answered, status = bytearray(), bytearray(), 0

        async def heard() -> Message:
            message = await receive()
            if predicting:
                asked.extend(message.get("body", b""))
            return message

        async def said(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-ID"] = identity
            elif predicting:
                answered.extend(message.get("body", b""))
            if message["type"] == "http.response.body" and not message.get("more_body"):
                note(scope, status, time.perf_counter() - started, asked, answered)
            await send(message)

        try:
            await self.app(scope, heard, said)
        except Exception:
            logger.exception("unhandled")
            if status:
                raise
            reason = f"Der Dienst hat einen Fehler gemacht; Kennung der Anfrage: {identity}."
            failure = JSONResponse({"detail": [{"field": "service", "reason": reason}]}, 500)
            await failure(scope, receive, said)
        finally:
            request_id.reset(token)


def note(scope: Scope, status: int, seconds: float, asked: bytes, answered: bytes) -> None:
    """Schreibt die Zeilen einer Anfrage; was auch immer dabei schiefgeht, die Antwort bleibt."""
    try:
        caller = scope["client"][0] if scope.get("client") else ""
        fields = {
            "event": "request",
            "method": scope["method"],
            "route": route(scope["path"]),
            "status": status,
            "duration_ms": round(seconds * 1000, 2),
            "caller": pseudonym(caller, f"{datetime.now(UTC):%Y-%m-%d}"),
        }
        rows = []
        if answered and status == 200:
            rows = predictions(json.loads(asked), json.loads(answered))
            fields |= {"model_version": rows[0]["model_version"], "stones": len(rows)}
        elif answered:
            fields["rejected"] = problem_fields(json.loads(answered)["detail"])
        # Ein Aufruf für alle Zeilen: Sie stehen beieinander, auch bei mehreren Prozessen.
        logger.log(level_of(scope["path"], status), "request", extra={"rows": [fields, *rows]})
    except Exception:
        logger.exception("not_logged")


def predictions(question: object, answer: object) -> list[dict]:
    """Gibt je Stein Stelle, Modellversion, Merkmale und Preis zurück, sonst nichts."""
    stones, prices = (body if isinstance(body, list) else [body] for body in (question, answer))
    return [
        {
            "event": "prediction",
            "position": position,
            "model_version": price["model_version"],
            "features": {name: stone[name] for name in FEATURES},
            "price_usd": price["price_usd"],
        }
        for position, (stone, price) in enumerate(zip(stones, prices, strict=True))
    ]
