"""Derselbe Preisdienst für das offene Netz: Schlüssel, Ratenbegrenzung, CORS.

Starten: PRICE_API_KEY=… uvicorn examples.fastapi_service.protected:app --port 8124
"""

import math
import os
import secrets
import time
from typing import Annotated

from fastapi import Depends, HTTPException, Request, Security
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from fastapi.security import APIKeyHeader
from fastapi_offline import FastAPIOffline
from limits import parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from starlette.exceptions import HTTPException as StarletteHTTPException

from examples.fastapi_service import app as service

PAGE = os.environ.get("PRICE_PAGE", "http://127.0.0.1:8000")
try:
    LIMIT = parse(os.environ.get("PRICE_LIMIT", "60/minute"))
except ValueError:
    raise SystemExit("PRICE_LIMIT ist unverständlich; gemeint ist etwas wie 60/minute.") from None
ALLOWED = f"{LIMIT.amount} in {LIMIT.get_expiry()} s"
KEY = os.environ.get("PRICE_API_KEY", "")
if len(KEY) < 16:
    raise SystemExit("PRICE_API_KEY fehlt oder ist kürzer als 16 Zeichen.")

# Der Zähler gilt je Prozess; mehrere Worker brauchen einen gemeinsamen Speicher (Redis).
limiter = MovingWindowRateLimiter(MemoryStorage())
header = APIKeyHeader(name="X-API-Key", auto_error=False)


def authorize(key: Annotated[str | None, Security(header)]) -> str:
    """Lässt nur den richtigen Schlüssel durch; der Vergleich dauert immer gleich lang."""
    if not secrets.compare_digest((key or "").encode(), KEY.encode()):
        raise HTTPException(
            401,
            [{"field": "X-API-Key", "reason": "Der Schlüssel fehlt oder ist falsch."}],
            headers={"WWW-Authenticate": "APIKey"},
        )
    return KEY


def throttle(key: Annotated[str, Depends(authorize)]) -> None:
    """Bremst je Schlüssel und sagt, wann es weitergeht."""
    if not limiter.hit(LIMIT, key):
        wait = math.ceil(limiter.get_window_stats(LIMIT, key).reset_time - time.time())
        raise HTTPException(
            429,
            [{"field": "X-API-Key", "reason": f"Zu viele Anfragen: erlaubt sind {ALLOWED}."}],
            headers={"Retry-After": str(max(wait, 1))},
        )


app = FastAPIOffline(
    title="Geschützter Preisdienst", version="1.0.0", lifespan=service.lifespan, redoc_url=None
)
app.exception_handlers |= service.app.exception_handlers


@app.exception_handler(RequestValidationError)
async def reject(request: Request, error: RequestValidationError) -> JSONResponse:
    """Holt Schlüssel und Bremse nach: Unlesbares JSON weist FastAPI ab, bevor es nach ihnen fragt.

    Ein lesbarer, aber falscher Stein hat beide schon hinter sich.
    """
    try:
        if any(problem["type"] == "json_invalid" for problem in error.errors()):
            throttle(authorize(request.headers.get(header.model.name)))
    except HTTPException as refusal:
        return await service.refuse(request, refusal)
    return await service.reject(request, error)


@app.exception_handler(StarletteHTTPException)
async def refuse(request: Request, error: StarletteHTTPException) -> JSONResponse:
    """Ebenso, was schon beim Lesen scheitert: kein UTF-8 oder zu tief geschachtelt."""
    try:
        if error.status_code == 400:
            throttle(authorize(request.headers.get(header.model.name)))
    except HTTPException as refusal:
        error = refusal
    return await service.refuse(request, error)


@app.exception_handler(Exception)
async def fail(request: Request, error: Exception) -> JSONResponse:
    """Einen Absturz beantwortet Starlette außerhalb von CORS; auch den soll die Seite sehen."""
    answer = await service.fail(request, error)
    if request.headers.get("Origin") == PAGE:
        answer.headers["Access-Control-Allow-Origin"] = PAGE
    return answer


app.add_middleware(service.BodyLimit)
# Zuletzt, also außen: auch eine Ablehnung braucht den Header, sonst sieht die Seite sie nicht.
app.add_middleware(
    CORSMiddleware,
    allow_origins=[PAGE],
    allow_methods=["POST"],
    allow_headers=["X-API-Key"],  # Content-Type erlaubt Starlette immer
    expose_headers=["Retry-After"],
)
app.get("/health/live")(service.live)
app.get("/health/ready", responses={503: {"model": service.Problems}})(service.ready)
app.post(
    "/predict",
    dependencies=[Depends(throttle)],
    responses=dict.fromkeys((400, 401, 413, 422, 429, 503), {"model": service.Problems}),
)(service.predict)
