"""Der Dienst, wie ihn viele Anleitungen zeigen: stürzt ab und lügt. Kein Vorbild.

Starten: python -m examples.flask_service.naive
"""

import joblib
import pandas as pd
from flask import Flask, jsonify, request

from examples.price_model.predict import ARTIFACTS

app = Flask(__name__)
pipeline = joblib.load(ARTIFACTS / "price_model.joblib")


@app.route("/")
def home() -> str:
    """Sagt, dass der Dienst läuft."""
    return "Der Preisdienst läuft."


@app.route("/predict", methods=["POST"])
def predict():
    """Nimmt, was kommt, und fragt das Modell."""
    row = pd.DataFrame([request.get_json()])
    return jsonify({"price": pipeline.predict(row)[0]})


if __name__ == "__main__":
    # Bis auf den abgeschalteten Neustart bei Änderungen die Zeile aus der Anleitung.
    app.run(port=8113, debug=True, use_reloader=False)
