"""Wo die Rechenzeit einer Anfrage bleibt: Schicht um Schicht, dazu ein Profil.

Aufruf: python -m examples.load_test.where [--engine sklearn] [--profile]
Gemessen wird Rechenzeit, nicht Uhrzeit: Was der Rechner nebenbei tut, zählt nicht mit.
Unter Windows ist die Rechenzeit zu grob; dort gilt die Uhr.
"""

import argparse
import asyncio
import cProfile
import json
import math
import pstats
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from examples.fastapi_service.app import Price, app
from examples.price_model.predict import ModelMissingError, load_model
from examples.price_model.schema import EXAMPLE, QUESTION

BODY = json.dumps(EXAMPLE).encode()
SCOPE = {
    "type": "http",
    "asgi": {"version": "3.0"},
    "http_version": "1.1",
    "method": "POST",
    "path": "/predict",
    "raw_path": b"/predict",
    "query_string": b"",
    "root_path": "",
    "scheme": "http",
    "headers": [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(BODY)).encode()),
    ],
    "client": ("127.0.0.1", 1),
    "server": ("127.0.0.1", 80),
}
# scikit-learn braucht je Stein so viel länger, dass wenige Durchgänge genügen.
ROUNDS, GROUPS = {"onnx": 200, "sklearn": 10}, 10
# Unter Windows springt die Rechenzeit in Schritten von 16 ms; eine Schicht dauert kürzer.
CLOCK = time.perf_counter if sys.platform == "win32" else time.process_time


async def request() -> bytes:
    """Eine Anfrage an die Anwendung, ohne Server und Netz davor."""
    said = []

    async def receive() -> dict:
        return {"type": "http.request", "body": BODY, "more_body": False}

    async def send(message: dict) -> None:
        said.append(message)

    await app({**SCOPE, "app": app, "state": {}}, receive, send)
    return said[-1]["body"]


async def cost(work: Callable, rounds: int) -> float:
    """Rechenzeit je Aufruf in s."""
    before = CLOCK()
    for _ in range(rounds):
        await work()
    return (CLOCK() - before) / rounds


async def layers(engine: str, rounds: int) -> dict[str, float]:
    """Rechenzeit je Schicht; die letzte ist der Rest bis zur ganzen Anwendung."""
    model = app.state.model = load_model(engine)
    stone = QUESTION.validate_json(BODY)

    async def predict() -> None:
        model.predict([stone])

    async def check_and_write() -> None:
        QUESTION.validate_json(BODY)
        Price(price_usd=1.0, model_version=model.version).model_dump_json()

    works = {"whole": request, "model": predict, "validation and JSON": check_and_write}
    least = dict.fromkeys(works, math.inf)
    await request()  # Warmlaufen
    # Reihum und das Kleinste: Sonst träfe eine Störung eine Schicht allein.
    for _ in range(GROUPS):
        for name, work in works.items():
            least[name] = min(least[name], await cost(work, rounds))
    whole = least.pop("whole")
    return least | {"framework": whole - sum(least.values())}


def profile(engine: str, rounds: int) -> dict[str, float]:
    """Anteile an der Rechenzeit nach Paket, aus `cProfile`.

    Es misst jeden Funktionsaufruf und verteuert damit Code, der aus vielen kleinen besteht.
    """
    app.state.model = load_model(engine)

    async def many() -> None:
        for _ in range(rounds):
            await request()

    asyncio.run(many())
    # CPU statt Uhr: Sonst zählt mit, was andere Prozesse dem Kern wegnehmen.
    profiler = cProfile.Profile(CLOCK)
    profiler.runcall(asyncio.run, many())
    shares: Counter = Counter()
    for (file, _, name), (_, _, own, _, _) in pstats.Stats(profiler).stats.items():
        shares[package(file, name)] += own
    total = sum(shares.values())
    return {name: round(own / total, 3) for name, own in shares.most_common(8)}


def package(file: str, name: str) -> str:
    """Nennt das Paket einer Datei; eingebaute Funktionen haben keine."""
    parts = Path(file).parts
    if "site-packages" in parts:
        return parts[parts.index("site-packages") + 1]
    if "onnxruntime" in name or "onnxruntime" in file:
        return "onnxruntime"
    return "examples" if "examples" in parts else "Python"


def main() -> None:
    """Zeigt Mikrosekunden je Schicht oder Anteile je Paket als JSON."""
    parser = argparse.ArgumentParser(description="Rechenzeit zerlegen")
    parser.add_argument("--engine", choices=("onnx", "sklearn"), default="onnx")
    parser.add_argument("--profile", action="store_true", help="nach Paketen, mit cProfile")
    parser.add_argument("--rounds", type=int, help="Anfragen je Durchgang")
    options = parser.parse_args()
    rounds = ROUNDS[options.engine] if options.rounds is None else options.rounds
    if rounds < 1:
        parser.error("Gebraucht wird mindestens eine Anfrage.")
    try:
        if options.profile:
            print(json.dumps(profile(options.engine, rounds)))
            return
        parts = asyncio.run(layers(options.engine, rounds))
    except ModelMissingError as error:
        sys.exit(str(error))
    print(json.dumps({name: round(1e6 * seconds) for name, seconds in parts.items()}))


if __name__ == "__main__":
    main()
