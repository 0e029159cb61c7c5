"""Was der Inferenzserver von Azure aufruft: `init` einmal beim Start, `run` für jede Anfrage."""

import os
from pathlib import Path

from azureml_inference_server_http.api.aml_response import AMLResponse
from inference_schema.parameter_types.standard_py_parameter_type import StandardPythonParameterType
from inference_schema.schema_decorators import input_schema, output_schema

from examples.price_model.predict import PriceModel, load_model
from examples.price_model.schema import EXAMPLE, InvalidStoneError, Stone, parse

model: PriceModel
ANSWER = [{"price_usd": 2987.87, "model_version": "1.0.0"}]


class Stones(StandardPythonParameterType):
    """Beschreibt die Frage in swagger.json und lässt sie ungeprüft durch.

    Scheitert ein Typ von `inference-schema`, so gilt das als Fehler von `run`: Status 500.
    Deshalb prüft `run` selbst und kann sagen, dass der Fragende sich geirrt hat.
    """

    def __init__(self) -> None:
        super().__init__([EXAMPLE])
        self.sample_data_type = object  # auch ein einzelner Stein kommt bis `run`

    def input_to_swagger(self) -> dict:
        """Eine Liste von Steinen, beschrieben vom Schema des Falls."""
        return {
            "type": "array",
            "items": Stone.model_json_schema(),
            "example": self.sample_input,
        }


def init() -> None:
    """Lädt das Modell; der Ordner des Modells trägt den Namen, unter dem er hochgeladen wurde."""
    global model
    folder = next(Path(os.environ["AZUREML_MODEL_DIR"]).rglob("metadata.json")).parent
    model = load_model(os.environ.get("PRICE_ENGINE", "onnx"), folder)


@input_schema("data", Stones())
@output_schema(StandardPythonParameterType(ANSWER))
def run(data: object) -> AMLResponse | list[dict] | dict:
    """Beantwortet {"data": Stein oder Liste von Steinen}."""
    try:
        stones = parse(data)
    except InvalidStoneError as error:
        return AMLResponse({"detail": error.problems}, 422, json_str=True)
    prices = [
        {"price_usd": price, "model_version": model.version} for price in model.predict(stones)
    ]
    return prices if isinstance(data, list) else prices[0]
