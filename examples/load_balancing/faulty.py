"""Der Preisdienst mit drei Adressen, die sich so benehmen, wie es im Betrieb vorkommt.

Starten: python -m uvicorn examples.load_balancing.faulty:app --port 8162
`/overloaded` lehnt immer ab, `/orders` stirbt nach dem ersten Eintrag in ORDER_BOOK, und
`/health/flapping` ist in jeder Sekunde FLAP_SECONDS lang nicht bereit.
"""

import os
import time
from pathlib import Path

from fastapi import Header, Response

from examples.fastapi_service.metered import app

FLAP_SECONDS = float(os.environ.get("FLAP_SECONDS", "0.3"))
attempts = 0


@app.post("/overloaded")
async def overloaded(response: Response) -> dict[str, str]:
    """Zählt den Versuch und lehnt ihn ab."""
    global attempts
    attempts += 1
    response.status_code = 503
    return {"status": "overloaded"}


@app.get("/attempts")
async def count() -> dict[str, int]:
    """Sagt, wie viele Versuche hier ankamen."""
    return {"attempts": attempts}


@app.get("/health/flapping")
async def flapping(response: Response) -> dict[str, str]:
    """Fällt in allen Prozessen zugleich aus, wie eine Datenbank, die alle brauchen."""
    if time.time() % 1 < FLAP_SECONDS:
        response.status_code = 503
    return {"status": "flapping"}


# [orders]
@app.post("/orders")
async def order(idempotency_key: str | None = Header(None)) -> dict[str, str]:
    """Bucht und stirbt beim ersten Mal, bevor die Antwort hinausgeht."""
    book = Path(os.environ["ORDER_BOOK"])
    booked = book.read_text(encoding="utf-8").splitlines() if book.exists() else []
    if idempotency_key in booked:
        return {"status": "already booked"}
    book.write_text("\n".join([*booked, idempotency_key or "?"]), encoding="utf-8")
    if not booked:
        os._exit(1)
    return {"status": "booked"}


# [end orders]
