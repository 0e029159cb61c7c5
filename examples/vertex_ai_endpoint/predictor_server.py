"""Der Vorhersageserver des SDK mit der Klasse aus predictor.py.

`LocalModel.build_cpr_model` baut daraus ein Image; hier läuft derselbe Server ohne Image.
Mit PREDICTOR_MODULE und PREDICTOR_CLASS nimmt er eine andere Klasse.
Starten: python -m examples.vertex_ai_endpoint.predictor_server, mit denselben Variablen wie
der eigene Container
"""

import os
import sys
import tempfile

# Eine Frage lohnt keine Aufteilung auf Threads; auf vollen Kernen warten sie nur aufeinander.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Die Vorgabe ist ein Prozess je Kern, mindestens zwei; jeder lädt SDK und Modell für sich.
os.environ.setdefault("VERTEX_CPR_WEB_CONCURRENCY", "1")
# Diese vier schreibt build_cpr_model in das Image.
os.environ.setdefault("HANDLER_MODULE", "google.cloud.aiplatform.prediction.handler")
os.environ.setdefault("HANDLER_CLASS", "PredictionHandler")
os.environ.setdefault("PREDICTOR_MODULE", "examples.vertex_ai_endpoint.predictor")
os.environ.setdefault("PREDICTOR_CLASS", "PricePredictor")

if "AIP_HTTP_PORT" not in os.environ:
    sys.exit("Es fehlt AIP_HTTP_PORT: Diese Variable setzt die Plattform.")

import uvicorn
from google.cloud.aiplatform.prediction import model_server


def main() -> None:
    """Tut, was der Server des SDK als Programm tut, aber auf Loopback."""
    model_server.set_number_of_workers_from_env()
    # Die Klassen des SDK laden Dateien in den aktuellen Ordner; im Container ist er leer.
    sys.path.insert(0, os.getcwd())
    os.chdir(tempfile.mkdtemp(prefix="server-"))
    app = "google.cloud.aiplatform.prediction.model_server:CprModelServer"
    host = os.environ.get("PRICE_HOST", "127.0.0.1")
    uvicorn.run(app, host=host, port=int(os.environ["AIP_HTTP_PORT"]), factory=True)


if __name__ == "__main__":
    main()
