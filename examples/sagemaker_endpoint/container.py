"""Der Preisdienst im Vertrag von SageMaker: GET /ping, POST /invocations, Port 8080.

Der Dienst selbst ist examples/fastapi_service; hier bekommt er nur zwei Adressen mehr.
Starten, wie die Plattform es tut: `python -m examples.sagemaker_endpoint.container serve`
"""

import os
import sys

# Dorthin entpackt die Plattform model.tar.gz; gelesen wird es beim Import des Dienstes.
os.environ.setdefault("PRICE_MODEL_DIR", os.environ.get("SAGEMAKER_BASE_DIR", "/opt/ml") + "/model")

import uvicorn

from examples.fastapi_service.app import app, predict, ready

SERVE = "serve"  # das einzige Argument, mit dem die Plattform ein Image startet

# Erst mit geladenem Modell antwortet /ping mit 200; bis dahin schickt niemand Anfragen.
app.add_api_route("/ping", ready, methods=["GET"])
app.add_api_route("/invocations", predict, methods=["POST"])


def main() -> None:
    """Lauscht auf dem Port, den die Plattform nennt."""
    if sys.argv[1:] != [SERVE]:
        sys.exit(f"Aufruf: python -m {__spec__.name} {SERVE}")
    # Im Container muss die Plattform von außen hinein; die Nachbildung bleibt auf Loopback.
    host = os.environ.get("PRICE_HOST", "127.0.0.1")
    uvicorn.run(app, host=host, port=int(os.environ.get("SAGEMAKER_BIND_TO_PORT", "8080")))


if __name__ == "__main__":
    main()
