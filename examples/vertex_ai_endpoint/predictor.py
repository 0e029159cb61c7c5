"""Was der Vorhersageserver des SDK vom Modell wissen muss: eine Klasse mit vier Methoden."""

from fastapi import HTTPException
from google.cloud.aiplatform.prediction.predictor import Predictor
from pydantic import ValidationError

from examples.price_model.predict import load_model
from examples.price_model.schema import Stone, explain
from examples.vertex_ai_endpoint.artifacts import fetch
from examples.vertex_ai_endpoint.envelope import Instances


class PricePredictor(Predictor):
    """Die Pipeline von scikit-learn, mit der Prüfung des Falls davor."""

    def load(self, artifacts_uri: str, **kwargs) -> None:
        """Holt und lädt das Modell, einmal beim Start."""
        self._model = load_model("sklearn", fetch(artifacts_uri))

    def preprocess(self, prediction_input: dict) -> list[Stone]:
        """Prüft die Frage; ohne `HTTPException` hieße auch die falsche 500."""
        try:
            return Instances.model_validate(prediction_input).instances
        except ValidationError as error:
            raise HTTPException(422, explain(error.errors())) from None

    def predict(self, instances: list[Stone]) -> list[float]:
        """Rechnet."""
        return self._model.predict(instances)

    def postprocess(self, prediction_results: list[float]) -> dict:
        """Packt die Preise in den Umschlag."""
        prices = [
            {"price_usd": price, "model_version": self._model.version}
            for price in prediction_results
        ]
        return {"predictions": prices}
