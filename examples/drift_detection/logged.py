"""Derselbe Preisdienst; er merkt sich, was für das Erkennen von Drift nötig ist.

Starten: uvicorn examples.drift_detection.logged:app --port 8201
DRIFT_LOG nennt den Ordner des Protokolls, sonst ist es artifacts/log neben dieser Datei.
"""

import json
import logging
import os
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from examples.fastapi_service.app import app
from examples.price_model.schema import FEATURES

FOLDER = Path(os.environ.get("DRIFT_LOG", Path(__file__).parent / "artifacts" / "log"))
KEPT_DAYS = 30
logger = logging.getLogger("uvicorn.error")


def lines(question: object, answer: object, today: date) -> str:
    """Gibt je Stein eine Zeile JSON zurück: Tag, Modellversion, Merkmale, Preis.

    Adresse, Header und Uhrzeit kommen nicht vor; was zu keinem Merkmal gehört, auch nicht.
    """
    stones, prices = (body if isinstance(body, list) else [body] for body in (question, answer))
    rows = [
        {"day": today.isoformat(), "model_version": price["model_version"]}
        | {name: stone[name] for name in FEATURES}
        | {"price_usd": price["price_usd"]}
        for stone, price in zip(stones, prices, strict=True)
    ]
    return "".join(f"{json.dumps(row)}\n" for row in rows)


def forget(folder: Path, today: date) -> None:
    """Löscht die Dateien der Tage, die länger als die Frist zurückliegen."""
    oldest = f"{today - timedelta(days=KEPT_DAYS)}.jsonl"
    for path in folder.glob("????-??-??.jsonl"):
        if path.name < oldest:
            path.unlink(missing_ok=True)


class DriftLog:
    """Schreibt zu jeder beantworteten Frage auf, was gefragt und was geantwortet wurde.

    Abgelehnte Fragen bleiben draußen: In ihnen kann alles Mögliche stehen.
    """

    def __init__(self, app: ASGIApp, folder: Path = FOLDER) -> None:
        self.app, self.folder, self.day = app, folder, None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hört mit; geschrieben wird vor dem Ende der Antwort, nie stattdessen."""
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
            whole = message["type"] == "http.response.body" and not message.get("more_body")
            if whole and status == 200:
                self.write(json.loads(asked), json.loads(answered))
            await send(message)

        await self.app(scope, heard, said)

    def write(self, question: object, answer: object) -> None:
        """Hängt die Zeilen an die Datei des Tages an; ein Fehler dabei kostet keine Antwort."""
        today = datetime.now(UTC).date()
        try:
            if today != self.day:
                forget(self.folder, today)
                self.day = today
            # Ein einziger Aufruf: Zeilen mehrerer Prozesse geraten nicht ineinander.
            with open(self.folder / f"{today}.jsonl", "ab", buffering=0) as file:
                file.write(lines(question, answer, today).encode())
        except OSError:
            logger.error("Das Protokoll in %s lässt sich nicht schreiben.", self.folder.name)


try:
    FOLDER.mkdir(parents=True, exist_ok=True)
except OSError:
    sys.exit(f"Der Ordner {FOLDER.name} für das Protokoll lässt sich nicht anlegen.")
app.add_middleware(DriftLog)
