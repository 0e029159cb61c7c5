"""AWS für Tests und Vertrag: boto3 lebt in der Umgebung local_cloud, also in einem Prozess.

Je Zeile ein Aufruf als JSON; zurück kommt das Ergebnis oder der Fehler, wie ihn boto3 meldet.
"""

import base64
import json
import secrets
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import process

REGION = "eu-central-1"
ENVIRONMENT = "local_cloud"
LOOP = """
import base64, functools, json, os, sys
import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

@functools.cache
def client(name, credentials):
    return boto3.client(name, config=Config(retries={"total_max_attempts": 1}), **dict(credentials))

for line in sys.stdin:
    name, operation, credentials, arguments = json.loads(line)
    arguments = {k: base64.b64decode(v["base64"]) if isinstance(v, dict) and "base64" in v else v
                 for k, v in arguments.items()}
    try:
        answer = getattr(client(name, tuple(sorted(credentials.items()))), operation)(**arguments)
        answer = {"status": answer.pop("ResponseMetadata")["HTTPStatusCode"]} | answer
        if "Body" in answer:
            answer["Body"] = answer["Body"].read().decode()
    except ClientError as error:
        answer = {"error": error.response["Error"]} | {
            "status": error.response["ResponseMetadata"]["HTTPStatusCode"],
            "original": error.response.get("OriginalStatusCode"),
            "text": error.response.get("OriginalMessage"),
        }
    except BotoCoreError as error:
        answer = {"error": {"Code": type(error).__name__, "Message": str(error)}, "status": None}
    print(json.dumps(answer, default=str), flush=True)
"""


class AwsError(Exception):
    """Ein Fehler von AWS; bei `ModelError` steht in `original` der Status des Containers."""

    def __init__(self, answer: dict) -> None:
        super().__init__(f"{answer['error']['Code']}: {answer['error'].get('Message')}")
        self.code, self.message = answer["error"]["Code"], answer["error"].get("Message", "")
        self.status, self.original = answer["status"], answer.get("original")
        self.text = answer.get("text")


class Aws:
    """Ein Prozess mit boto3; `root` sind die Zugangsdaten des Kontoinhabers."""

    def __init__(self, port: int, root: dict[str, str] | None = None) -> None:
        self.root = root or {
            "AWS_ACCESS_KEY_ID": f"AKIA{secrets.token_hex(8).upper()}",
            "AWS_SECRET_ACCESS_KEY": secrets.token_hex(20),
        }
        self.env = self.root | {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        self.url = self.env["AWS_ENDPOINT_URL"]
        self._child = subprocess.Popen(
            process._command([f"python:{ENVIRONMENT}", "-c", LOOP]),
            cwd=process.ROOT,
            env=process._environment(self.env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._child.__exit__(None, None, None)  # schließt die Eingabe; daran endet der Prozess

    def send(self, service: str, operation: str, key: dict | None = None, **arguments) -> None:
        """Schickt einen Aufruf ab, ohne auf die Antwort zu warten."""
        self._child.stdin.write(json.dumps([service, operation, key or {}, arguments]) + "\n")
        self._child.stdin.flush()

    def receive(self) -> dict:
        """Liest die nächste Antwort oder wirft `AwsError`."""
        answer = json.loads(self._child.stdout.readline())
        if "error" in answer:
            raise AwsError(answer)
        return answer

    def call(self, service: str, operation: str, key: dict | None = None, **arguments) -> dict:
        """Ein Aufruf von boto3, mit den Zugangsdaten in `key` oder denen des Kontoinhabers."""
        self.send(service, operation, key, **arguments)
        return self.receive()

    def assume(self, role: str) -> dict:
        """Befristete Zugangsdaten einer Rolle, so, wie boto3 sie annimmt."""
        arguments = {"RoleArn": role, "RoleSessionName": "test"}
        given = self.call("sts", "assume_role", **arguments)["Credentials"]
        return {
            "aws_access_key_id": given["AccessKeyId"],
            "aws_secret_access_key": given["SecretAccessKey"],
            "aws_session_token": given["SessionToken"],
        }

    def account(self, command: str) -> dict | None:
        """Führt einen Befehl aus examples/sagemaker_endpoint/account.py aus."""
        module = ["-m", "examples.sagemaker_endpoint.account", command]
        said = process.output([f"python:{ENVIRONMENT}", *module], env=self.env)
        return json.loads(said) if said else None


@contextmanager
def local_aws(port: int) -> Iterator[Aws]:
    """Die Nachbildung als Prozess und ein boto3, das mit ihr spricht."""
    with Aws(port) as aws:
        module = ["-m", "examples.local_cloud.sagemaker", "--port", port]
        service = process.serve(
            [f"python:{ENVIRONMENT}", *module], f"{aws.url}/health/ready", timeout=60, env=aws.root
        )
        aws.service = service
        try:
            yield aws
        finally:
            service.stop()


def packed(kind: str, folder: Path) -> dict[str, str]:
    """Packt model.tar.gz als Argument für `put_object`."""
    target = folder / f"{kind}.tar.gz"
    process.output(["python", "-m", "examples.sagemaker_endpoint.package", kind, target])
    return encoded(target.read_bytes())


def encoded(content: bytes) -> dict[str, str]:
    """Bytes, wie sie in einer Zeile JSON reisen."""
    return {"base64": base64.b64encode(content).decode()}


def deploy(aws: Aws, kind: str, folder: Path) -> dict:
    """Liefert das Modell als Endpunkt `price` aus und gibt das Konto zurück."""
    account = aws.account("create")
    key = f"price/{kind}.tar.gz"
    aws.call("s3", "put_object", Bucket=account["bucket"], Key=key, Body=packed(kind, folder))
    aws.call(
        "sagemaker",
        "create_model",
        ModelName=f"price-{kind}",
        ExecutionRoleArn=account["roles"]["endpoint"],
        PrimaryContainer={
            "Image": account["images"][f"price-{kind}"],
            "ModelDataUrl": f"s3://{account['bucket']}/{key}",
        },
    )
    variants = [variant(kind)]
    aws.call(
        "sagemaker",
        "create_endpoint_config",
        EndpointConfigName="price-1",
        ProductionVariants=variants,
    )
    aws.call("sagemaker", "create_endpoint", EndpointName="price", EndpointConfigName="price-1")
    assert settled(aws)["EndpointStatus"] == "InService"
    return account


def variant(name: str, model: str = "", weight: float = 1) -> dict:
    """Eine Variante mit einer Maschine."""
    machine = {"InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    model = model or f"price-{name}"
    return machine | {"VariantName": name, "ModelName": model, "InitialVariantWeight": weight}


def settled(aws: Aws, seconds: float = 120) -> dict:
    """Wartet, bis der Endpunkt `price` nicht mehr im Umbau ist."""
    deadline = time.monotonic() + seconds
    while True:
        endpoint = aws.call("sagemaker", "describe_endpoint", EndpointName="price")
        if endpoint["EndpointStatus"] not in ("Creating", "Updating"):
            return endpoint
        assert time.monotonic() < deadline, endpoint
        time.sleep(0.2)
