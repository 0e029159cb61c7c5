"""Der Router vor zwei Modellversionen: Shadow, Canary oder A/B-Test.

Starten: python -m examples.ab_test.router --control URL --treatment URL --mode ab --salt NAME
Die Kennung des Nutzers steht im Header X-User-ID, gesetzt vom Gateway, das ihn angemeldet hat.
PRICE_LOG_KEY ist der Schlüssel der Pseudonyme; ohne ihn gilt einer je Prozess.
"""

import argparse
import asyncio
import ipaddress
import json
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import uvicorn
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException as StarletteHTTPException

from examples.ab_test.assignment import CONTROL, TREATMENT, assign
from examples.ab_test.guardrail import Guardrail, Limits, usable
from examples.ab_test.options import above_zero, address, fraction, moment, port
from examples.fastapi_service.app import BodyLimit, fail, refuse, reject
from examples.service_logging.middleware import accepted_id, pseudonym

SHARES = {"shadow": 1.0, "canary": 0.1, "ab": 0.5}
# Mehr zugleich fragte den Schatten unter anderer Last als den Kontrollarm.
SHADOW_CLIENTS = 8
# Daran ist zu erkennen, dass ein Gateway weiterleitet: Dann fragt nicht der, der absendet.
FORWARDED = {"forwarded", "via", "x-forwarded-for", "x-real-ip"}
UNREACHABLE = {"field": "model", "reason": "Der Kontrollarm antwortet nicht."}
logger = logging.getLogger("uvicorn.error")


class Change(BaseModel):
    """Ein neuer Anteil; 0 bricht den Versuch ab."""

    model_config = ConfigDict(extra="forbid", strict=True)

    share: float = Field(allow_inf_nan=False)
    reason: str = Field(default="von Hand", max_length=200)


class Journal:
    """Das Protokoll: je Ereignis eine Zeile JSON, ans Ende der Datei geschrieben."""

    def __init__(self, path: Path, started: datetime | None) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file = open(path, "a+b", buffering=0)  # noqa: SIM115 – offen bis zum Ende
        # Nach einer halben Zeile, etwa auf voller Platte, beginnt die nächste auf einer neuen.
        self.file.seek(max(self.file.seek(0, os.SEEK_END) - 1, 0))
        self.gap = b"" if self.file.read(1) in (b"", b"\n") else b"\n"
        self.started = started or datetime.now(UTC)
        self.since = time.monotonic()

    def write(self, event: str, **values: object) -> dict:
        """Schreibt eine Zeile; ein Fehler kostet die Zeile, nie die Antwort."""
        moment = self.started + timedelta(seconds=time.monotonic() - self.since)
        row = {"time": moment.isoformat(timespec="milliseconds"), "event": event, **values}
        line = self.gap + f"{json.dumps(row)}\n".encode()
        self.gap = b"\n"
        try:
            if self.file.write(line) == len(line):
                self.gap = b""
        except OSError:
            logger.exception("Das Protokoll lässt sich nicht schreiben.")
        return row


class Answer:
    """Was ein Arm geantwortet hat: Status, Rumpf, Dauer und, wenn es welche sind, die Preise."""

    def __init__(self, status: int, body: bytes, seconds: float) -> None:
        self.status, self.body, self.seconds = status, body, seconds
        self.prices, self.version = [], None
        try:
            found = json.loads(body) if status == 200 else []
            stones = found if isinstance(found, list) else [found]
            if all(usable(stone["price_usd"]) for stone in stones):
                self.prices = [stone["price_usd"] for stone in stones]
                self.version = str(stones[0]["model_version"]) if stones else None
        # Auch eine Zahl mit 400 Stellen und 100 000 Klammern sind nur eine gescheiterte Antwort.
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            pass

    @property
    def ok(self) -> bool:
        """Ein 200, in dem wirklich Preise stehen."""
        return bool(self.prices)


class Router:
    """Teilt zu, fragt, protokolliert und schaltet ab."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.urls = {CONTROL: options.control, TREATMENT: options.treatment}
        self.mode, self.salt, self.timeout = options.mode, options.salt, options.timeout
        self.share = SHARES[options.mode] if options.share is None else options.share
        self.guardrail = Guardrail(Limits(**{name: getattr(options, name) for name in LIMITS}))
        self.counts = {arm: Counter(assigned=0, answered=0, failed=0) for arm in self.urls}
        self.outside, self.shadow = 0, Counter(compared=0, failed=0, dropped=0)
        self.versions: dict[str, str | None] = dict.fromkeys(self.urls)
        self.pending: set[asyncio.Task] = set()
        self.max_pending, self.shadow_turn = options.max_pending, asyncio.Semaphore(SHADOW_CLIENTS)
        self.rollback = last_rollback(options.log, self.salt)
        if self.rollback:
            # Ein Neustart hebt ein Rollback nicht auf; das tut nur, wer einen Anteil setzt.
            self.share = 0.0
        self.journal = Journal(options.log, options.at)
        self.client = httpx.AsyncClient(trust_env=False, limits=httpx.Limits(max_connections=500))

    async def predict(self, body: bytes, user: str | None, identity: str) -> tuple[Answer, str]:
        """Beantwortet eine Frage; gibt die Antwort und den Arm zurück, der sie gab."""
        if self.mode == "shadow":
            answer = await self.ask(CONTROL, body, identity)
            if answer.ok and self.share and self.copied(user, identity):
                self.copy(body, identity, answer)
            return answer, CONTROL
        if user is None or not self.share:
            # Ohne Kennung wäre die Zuteilung je Anfrage eine andere: außerhalb des Versuchs.
            self.outside += 1
            return await self.ask(CONTROL, body, identity), CONTROL
        arm, share = assign(user, self.salt, self.share), self.share
        answer = await self.ask(arm, body, identity)
        served_by = arm
        if arm == TREATMENT and not answer.ok:
            # Ob die Frage falsch war oder der Arm versagt hat, entscheidet der Kontrollarm.
            failed, answer, served_by = answer, await self.ask(CONTROL, body, identity), CONTROL
            if answer.ok or answer.status >= 500:
                self.observe(TREATMENT, failed)
        if answer.ok:
            self.expose(user, identity, arm, served_by, share, answer.version)
            self.counts[arm]["answered"] += 1
            if served_by == arm:
                self.observe(arm, answer)
        return answer, served_by

    def expose(
        self, user: str, identity: str, arm: str, served_by: str, share: float, version: str
    ) -> None:
        """Schreibt auf, wer zugeteilt wurde: der Arm der Zuteilung, nicht der Antwort."""
        self.counts[arm]["assigned"] += 1
        self.journal.write(
            "exposure",
            experiment=self.salt,
            unit=pseudonym(user, self.salt),
            arm=arm,
            served_by=served_by,
            share=share,
            model_version=version,
            request_id=identity,
        )

    async def ask(self, arm: str, body: bytes, identity: str) -> Answer:
        """Fragt einen Arm; was dabei schiefgeht, wird zu einem 503."""
        started = time.perf_counter()
        headers = {"Content-Type": "application/json", "X-Request-ID": identity}
        try:
            response = await self.client.post(
                f"{self.urls[arm]}/predict", content=body, headers=headers, timeout=self.timeout
            )
            status, content = response.status_code, response.content
            if status >= 500 and "json" not in response.headers.get("content-type", ""):
                # So antwortet ein Proxy vor dem Arm: mit einer Seite in HTML.
                content = json.dumps({"detail": [UNREACHABLE]}).encode()
        except httpx.HTTPError:
            status, content = 503, json.dumps({"detail": [UNREACHABLE]}).encode()
        answer = Answer(status, content, time.perf_counter() - started)
        if arm == CONTROL and not answer.ok and not 400 <= status < 500:
            # Hier gezählt: `observe` sieht vom Kontrollarm nur, was gelang.
            self.counts[CONTROL]["failed"] += 1
        self.versions[arm] = answer.version or self.versions[arm]
        return answer

    def observe(self, arm: str, answer: Answer) -> None:
        """Zählt ein Ergebnis und rollt zurück, sobald das Fenster eine Grenze reißt."""
        self.counts[arm]["failed"] += arm == TREATMENT and not answer.ok
        result = (answer.ok, answer.seconds, self.guardrail.odd(answer.prices))
        if arm == CONTROL:
            self.guardrail.control.append(result)
            return
        self.guardrail.treatment.append(result)
        reason = self.guardrail.reason()
        if reason and self.share:
            self.share = 0.0
            self.rollback = self.journal.write("rollback", experiment=self.salt, reason=reason)
            logger.error("Rollback: %s", reason)

    def copied(self, user: str | None, identity: str) -> bool:
        """Bekommt der Schatten diese Frage? Ohne Kennung entscheidet die der Anfrage."""
        return assign(user or identity, self.salt, self.share) == TREATMENT

    # [copy]
    def copy(self, body: bytes, identity: str, answer: Answer) -> None:
        """Schickt die Frage auch an die Behandlung, ohne auf sie zu warten."""
        self.observe(CONTROL, answer)
        if len(self.pending) >= self.max_pending:
            # Ein langsamer Schatten darf keinen Speicher anhäufen.
            self.shadow["dropped"] += 1
            return
        task = asyncio.create_task(self.compare(body, identity, answer))
        self.pending.add(task)
        task.add_done_callback(self.pending.discard)

    async def compare(self, body: bytes, identity: str, control: Answer) -> None:
        """Protokolliert den Unterschied; die Antwort der Behandlung sieht niemand."""
        async with self.shadow_turn:
            treatment = await self.ask(TREATMENT, body, identity)
        self.shadow["compared" if treatment.ok else "failed"] += 1
        self.journal.write(
            "shadow",
            experiment=self.salt,
            request_id=identity,
            status=treatment.status,
            control_usd=control.prices,
            treatment_usd=treatment.prices,
        )
        self.observe(TREATMENT, treatment)

    # [end copy]

    def change(self, share: float, reason: str) -> None:
        """Setzt einen neuen Anteil, auch nach einem Rollback, und beginnt das Fenster neu."""
        self.share, self.rollback = share, None
        self.guardrail.reset()
        self.journal.write("split", experiment=self.salt, share=share, reason=reason)

    def state(self) -> dict:
        """Zustand, Anteil und Zähler je Arm."""
        rollback = self.rollback and {name: self.rollback[name] for name in ("time", "reason")}
        arms = {
            arm: {"model_version": self.versions[arm], **counted}
            for arm, counted in self.counts.items()
        }
        return {
            "experiment": self.salt,
            "mode": self.mode,
            "share": self.share,
            "rollback": rollback,
            "arms": arms,
            "outside": self.outside,
            "shadow": dict(self.shadow) | {"pending": len(self.pending)},
        }

    async def ready(self, arm: str) -> bool:
        """Kann dieser Arm antworten?"""
        try:
            response = await self.client.get(f"{self.urls[arm]}/health/ready", timeout=2)
        except httpx.HTTPError:
            return False
        return response.status_code == 200

    async def close(self) -> None:
        """Wartet auf die letzten Schatten, auf alle zusammen eine Frist, und schließt alles."""
        if self.pending:
            # Schweigt der Schatten, so dauerte das Ende sonst eine Frist für je acht Fragen.
            await asyncio.wait(self.pending, timeout=self.timeout)
        for task in self.pending:
            task.cancel()
        await asyncio.gather(*self.pending, return_exceptions=True)
        await self.client.aclose()
        self.journal.file.close()


# Was ein Versuch einstellt; auffällige Preise sind für alle dieselben.
LIMITS = ("window", "min_requests", "max_errors", "max_slowdown")


def last_rollback(log: Path, salt: str) -> dict | None:
    """Sucht im Protokoll ein Rollback dieses Versuchs, das noch gilt."""
    found = None
    for line in log.read_bytes().split(b"\n") if log.exists() else []:
        try:
            row = json.loads(line)
            if row["experiment"] == salt and row["event"] in ("rollback", "split"):
                found = row if row["event"] == "rollback" else None
        except (ValueError, KeyError, TypeError):
            continue
    return found


def create_app(router: Router) -> FastAPI:
    """Baut die Anwendung um einen Router."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await router.close()

    app = FastAPI(title="Router", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.add_middleware(BodyLimit)
    app.add_exception_handler(RequestValidationError, reject)
    app.add_exception_handler(StarletteHTTPException, refuse)
    app.add_exception_handler(Exception, fail)

    @app.post("/predict")
    async def predict(request: Request) -> Response:
        """Reicht die Frage weiter; die Antwort ist die eines der beiden Dienste."""
        identity = accepted_id(request.headers.get("x-request-id"))
        user = request.headers.get("x-user-id") or None
        answer, arm = await router.predict(await request.body(), user, identity)
        headers = {"X-Request-ID": identity, "X-Served-By": arm}
        return Response(answer.body, answer.status, headers, "application/json")

    @app.get("/health")
    async def health(response: Response) -> dict[str, str]:
        """Gesund ist der Router, solange der Kontrollarm antwortet."""
        answers = await asyncio.gather(*map(router.ready, router.urls))
        ready = dict(zip(router.urls, answers, strict=True))
        response.status_code = 200 if ready[CONTROL] else 503
        words = {arm: "ready" if ok else "not ready" for arm, ok in ready.items()}
        return {"status": words[CONTROL], **words}

    @app.get("/health/live")
    async def live() -> dict[str, str]:
        """Prüft nichts außer sich selbst."""
        return {"status": "live"}

    app.get("/health/ready")(health)

    @app.get("/split")
    async def split() -> dict:
        """Zeigt Zustand, Anteil und Zähler je Arm."""
        return router.state()

    @app.post("/split")
    async def change(wanted: Change, request: Request) -> dict:
        """Setzt den Anteil; nur vom selben Rechner aus."""
        host = request.client.host if request.client else ""
        if not is_loopback(host) or FORWARDED & set(request.headers):
            reason = "Den Anteil ändert nur, wer auf demselben Rechner ist."
            raise HTTPException(403, [{"field": "client", "reason": reason}])
        if not 0 <= wanted.share <= 1:
            reason = "Der Anteil muss zwischen 0 und 1 liegen."
            raise HTTPException(422, [{"field": "share", "reason": reason}])
        router.change(wanted.share, wanted.reason)
        return router.state()

    return app


def is_loopback(host: str) -> bool:
    """Kommt die Anfrage von diesem Rechner?"""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def read_options(arguments: list[str] | None = None) -> argparse.Namespace:
    """Liest die Befehlszeile."""
    parser = argparse.ArgumentParser(description="Router vor zwei Modellversionen")
    parser.add_argument(
        "--control", type=address, required=True, help="Dienst mit dem alten Modell"
    )
    parser.add_argument(
        "--treatment", type=address, required=True, help="Dienst mit dem neuen Modell"
    )
    parser.add_argument("--mode", choices=list(SHARES), required=True)
    parser.add_argument("--share", type=fraction, help=f"Anteil der Behandlung; Vorgabe {SHARES}")
    parser.add_argument("--salt", required=True, help="Name des Versuchs; für jeden ein neuer")
    parser.add_argument("--log", type=Path, default=Path("exposures.jsonl"), help="Protokoll")
    parser.add_argument("--at", type=moment, help="Uhrzeit beim Start, für Versuche im Zeitraffer")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=port, default=8221)
    parser.add_argument("--timeout", type=above_zero(float), default=5.0, help="Sekunden je Arm")
    parser.add_argument("--max-pending", type=above_zero(int), default=500, help="offene Schatten")
    limits = parser.add_argument_group("Guardrail, je Fenster der letzten Fragen")
    limits.add_argument("--window", type=above_zero(int), default=Limits.window)
    limits.add_argument("--min-requests", type=above_zero(int), default=Limits.min_requests)
    limits.add_argument("--max-errors", type=fraction, default=Limits.max_errors)
    limits.add_argument("--max-slowdown", type=above_zero(float), default=Limits.max_slowdown)
    options = parser.parse_args(arguments)
    if options.min_requests > options.window:
        parser.error("--min-requests darf nicht größer sein als --window.")
    return options


def serve(kind: type[Router] = Router) -> int:
    """Startet den Router; ein Protokoll, das sich nicht öffnen lässt, beendet ihn."""
    options = read_options()
    try:
        router = kind(options)
    except OSError as error:
        print(f"Das Protokoll lässt sich nicht öffnen: {error.strerror}.", file=sys.stderr)
        return 1
    uvicorn.run(
        create_app(router),
        host=options.host,
        port=options.port,
        log_level="warning",
        # Sonst glaubt uvicorn dem Header `X-Forwarded-For`, wer angerufen hat.
        proxy_headers=False,
    )
    return 0


if __name__ == "__main__":
    sys.exit(serve())
