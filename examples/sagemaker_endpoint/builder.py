"""Das Modell mit dem SageMaker Python SDK v3 ausliefern, im eigenen Prozess statt auf AWS.

Läuft in der Umgebung sagemaker_v3: `python -m examples.sagemaker_endpoint.builder BUCKET '[…]'`
Ausgabe: was das SDK gebaut hat und die Preise der Steine, als JSON. Auch im eigenen Prozess
fragt das SDK nach dem Bucket; Zugangsdaten und Adresse nimmt es aus der Umgebung.
"""

import contextlib
import json
import os
import sys
from pathlib import Path

from examples.price_model.predict import ARTIFACTS, ModelMissingError, load_model
from examples.price_model.schema import EXAMPLE, InvalidStoneError, parse

# Vor dem SDK, dessen Import dauert: Eine Frage, die nicht gilt, meldet sich sofort.
try:
    BUCKET, STONES = sys.argv[1], json.loads(sys.argv[2])
    parse(STONES)
except IndexError:
    sys.exit(f"Aufruf: python -m {__spec__.name} BUCKET '[{{…}}]'")
except (ValueError, InvalidStoneError) as error:
    sys.exit(f"Keine gültige Frage: {error}")

# Das SDK liest beides schon beim Import: Ohne Region bricht es dort ab.
os.environ.setdefault("AWS_DEFAULT_REGION", "eu-central-1")
os.environ["SAGEMAKER_USER_CONFIG_OVERRIDE"] = str(Path(__file__).with_name("telemetry_off.yaml"))
# Das SDK fragt sonst nach Rechten der Rolle, mit einem Aufruf, den moto nicht kennt.
os.environ.setdefault("SAGEMAKER_VALIDATE_ROLE", "false")

import boto3
from botocore.exceptions import BotoCoreError, ClientError
from sagemaker.core.helper.session_helper import Session
from sagemaker.serve import ModelBuilder
from sagemaker.serve.builder.schema_builder import SchemaBuilder
from sagemaker.serve.mode.function_pointers import Mode
from sagemaker.serve.spec.inference_spec import InferenceSpec

ANSWER = {"predictions": [{"price_usd": 1.0, "model_version": "1.0.0"}]}


class PriceSpec(InferenceSpec):
    """Was das SDK vom Modell wissen muss: wie man es lädt und wie man es fragt."""

    def load(self, model_dir: str):
        """Lädt das Modell; im eigenen Prozess nennt das SDK keinen Ordner."""
        return load_model("onnx", Path(model_dir) if model_dir else ARTIFACTS)

    def invoke(self, input_object: dict, model) -> dict:
        """Beantwortet {"instances": […]}."""
        prices = model.predict(parse(input_object["instances"]))
        return {"predictions": [{"price_usd": p, "model_version": model.version} for p in prices]}


def main() -> None:
    """Baut, startet und fragt das Modell; es endet mit dem Prozess."""
    # Das SDK spricht auf beiden Kanälen viel; in der Ausgabe soll nur die Antwort stehen.
    try:
        with contextlib.redirect_stdout(sys.stderr):
            answer = deploy(BUCKET, STONES)
    except (ModelMissingError, BotoCoreError, ClientError) as error:
        sys.exit(f"Nicht ausgeliefert: {error}")
    print(json.dumps(answer))


def deploy(bucket: str, stones: list) -> dict:
    """Der Weg des SDK: beschreiben, bauen, ausliefern, fragen."""
    session = Session(boto_session=boto3.Session(), default_bucket=bucket)
    builder = ModelBuilder(
        inference_spec=PriceSpec(),
        schema_builder=SchemaBuilder({"instances": [EXAMPLE]}, ANSWER),
        mode=Mode.IN_PROCESS,
        model_path=str(ARTIFACTS),
        role_arn="arn:aws:iam::123456789012:role/unused",
        sagemaker_session=session,
    )
    built = builder.build()
    endpoint = builder.deploy_local(endpoint_name="price")
    body = endpoint.invoke(body={"instances": stones}).body
    return {
        "built": type(built).__name__,
        "endpoint": type(endpoint).__name__,
        "predictions": body["predictions"] if isinstance(body, dict) else str(body),
    }


if __name__ == "__main__":
    main()
