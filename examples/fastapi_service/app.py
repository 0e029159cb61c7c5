"""Der Preisdienst: prüft die Frage, fragt das Modell und nennt seine Version.

Starten: uvicorn examples.fastapi_service.app:app --port 8104
Mit PRICE_ENGINE=sklearn rechnet scikit-learn statt ONNX; nur für Versuche, denn es hält die
Ereignisschleife auf.
"""

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi_offline import FastAPIOffline
from pydantic import BaseModel, ConfigDict, Field
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from examples.price_model.predict import load_model
from examples.price_model.schema import MAX_BODY_BYTES, REFUSALS, Question, explain

ENGINE = os.environ.get("PRICE_ENGINE", "onnx")
logger = logging.getLogger("uvicorn.error")


class Price(BaseModel):
    """Ein geschätzter Preis und das Modell, von dem er stammt."""

    # "model_" ist in pydantic reserviert; hier ist der Name Teil des Vertrags.
    model_config = ConfigDict(protected_namespaces=())

    price_usd: float = Field(description="Geschätzter Preis in US-Dollar")
    model_version: str = Field(description="Version des Modells")


class Problem(BaseModel):
    """Ein Feld der Frage und warum es abgelehnt wurde."""

    field: str
    reason: str


class Problems(BaseModel):
    """Alle Gründe einer Ablehnung."""

    detail: list[Problem]


class Status(BaseModel):
    """Zustand des Dienstes."""

    status: str


async def load(app: FastAPI) -> None:
    """Lädt das Modell im Hintergrund; scheitert es, nennt /health/ready den Grund."""
    try:
        app.state.model = await asyncio.to_thread(load_model, ENGINE)
    except Exception as error:
        app.state.waiting_for = f"Das Modell lässt sich nicht laden: {error}"
        logger.error(app.state.waiting_for)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Stößt das Laden einmal je Prozess an, nicht einmal je Anfrage."""
    app.state.model = None
    app.state.waiting_for = "Das Modell wird noch geladen."
    loading = asyncio.create_task(load(app))
    yield
    await loading


app = FastAPIOffline(
    title="Preisdienst für Diamanten",
    description="Schätzt den Preis eines Steins oder einer Liste von Steinen.",
    version="1.0.0",
    lifespan=lifespan,
    redoc_url=None,
    # Die Antworten unten beschreiben jeden Fehler; die Vorgabe beschriebe ein anderes Format.
    responses={
        status: {"model": Problems, "description": REFUSALS[status][1]} for status in (400, 413)
    },
)


class BodyLimit:
    """Weist zu große Anfragen mit 413 ab, bevor sie im Speicher liegen.

    `FastAPI(max_body_size=…)` tut dasselbe, antwortet aber mit englischem Text statt JSON.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Prüft zuerst die angekündigte Länge, dann die wirklich empfangene."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        if int(Headers(scope=scope).get("content-length", 0)) > MAX_BODY_BYTES:
            field, reason = REFUSALS[413]
            refusal = JSONResponse({"detail": [{"field": field, "reason": reason}]}, 413)
            return await refusal(scope, receive, send)
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > MAX_BODY_BYTES:
                raise HTTPException(413)
            return message

        await self.app(scope, counted, send)


app.add_middleware(BodyLimit)


@app.exception_handler(RequestValidationError)
async def reject(request: Request, error: RequestValidationError) -> JSONResponse:
    """Nennt Feld und Grund auf Deutsch: 400 ohne lesbares JSON, sonst 422."""
    errors = error.errors()
    unreadable = any(problem["type"] == "json_invalid" for problem in errors)
    return JSONResponse({"detail": explain(errors)}, 400 if unreadable else 422)


@app.exception_handler(StarletteHTTPException)
async def refuse(request: Request, error: StarletteHTTPException) -> JSONResponse:
    """Bringt auch die übrigen Fehler in die Form des Vertrags."""
    detail = error.detail
    if not isinstance(detail, list):
        field, reason = REFUSALS.get(error.status_code, ("path", str(detail)))
        detail = [{"field": field, "reason": reason}]
    return JSONResponse({"detail": detail}, error.status_code, headers=error.headers)


@app.exception_handler(Exception)
async def fail(request: Request, error: Exception) -> JSONResponse:
    """Bringt auch einen Absturz in diese Form; was geschah, steht nur im Log."""
    # Danach schließt uvicorn die Verbindung; unangekündigt ginge die nächste Frage verloren.
    return await refuse(request, StarletteHTTPException(500, headers={"Connection": "close"}))


def loaded_model(request: Request):
    """Gibt das Modell zurück oder bricht mit 503 ab, solange es fehlt."""
    state = request.app.state
    if state.model is None:
        raise HTTPException(
            503,
            [{"field": "model", "reason": state.waiting_for}],
            headers={"Retry-After": "1"},
        )
    return state.model


@app.get("/health/live", summary="Lebt der Prozess?")
async def live() -> Status:
    """Prüft nichts außer sich selbst: sonst startet die Plattform gesunde Prozesse neu."""
    return Status(status="live")


@app.get(
    "/health/ready", summary="Kann der Dienst antworten?", responses={503: {"model": Problems}}
)
async def ready(request: Request) -> Status:
    """Meldet 503, solange das Modell fehlt; dann schickt die Plattform keine Anfragen."""
    loaded_model(request)
    return Status(status="ready")


@app.post(
    "/predict",
    summary="Preis schätzen",
    responses={422: {"model": Problems}, 503: {"model": Problems}},
)
async def predict(question: Question, request: Request) -> Price | list[Price]:
    """Beantwortet einen Stein mit einem Preis, eine Liste mit einer Liste."""
    model = loaded_model(request)
    stones = question if isinstance(question, list) else [question]
    # Ohne await: ein Stein kostet in ONNX weniger als der Umweg über einen Thread.
    prices = [
        Price(price_usd=price, model_version=model.version) for price in model.predict(stones)
    ]
    return prices if isinstance(question, list) else prices[0]
