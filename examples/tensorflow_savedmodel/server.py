"""Ein kleiner Modellserver mit der REST-Schnittstelle von TensorFlow Serving, ohne Keras.

Starten: python -m examples.tensorflow_savedmodel.server --rest_api_port 8108
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from examples.ab_test.options import port
from examples.price_model.schema import (
    CATEGORIES,
    FEATURES,
    MAX_BODY_BYTES,
    REFUSALS,
    InvalidStoneError,
    Stone,
    parse,
)

MODELS = Path(__file__).parent / "artifacts" / "price"
URL = "/v1/models/price"
SIGNATURE = "serving_default"


class UnusableModelError(RuntimeError):
    """Das Modell fehlt oder erwartet andere Merkmale."""


class Model(NamedTuple):
    """Eine geladene Version: rechnet und beschreibt ihre Ein- und Ausgänge."""

    version: str
    predict: Callable[[list[Stone]], list[dict]]
    signature: dict


def load_model(folder: Path) -> Model:
    """Lädt die höchste Version, ohne eine Zeile Code aus dem Training.

    Raises:
        `UnusableModelError`: Es gibt keine, sie ist beschädigt, oder ihre Signatur passt nicht.
    """
    # Ohne diese Datei ist eine Version noch nicht fertig kopiert.
    ready = [path.parent.name for path in folder.glob("*/saved_model.pb")]
    versions = [int(name) for name in ready if name.isdecimal()]
    if not versions:
        raise UnusableModelError(
            f"In {folder.name}/ liegt keine Version des Modells. Abhilfe: make keras-model"
        )
    path = folder / str(max(versions))
    # TensorFlow importiert Keras sonst von sich aus mit: das kostet Startzeit und Speicher.
    sys.modules["keras"] = None
    import tensorflow as tf
    from google.protobuf.json_format import MessageToDict
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    broken = f"Version {path.name} ist beschädigt oder noch nicht fertig kopiert. Nicht geladen."
    try:
        saved = SavedModel.FromString((path / "saved_model.pb").read_bytes())
        graph = MessageToDict(saved.meta_graphs[0], preserving_proto_field_name=True)
    except (OSError, IndexError, DecodeError):
        raise UnusableModelError(broken) from None
    # Was leer ist, lässt `MessageToDict` weg.
    signature = graph.get("signature_def", {}).get(SIGNATURE, {})
    signature = {"inputs": {}, "outputs": {}} | signature
    strange = sorted(set(FEATURES) ^ set(signature["inputs"]))
    if strange:
        raise UnusableModelError(
            f"Version {path.name} erwartet andere Merkmale, als dieser Dienst prüft: "
            f"{', '.join(strange)}. Nicht geladen."
        )
    if missing := sorted({"price_usd", "model_version"} - set(signature["outputs"])):
        raise UnusableModelError(
            f"Version {path.name} nennt in der Antwort nicht: {', '.join(missing)}. Nicht geladen."
        )
    try:
        loaded = tf.saved_model.load(str(path))
    except (OSError, IndexError, tf.errors.OpError):
        raise UnusableModelError(broken) from None

    def predict(stones: list[Stone]) -> list[dict]:
        columns = {
            name: tf.constant(
                [getattr(stone, name) for stone in stones],
                tf.string if name in CATEGORIES else tf.float32,
            )
            for name in FEATURES
        }
        answer = loaded.signatures[SIGNATURE](**columns)
        pairs = zip(answer["price_usd"].numpy(), answer["model_version"].numpy(), strict=True)
        return [
            {"price_usd": round(float(price), 2), "model_version": version.decode()}
            for price, version in pairs
        ]

    return Model(path.name, predict, signature)


def refusal(field: str, reason: str) -> InvalidStoneError:
    """Gibt einen Fehler mit genau einem Grund zurück."""
    return InvalidStoneError([{"field": field, "reason": reason}])


async def read(request: Request) -> list[Stone]:
    """Liest den Rumpf und gibt die geprüften Steine zurück.

    Raises:
        `InvalidStoneError`: mit Feld und Grund; vor dem Feld steht die Nummer des Steins.
    """
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise refusal(*REFUSALS[413])
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        raise refusal(*REFUSALS[400]) from None
    if not isinstance(content, dict) or set(content) - {"signature_name"} != {"instances"}:
        raise refusal("body", "Erwartet wird ein JSON-Objekt mit dem Feld „instances“.")
    if content.get("signature_name", SIGNATURE) != SIGNATURE:
        raise refusal("signature_name", f"Erlaubt ist: {SIGNATURE}.")
    instances = content["instances"]
    if not isinstance(instances, list):
        raise refusal("instances", "Hier muss eine Liste von Steinen stehen.")
    try:
        return parse(instances)
    except InvalidStoneError as error:
        # `body` meint im Schema die ganze Frage; hier steckt sie in `instances`.
        for problem in error.problems:
            if problem["field"] == "body":
                problem["field"] = "instances"
        raise InvalidStoneError(error.problems) from None


def build_app(model: Model) -> Starlette:
    """Gibt die Anwendung zurück; Adressen und Antworten sind die von TensorFlow Serving."""

    async def status(request: Request) -> JSONResponse:
        state = {"error_code": "OK", "error_message": ""}
        versions = [{"version": model.version, "state": "AVAILABLE", "status": state}]
        return JSONResponse({"model_version_status": versions})

    async def metadata(request: Request) -> JSONResponse:
        spec = {"name": "price", "signature_name": "", "version": model.version}
        signatures = {"signature_def": {SIGNATURE: model.signature}}
        return JSONResponse({"model_spec": spec, "metadata": {"signature_def": signatures}})

    async def predict(request: Request) -> JSONResponse:
        # Ohne await: die Rechnung ist kürzer als der Umweg über einen Thread.
        return JSONResponse({"predictions": model.predict(await read(request))})

    async def reject(request: Request, error: InvalidStoneError) -> JSONResponse:
        # `error` ist die Form von TensorFlow Serving, `detail` dasselbe für Programme.
        return JSONResponse({"error": str(error), "detail": error.problems}, 400)

    async def refuse(request: Request, error: HTTPException) -> JSONResponse:
        _, reason = REFUSALS.get(error.status_code, ("", error.detail))
        return JSONResponse({"error": reason}, error.status_code, headers=error.headers)

    async def fail(request: Request, error: Exception) -> JSONResponse:
        # Danach schließt uvicorn die Verbindung; unangekündigt ginge die nächste Frage verloren.
        return await refuse(request, HTTPException(500, headers={"Connection": "close"}))

    return Starlette(
        routes=[
            Route(URL, status),
            Route(f"{URL}/metadata", metadata),
            Route(f"{URL}:predict", predict, methods=["POST"]),
        ],
        exception_handlers={InvalidStoneError: reject, HTTPException: refuse, Exception: fail},
    )


def main() -> int:
    """Lädt das Modell und öffnet erst dann den Port; die Schalter heißen wie im Original."""
    parser = argparse.ArgumentParser(description="Modellserver für das SavedModel")
    parser.add_argument("--rest_api_port", type=port, default=8108)
    parser.add_argument("--model_base_path", type=Path, default=MODELS)
    arguments = parser.parse_args()
    try:
        model = load_model(arguments.model_base_path)
    except UnusableModelError as error:
        print(error, file=sys.stderr)
        return 1
    uvicorn.run(
        build_app(model), host="127.0.0.1", port=arguments.rest_api_port, log_level="warning"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
