"""Der Vertrag: dieselben Fragen an jede Variante, und wie man sie dort stellt.

Eine neue Variante ist ein Eintrag in `VARIANTS`: ein Kontextmanager, der `ask` liefert.
`ask(payload)` gibt (Preise, Modellversion) zurück oder wirft `Rejected`.
"""

import json
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NoReturn

import gradio_client
import httpx
import joblib
import pandas as pd

import process
from examples.joblib_model import store
from examples.price_model.predict import ARTIFACTS, PriceModel, load_model
from examples.price_model.schema import EXAMPLE, MAX_BATCH, InvalidStoneError, parse

Ask = Callable[[object], tuple[list[float], str]]


class Rejected(Exception):  # noqa: N818 – im Vertrag heißt es so
    """Die Variante lehnt die Frage ab; `problems` ist [(Feld, Grund), …]."""

    def __init__(self, problems: list[tuple[str, str]], status: int | None = None) -> None:
        super().__init__(problems)
        self.problems, self.status = problems, status


def stone(**changes: object) -> dict:
    """Der Stein des Vertrags mit Änderungen; `None` lässt das Feld weg."""
    return {name: value for name, value in (EXAMPLE | changes).items() if value is not None}


VALID = {
    "example": stone(),
    "whole numbers": stone(carat=1, depth=61, table=55, x=6, y=6, z=4),
    "smallest stone": stone(carat=0.2, cut="Premium", clarity="SI2", x=3.73, y=3.68, z=2.31),
    "largest stone": stone(
        carat=5.01, cut="Fair", color="J", clarity="I1", x=10.74, y=10.54, z=6.98
    ),
    "best grades": stone(color="D", clarity="IF"),
    "worst grades": stone(cut="Fair", color="J", clarity="I1"),
    "far outside the data": stone(carat=900, x=0.001),
    "batch of one": [stone()],
    "batch of three": [stone(), stone(carat=1.5, x=7.3, y=7.3, z=4.5), stone(cut="Good")],
    "largest batch": [stone()] * MAX_BATCH,
}

INVALID = {  # Name: (Frage, Feld, an dem sie scheitert)
    "missing field": (stone(carat=None), "carat"),
    "extra field": (stone() | {"weight": 1.0}, "weight"),
    "misspelt field": (stone(carat=None) | {"karat": 0.7}, "karat"),
    "number as text": (stone(depth="61.5"), "depth"),
    "number as boolean": (stone(table=True), "table"),
    "number as null": (stone() | {"x": None}, "x"),
    "number as list": (stone(x=[5.7]), "x"),
    "grade as number": (stone(cut=5), "cut"),
    "unknown grade": (stone(clarity="VS9"), "clarity"),
    "grade in wrong case": (stone(color="e"), "color"),
    "zero": (stone(z=0), "z"),
    "negative": (stone(carat=-0.7), "carat"),
    "far too large": (stone(y=1000.5), "y"),
    "empty object": ({}, "carat"),
    "null": (None, "body"),
    "text": ("0.7 Karat", "body"),
    "empty batch": ([], "body"),
    "batch that is too long": ([stone()] * (MAX_BATCH + 1), "body"),
    "second of batch is bad": ([stone(), stone(x=-1)], "1.x"),
    "batch of numbers": ([1, 2], "0"),
}
# NaN und Infinity kennt JSON nicht, Python schreibt sie trotzdem.
NOT_FINITE = {
    "not a number": (stone(carat=float("nan")), "carat"),
    "infinite": (stone(depth=float("inf")), "depth"),
}

INVALID_BODIES = {  # Name: (Rumpf, HTTP-Status); nur für Dienste, die HTTP sprechen
    "empty body": (b"", 422),
    "not JSON": (b"carat=0.7", 400),
    "broken JSON": (b'{"carat": 0.7,', 400),
    "not UTF-8": (b'{"cut": "\xff"}', 400),
    "deeply nested": (b"[" * 100_000, 400),
    "too large": (b" " * 300_000, 413),
}


def free_port() -> int:
    """Ein Port auf Loopback, den gerade niemand benutzt."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def in_process(engine: str) -> Iterator[Ask]:
    """Das Modell im eigenen Prozess, ohne Dienst."""
    yield checked(load_model(engine))


def checked(model: PriceModel) -> Ask:
    """Stellt die Prüfung des Schemas vor ein Modell im selben Prozess."""

    def ask(payload: object) -> tuple[list[float], str]:
        try:
            return model.predict(parse(payload)), model.version
        except InvalidStoneError as error:
            raise Rejected([(p["field"], p["reason"]) for p in error.problems]) from None

    return ask


@contextmanager
def from_joblib_file() -> Iterator[Ask]:
    """Das Modell aus der joblib-Datei mit Beipackzettel."""
    with tempfile.TemporaryDirectory() as folder:
        store.save(joblib.load(ARTIFACTS / "price_model.joblib"), Path(folder))
        pipeline, version = store.load(Path(folder))
    model = PriceModel(
        lambda stones: pipeline.predict(pd.DataFrame([stone.model_dump() for stone in stones])),
        version,
    )
    yield checked(model)


@contextmanager
def over_http(command: list[str], env: dict | None = None) -> Iterator[Ask]:
    """Ein Dienst als eigener Prozess; `{port}` im Befehl wird ersetzt."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    service = process.serve(
        [part.format(port=port) for part in command], f"{url}/health/ready", env=env
    )
    client = httpx.Client(base_url=url, timeout=30)

    def ask(payload: object) -> tuple[list[float], str]:
        if isinstance(payload, bytes):
            response = client.post("/predict", content=payload, headers=JSON)
        else:
            # json.dumps schreibt auch NaN; httpx verweigerte es schon beim Absenden.
            response = client.post("/predict", content=json.dumps(payload), headers=JSON)
        body = response.json()
        if response.is_client_error:
            problems = [(p["field"], p["reason"]) for p in body["detail"]]
            raise Rejected(problems, response.status_code)
        response.raise_for_status()
        answers = body if isinstance(payload, list) else [body]
        (version,) = {answer["model_version"] for answer in answers}
        return [answer["price_usd"] for answer in answers], version

    try:
        yield ask
    finally:
        client.close()
        service.stop()


@contextmanager
def from_gradio() -> Iterator[Ask]:
    """Die Gradio-Oberfläche, gefragt über ihre API."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = ["python", "-m", "uvicorn", "examples.gradio_app.app:app", "--port", port]
    service = process.serve(command, f"{url}/health/ready", timeout=60)
    client = gradio_client.Client(url, verbose=False, analytics_enabled=False)

    def ask(payload: object) -> tuple[list[float], str]:
        try:
            json.dumps(payload, allow_nan=False)
        except ValueError:
            reject(unchecked(payload))
        try:
            body = client.predict(payload, api_name="/predict")
        except gradio_client.exceptions.AppError as error:
            reject(str(error))
        answers = body if isinstance(payload, list) else [body]
        (version,) = {answer["model_version"] for answer in answers}
        return [answer["price_usd"] for answer in answers], version

    def reject(message: str) -> NoReturn:
        raise Rejected([(p["field"], p["reason"]) for p in json.loads(message)["detail"]])

    def unchecked(payload: object) -> str:
        """NaN schickt gradio_client nicht ab; ein anderer Client täte es."""
        call = f"{url}/gradio_api/call/predict"
        body = json.dumps({"data": [payload]})
        event = httpx.post(call, content=body, headers=JSON).json()["event_id"]
        stream = httpx.get(f"{call}/{event}").text
        return json.loads(stream.split("data: ", 1)[1])["error"]

    try:
        yield ask
    finally:
        client.close()
        service.stop()


JSON = {"Content-Type": "application/json"}
FASTAPI = ["python", "-m", "uvicorn", "examples.fastapi_service.app:app", "--port", "{port}"]
FLASK = ["python", "-m", "examples.flask_service.serve", "--port", "{port}"]
GUNICORN = ["python", "-m", "gunicorn", "--config", "examples/flask_service/gunicorn_conf.py"]

VARIANTS: dict[str, Callable[[], AbstractContextManager[Ask]]] = {
    "price_model": lambda: in_process("onnx"),
    "price_model with scikit-learn": lambda: in_process("sklearn"),
    "joblib_model": from_joblib_file,
    "gradio_app": from_gradio,
    "flask_service": lambda: over_http(FLASK),
    "flask_service with gunicorn": lambda: over_http(
        [*GUNICORN, "--preload", "--bind", "127.0.0.1:{port}"]
    ),
    "fastapi_service": lambda: over_http(FASTAPI),
    "fastapi_service with scikit-learn": lambda: over_http(FASTAPI, {"PRICE_ENGINE": "sklearn"}),
}
HTTP_VARIANTS = [name for name in VARIANTS if name.startswith(("flask_service", "fastapi_service"))]
