"""Was das Log an Rechenzeit und Platz kostet.

Aufruf: python -m examples.service_logging.cost
"""

import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

from starlette.types import ASGIApp

from examples.fastapi_service.app import app
from examples.price_model.schema import EXAMPLE
from examples.service_logging.journal import configure
from examples.service_logging.middleware import RequestLog

BODY = json.dumps(EXAMPLE).encode()
SCOPE = {
    **{"type": "http", "http_version": "1.1", "method": "POST", "path": "/predict"},
    **{"raw_path": b"/predict", "query_string": b"", "root_path": "", "scheme": "http"},
    "headers": [(b"content-type", b"application/json"), (b"host", b"localhost")],
    **{"client": ("127.0.0.1", 1), "server": ("localhost", 80)},
}
REQUESTS, ROUNDS = 300, 7


async def ask(layer: ASGIApp, app: ASGIApp) -> None:
    """Stellt einer Schicht der Anwendung eine Frage, ohne HTTP-Server."""

    async def receive() -> dict:
        return {"type": "http.request", "body": BODY, "more_body": False}

    async def send(message: dict) -> None:
        assert message.get("status", 200) == 200

    await layer(SCOPE | {"app": app}, receive, send)


async def measure(folder: Path) -> dict[str, float]:
    """Misst abwechselnd mit und ohne Log; das Kleinste ist am wenigsten gestört."""
    handler = configure(folder, "INFO")
    async with app.router.lifespan_context(app):
        while app.state.model is None:
            # Scheitert das Laden, steht hier sofort der Grund; dann kommt kein Modell mehr.
            if "noch geladen" not in app.state.waiting_for:
                sys.exit(app.state.waiting_for)
            await asyncio.sleep(0.05)
        layers = {"logged": RequestLog(app), "plain": app}
        seconds = {name: [] for name in layers}
        for _ in range(ROUNDS):
            for name, layer in layers.items():
                started = time.process_time()
                for _ in range(REQUESTS):
                    await ask(layer, app)
                seconds[name].append(time.process_time() - started)
    assert not handler.lost
    size = sum(path.stat().st_size for path in folder.glob("*.jsonl"))
    return {
        "ratio": min(seconds["logged"]) / min(seconds["plain"]),
        "bytes_per_prediction": size / (ROUNDS * REQUESTS),
    }


def main() -> None:
    """Misst einmal und zeigt das Ergebnis als JSON."""
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(asyncio.run(measure(Path(folder)))))


if __name__ == "__main__":
    main()
