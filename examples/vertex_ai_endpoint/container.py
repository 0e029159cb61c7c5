"""Der Preisdienst im Vertrag der Agent Platform: {"instances": […]} → {"predictions": […]}.

Der Dienst selbst ist examples/fastapi_service; hier bekommt er eine Adresse mehr. Wo er hört
und unter welchen Adressen, sagt ihm die Plattform:
AIP_HTTP_PORT=8080 AIP_HEALTH_ROUTE=/health/ready AIP_PREDICT_ROUTE=/v1/predict
AIP_STORAGE_URI=gs://… python -m examples.vertex_ai_endpoint.container
"""

import os
import sys

from examples.vertex_ai_endpoint.artifacts import fetch

try:
    PORT = int(os.environ["AIP_HTTP_PORT"])
    HEALTH, PREDICT = os.environ["AIP_HEALTH_ROUTE"], os.environ["AIP_PREDICT_ROUTE"]
    MODEL = os.environ["AIP_STORAGE_URI"]
except KeyError as missing:
    sys.exit(f"Es fehlt {missing}: Diese Variablen setzt die Plattform.")

# Gelesen wird der Ordner beim Import des Dienstes.
os.environ["PRICE_MODEL_DIR"] = str(fetch(MODEL))

import uvicorn
from fastapi import Request

from examples.fastapi_service.app import Price, app, predict, ready
from examples.vertex_ai_endpoint.envelope import Instances


async def predict_instances(body: Instances, request: Request) -> dict[str, list[Price]]:
    """Packt die Frage aus und die Antwort ein; dazwischen liegt der Dienst, wie er ist."""
    return {"predictions": await predict(body.instances, request)}


app.add_api_route(HEALTH, ready, methods=["GET"])
app.add_api_route(PREDICT, predict_instances, methods=["POST"])


if __name__ == "__main__":
    # Im Container muss die Plattform von außen hinein; die Nachbildung bleibt auf Loopback.
    uvicorn.run(app, host=os.environ.get("PRICE_HOST", "127.0.0.1"), port=PORT)
