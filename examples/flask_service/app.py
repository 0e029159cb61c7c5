"""Der Preisdienst: prüft die Frage von Hand, fragt das Modell und nennt seine Version.

Starten: python -m examples.flask_service.serve --port 8103
Mit PRICE_ENGINE=sklearn rechnet scikit-learn statt ONNX.
"""

import json
import os
from functools import cache

from flask import Blueprint, Flask, Response, abort, request
from werkzeug.exceptions import HTTPException, ServiceUnavailable

from examples.flask_service.validate import check, problem
from examples.price_model.predict import PriceModel, load_model
from examples.price_model.schema import MAX_BODY_BYTES, REFUSALS, InvalidStoneError, explain

api = Blueprint("api", __name__)


def create_app() -> Flask:
    """Baut die Anwendung; ihr Modell ist danach geladen, sonst steht der Grund im Log."""
    app = Flask(__name__, static_folder=None)
    # Ein Byte mehr als erlaubt: ohne angekündigte Länge schneidet Werkzeug an der Grenze still ab.
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES + 1
    app.json.ensure_ascii = app.json.sort_keys = False
    app.register_blueprint(api)
    try:
        shared_model()
    except Exception as error:
        app.logger.error("Das Modell lässt sich nicht laden: %s", error)
    return app


@cache
def shared_model() -> PriceModel:
    """Lädt das Modell einmal je Prozess; wer danach fragt, bekommt dasselbe."""
    return load_model(os.environ.get("PRICE_ENGINE", "onnx"))


def loaded_model() -> PriceModel:
    """Gibt das Modell zurück oder bricht mit 503 ab, solange es fehlt."""
    try:
        return shared_model()
    except Exception as error:
        reason = f"Das Modell lässt sich nicht laden: {error}"
        raise ServiceUnavailable(reason, retry_after=1) from None


def read_question() -> object:
    """Liest die Frage; 413, wenn der Inhalt zu groß ist, 400, wenn er kein JSON ist."""
    body = request.get_data()
    if len(body) > MAX_BODY_BYTES:
        abort(413)
    if not body:
        raise InvalidStoneError(explain([problem("missing", ())]))
    if not request.is_json:
        return None
    try:
        return json.loads(body)
    # 100 000 öffnende Klammern sind kein ValueError, sondern ein RecursionError.
    except (ValueError, RecursionError):
        abort(400)


@api.get("/health/live")
def live() -> dict:
    """Prüft nichts außer sich selbst: sonst startet die Plattform gesunde Prozesse neu."""
    return {"status": "live"}


@api.get("/health/ready")
def ready() -> dict:
    """Meldet 503, solange das Modell fehlt; dann schickt die Plattform keine Anfragen."""
    loaded_model()
    return {"status": "ready"}


@api.post("/predict")
def predict() -> dict | list:
    """Beantwortet einen Stein mit einem Preis, eine Liste mit einer Liste."""
    question = read_question()
    stones = check(question)
    model = loaded_model()
    prices = [
        {"price_usd": price, "model_version": model.version} for price in model.predict(stones)
    ]
    return prices if isinstance(question, list) else prices[0]


@api.app_errorhandler(InvalidStoneError)
def reject(error: InvalidStoneError) -> tuple[dict, int]:
    """Lesbar, aber nicht gültig: nennt jedes Feld mit seinem Grund."""
    return {"detail": error.problems}, 422


@api.app_errorhandler(HTTPException)
def refuse(error: HTTPException) -> Response:
    """Bringt jeden anderen Fehler in dieselbe Form; auch ein Absturz kommt hier an, als 500."""
    field, reason = REFUSALS.get(error.code, ("model", error.description))
    response = error.get_response()  # behält Header wie Allow und Retry-After
    response.data = json.dumps({"detail": [{"field": field, "reason": reason}]}, ensure_ascii=False)
    response.content_type = "application/json"
    return response
