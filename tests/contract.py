"""Der Vertrag: dieselben Fragen an jede Variante, und wie man sie dort stellt.

Eine neue Variante ist ein Eintrag in `VARIANTS`: ein Kontextmanager, der `ask` liefert.
`ask(payload)` gibt (Preise, Modellversion) zurück oder wirft `Rejected`.
"""

import asyncio
import functools
import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import NoReturn
from unittest import mock

import gradio_client
import httpx
import huggingface_hub
import joblib
import pandas as pd
import skops.io
from streamlit.testing.v1 import AppTest

import process
from aws import Aws, AwsError, local_aws
from aws import deploy as deploy_to_sagemaker
from azure_ml import Azure
from examples.compose_stack import secret as compose_secret
from examples.docker_image import build
from examples.drift_detection.detector import read as read_rows
from examples.huggingface_space import access as huggingface_access
from examples.huggingface_space import assemble
from examples.joblib_model import store as joblib_store
from examples.load_test import generate
from examples.pickle_model import signed, skops_store
from examples.pickle_model import store as pickle_store
from examples.price_model.predict import ARTIFACTS, PriceModel, load_metadata, load_model
from examples.price_model.schema import EXAMPLE, FEATURES, MAX_BATCH, InvalidStoneError, parse
from examples.service_logging.journal import read as read_log
from examples.versioning_git_dvc import project as versioned
from needs import skip_or_fail, tool
from vertex import PLACE, Vertex, VertexError, local_vertex
from vertex import deployed as deploy_to_vertex

Ask = Callable[[object], tuple[list[float], str]]
# Was richtig ist: (Preise, Modellversion) für gültige Steine, ohne Dienst gerechnet.
Reference = Callable[[list[dict]], tuple[list[float], str]]


class Rejected(Exception):  # noqa: N818 – im Vertrag heißt es so
    """Die Variante lehnt die Frage ab; `problems` ist [(Feld, Grund), …]."""

    def __init__(self, problems: list[tuple[str, str]], status: int | None = None) -> None:
        super().__init__(problems)
        self.problems, self.status = problems, status


def stone(**changes: object) -> dict:
    """Der Stein des Vertrags mit Änderungen; `None` lässt das Feld weg."""
    return {name: value for name, value in (EXAMPLE | changes).items() if value is not None}


VALID = {
    "example": stone(),
    "whole numbers": stone(carat=1, depth=61, table=55, x=6, y=6, z=4),
    "smallest stone": stone(carat=0.2, cut="Premium", clarity="SI2", x=3.73, y=3.68, z=2.31),
    "largest stone": stone(
        carat=5.01, cut="Fair", color="J", clarity="I1", x=10.74, y=10.54, z=6.98
    ),
    "best grades": stone(color="D", clarity="IF"),
    "worst grades": stone(cut="Fair", color="J", clarity="I1"),
    "far outside the data": stone(carat=900, x=0.001),
    "batch of one": [stone()],
    "batch of three": [stone(), stone(carat=1.5, x=7.3, y=7.3, z=4.5), stone(cut="Good")],
    "largest batch": [stone()] * MAX_BATCH,
}

INVALID = {  # Name: (Frage, Feld, an dem sie scheitert)
    "missing field": (stone(carat=None), "carat"),
    "extra field": (stone() | {"weight": 1.0}, "weight"),
    "field named like a kind": (stone() | {"stone": 1}, "stone"),
    "misspelt field": (stone(carat=None) | {"karat": 0.7}, "karat"),
    "number as text": (stone(depth="61.5"), "depth"),
    "number as boolean": (stone(table=True), "table"),
    "number as null": (stone() | {"x": None}, "x"),
    "number as list": (stone(x=[5.7]), "x"),
    "grade as number": (stone(cut=5), "cut"),
    "unknown grade": (stone(clarity="VS9"), "clarity"),
    "grade in wrong case": (stone(color="e"), "color"),
    "zero": (stone(z=0), "z"),
    "negative": (stone(carat=-0.7), "carat"),
    "far too large": (stone(y=1000.5), "y"),
    "empty object": ({}, "carat"),
    "null": (None, "body"),
    "text": ("0.7 Karat", "body"),
    "empty batch": ([], "body"),
    "batch that is too long": ([stone()] * (MAX_BATCH + 1), "body"),
    "second of batch is bad": ([stone(), stone(x=-1)], "1.x"),
    "batch of numbers": ([1, 2], "0"),
}
# NaN und Infinity kennt JSON nicht, Python schreibt sie trotzdem.
NOT_FINITE = {
    "not a number": (stone(carat=float("nan")), "carat"),
    "infinite": (stone(depth=float("inf")), "depth"),
}

INVALID_BODIES = {  # Name: (Rumpf, HTTP-Status); nur für Dienste, die HTTP sprechen
    "empty body": (b"", 422),
    "not JSON": (b"carat=0.7", 400),
    "broken JSON": (b'{"carat": 0.7,', 400),
    "not UTF-8": (b'{"cut": "\xff"}', 400),
    "deeply nested": (b"[" * 100_000, 400),
    "too large": (b" " * 300_000, 413),
}


def free_port() -> int:
    """Ein Port auf Loopback, den gerade niemand benutzt."""
    while True:
        # Unter denen, die das System selbst vergibt: Einen davon nähme sich bis zum Start des
        # Dienstes vielleicht eine andere Verbindung. Ab 30000 vergibt Kubernetes welche.
        port = 20_000 + secrets.randbelow(10_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def priced(answers: list[dict]) -> tuple[list[float], str]:
    """Gibt die Preise und die eine Modellversion zurück, die alle Antworten nennen."""
    (version,) = {answer["model_version"] for answer in answers}
    return [answer["price_usd"] for answer in answers], version


@contextmanager
def in_process(engine: str) -> Iterator[Ask]:
    """Das Modell im eigenen Prozess, ohne Dienst."""
    yield checked(load_model(engine))


def checked(model: PriceModel) -> Ask:
    """Stellt die Prüfung des Schemas vor ein Modell im selben Prozess."""

    def ask(payload: object) -> tuple[list[float], str]:
        try:
            return model.predict(parse(payload)), model.version
        except InvalidStoneError as error:
            raise Rejected([(p["field"], p["reason"]) for p in error.problems]) from None

    return ask


@contextmanager
def from_file(store: ModuleType) -> Iterator[Ask]:
    """Das Modell aus einer Datei: gespeichert und wieder geladen von `store`."""
    key = {signed.KEY: secrets.token_hex(signed.KEY_BYTES)}
    with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ, key):
        store.save(joblib.load(ARTIFACTS / "price_model.joblib"), Path(folder))
        pipeline, version = store.load(Path(folder))
    model = PriceModel(
        lambda stones: pipeline.predict(pd.DataFrame([stone.model_dump() for stone in stones])),
        version,
    )
    yield checked(model)


@contextmanager
def from_onnx_file() -> Iterator[Ask]:
    """Die ONNX-Datei in ihrer kleinen Umgebung."""
    with over_lines(["python:onnx_model", "-m", "examples.onnx_model.predict", ARTIFACTS]) as ask:
        yield ask


@contextmanager
def from_tracked_run() -> Iterator[Ask]:
    """Das Modell des Falls, in einem Lauf von MLflow abgelegt und daraus geladen."""
    with tempfile.TemporaryDirectory() as folder:
        store = ["python", "-m", "examples.experiment_tracking_mlflow.store"]
        process.output([*store, "save", folder])
        # Ein anderer Prozess als der, der speicherte: Der wüsste die Adresse noch.
        with over_lines([*store, "answer", folder]) as ask:
            yield ask


@contextmanager
def from_offline_run() -> Iterator[Ask]:
    """Das Modell des Falls, in einem Offline-Lauf von W&B abgelegt und daraus geholt."""
    require_environment("experiment_tracking_wandb")
    package = "examples.experiment_tracking_wandb"
    with tempfile.TemporaryDirectory() as folder:
        commands = [f"{package}.store", folder], [f"{package}.fetch", folder, f"{folder}/model"]
        process.output(["python:experiment_tracking_wandb", *one_after_another(*commands)])
        pipeline = skops.io.load(f"{folder}/model/{skops_store.MODEL}", trusted=skops_store.TRUSTED)
    model = PriceModel(
        lambda stones: pipeline.predict(pd.DataFrame([stone.model_dump() for stone in stones])),
        load_metadata()["model_version"],
    )
    yield checked(model)


def one_after_another(*commands: list[str]) -> list[str]:
    """Argumente für ein Python, das mehrere Module mit ihren Argumenten ausführt."""
    code = """
import importlib, json, sys
for command in json.loads(sys.argv[1]):
    module, *sys.argv[1:] = command
    if problem := importlib.import_module(module).main():
        sys.exit(problem)
"""
    return ["-c", code, json.dumps(commands)]


@contextmanager
def over_lines(command: list) -> Iterator[Ask]:
    """Ein Prozess, der je Zeile eine Frage beantwortet."""
    child = subprocess.Popen(
        process._command(command),
        cwd=process.ROOT,
        env=process._environment(None),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    )

    def ask(payload: object) -> tuple[list[float], str]:
        child.stdin.write(json.dumps(payload) + "\n")
        child.stdin.flush()
        reply = json.loads(child.stdout.readline())
        if "detail" in reply:
            raise Rejected([(p["field"], p["reason"]) for p in reply["detail"]])
        return priced(reply if isinstance(payload, list) else [reply])

    with child:  # schließt die Eingabe; daran endet der Prozess
        yield ask


@contextmanager
def over_http(
    command: list[str], env: dict | None = None, timeout: float = 30, workers: int = 1
) -> Iterator[Ask]:
    """Ein Dienst als eigener Prozess; `{port}` im Befehl wird ersetzt."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    service = process.serve(
        [part.format(port=port) for part in command],
        f"{url}/health/ready",
        timeout=timeout,
        env=env,
        workers=workers,
    )
    try:
        with asking(url) as ask:
            yield ask
    finally:
        service.stop()


@contextmanager
def writing() -> Iterator[tuple[Ask, Path]]:
    """Der FastAPI-Dienst mit Log, dazu dessen Ordner."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            part.replace("fastapi_service.app", "service_logging.logged") for part in FASTAPI
        ]
        with over_http(command, {"PRICE_LOG": folder}) as ask:
            yield ask, Path(folder)


@contextmanager
def seen_by_detector() -> Iterator[Ask]:
    """Der Dienst mit Log; geantwortet wird, was der Detektor für Drift darin liest."""
    profile = {
        "model_version": load_metadata()["model_version"],
        "columns": [*FEATURES, "price_usd"],
    }
    with writing() as (ask, folder):

        def logged(payload: object) -> tuple[list[float], str]:
            prices, _ = ask(payload)
            rows = read_rows(folder, profile)[0][-len(prices) :]
            return priced(rows)

        yield logged


@contextmanager
def with_service_log() -> Iterator[Ask]:
    """Der Dienst mit Log; es darf keine Antwort ändern und keine Zeile verlieren."""
    with writing() as (ask, folder):
        yield ask
        lines = list(read_log(folder))
        assert lines and None not in lines
        assert not [line for line in lines if line["event"] in ("not_logged", "lines_lost")]


@contextmanager
def through_router() -> Iterator[Ask]:
    """Der Router vor zwei Diensten; ohne Kennung des Nutzers antwortet der Kontrollarm."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        ports = [free_port(), free_port()]
        arms = [f"http://127.0.0.1:{port}" for port in ports]
        for port, arm in zip(ports, arms, strict=True):
            command = [part.format(port=port) for part in FASTAPI]
            stack.callback(process.serve(command, f"{arm}/health/ready").stop)
        router = ["python", "-m", "examples.ab_test.router", "--mode", "ab", "--salt", "contract"]
        router += ["--control", arms[0], "--treatment", arms[1], "--port", "{port}"]
        with over_http([*router, "--log", f"{folder}/exposures.jsonl"]) as ask:
            yield ask


@contextmanager
def from_slot() -> Iterator[Ask]:
    """Ein Platz der Zielumgebung, auf dem ein Modellordner läuft, ohne Docker."""
    with tempfile.TemporaryDirectory() as folder:
        wanted = {"model": str(ARTIFACTS), "model_version": load_metadata()["model_version"]}
        (Path(folder) / "production.json").write_text(json.dumps(wanted), encoding="utf-8")
        command = ["python", "-m", "examples.ci_cd_pipeline.slots", folder]
        with over_http([*command, "--slot", "production={port}"]) as ask:
            yield ask


@contextmanager
def asking(url: str) -> Iterator[Ask]:
    """Ein Client für einen Dienst, der schon läuft."""
    # Manche Dienste schließen eine stille Verbindung nach 2 s; eine Frage träfe sonst darauf.
    client = httpx.Client(base_url=url, timeout=30, limits=httpx.Limits(keepalive_expiry=1))

    def ask(payload: object) -> tuple[list[float], str]:
        if isinstance(payload, bytes):
            response = client.post("/predict", content=payload, headers=JSON)
        else:
            # json.dumps schreibt auch NaN; httpx verweigerte es schon beim Absenden.
            response = client.post("/predict", content=json.dumps(payload), headers=JSON)
        body = response.json()
        if response.is_client_error:
            problems = [(p["field"], p["reason"]) for p in body["detail"]]
            raise Rejected(problems, response.status_code)
        response.raise_for_status()
        return priced(body if isinstance(payload, list) else [body])

    with client:
        yield ask


@contextmanager
def through_load_balancer() -> Iterator[Ask]:
    """Die Replikate in Compose, gefragt über nginx davor."""
    tool("docker")
    process.output(["python", "-m", "examples.docker_image.build"], timeout=600)
    with tempfile.TemporaryDirectory() as folder, compose_stack(Path(folder)) as stack:
        stack("up", "--detach", "--wait")
        with asking(stack.url) as ask:
            yield ask


class ComposeStack:
    """Ein eigenes Projekt in Compose mit eigenem Port, damit nichts anderem etwas geschieht."""

    def __init__(self, secrets_folder: Path, *files: str) -> None:
        port = free_port()
        self.project, self.url = f"price-test-{port}", f"http://127.0.0.1:{port}"
        self.env = {"PRICE_PORT": str(port), "PRICE_SECRETS": str(secrets_folder)}
        names = [part for file in ("compose.yaml", *files) for part in ("-f", STACK / file)]
        self.command = ["docker", "compose", *names, "-p", self.project]
        compose_secret.create(secrets_folder)

    def __call__(self, *arguments: str, **env: str) -> str:
        """Führt einen Unterbefehl von `docker compose` aus und gibt seine Ausgabe zurück."""
        return process.output([*self.command, *arguments], timeout=180, env=self.env | env)


@contextmanager
def compose_stack(secrets_folder: Path, *files: str) -> Iterator[ComposeStack]:
    """Räumt am Ende alles ab, was unter diesem Projekt entstanden ist."""
    stack = ComposeStack(secrets_folder, *files)
    try:
        yield stack
    finally:
        stack("--profile", "*", "down", "--volumes", "--remove-orphans")


@contextmanager
def from_container() -> Iterator[Ask]:
    """Derselbe Dienst im Container, gebaut aus dem Stand der Dateien."""
    tool("docker")
    process.output(["python", "-m", "examples.docker_image.build"], timeout=600)
    with over_http(CONTAINER) as ask:
        yield ask


@contextmanager
def from_cluster() -> Iterator[Ask]:
    """Der Dienst im Cluster, erreicht über den Weg, den kubectl für Versuche öffnet."""
    with cluster_namespace("contract", "base") as namespace:
        forward = ["kubectl", "-n", namespace, "port-forward", "service/price-api", "{port}:80"]
        with over_http(forward) as ask:
            yield ask


def load_into_cluster() -> None:
    """Baut das Image des Preisdienstes und bringt es in den Cluster."""
    process.output(["python", "-m", "examples.docker_image.build"], timeout=600)
    process.output(["python", "-m", "examples.kubernetes_cluster.load_image", "price-api:1.0.0"])


@contextmanager
def cluster_namespace(purpose: str, folder: str) -> Iterator[str]:
    """Ein eigener Namensraum, in dem der Dienst aus diesem Ordner läuft; am Ende ist er fort."""
    tool("docker")
    tool("kubernetes")
    namespace = f"price-{purpose}-{secrets.token_hex(3)}"
    kubectl = ["kubectl", "-n", namespace]
    load_into_cluster()
    process.output(["kubectl", "create", "namespace", namespace])
    try:
        process.output(["python", "-m", "examples.kubernetes_cluster.secret", namespace])
        process.output([*kubectl, "apply", "-k", f"examples/kubernetes_cluster/{folder}"])
        process.output([*kubectl, "rollout", "status", "deployment/price-api", "--timeout=110s"])
        yield namespace
    finally:
        process.output(["kubectl", "delete", "namespace", namespace, "--wait=false"])


@contextmanager
def from_gradio() -> Iterator[Ask]:
    """Die Gradio-Oberfläche, gefragt über ihre API."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = ["python", "-m", "uvicorn", "examples.gradio_app.app:app", "--port", port]
    service = process.serve(command, f"{url}/health/ready", timeout=60)
    try:
        with gradio_api(url) as ask:
            yield ask
    finally:
        service.stop()


@contextmanager
def gradio_api(url: str) -> Iterator[Ask]:
    """Fragt eine laufende Gradio-Anwendung."""
    # Hier ohne TLS; sonst liest der Client von Gradio zu jeder Frage alle Zertifikate des Rechners.
    options = {"verbose": False, "analytics_enabled": False, "ssl_verify": False}
    client, other = gradio_client.Client(url, **options), httpx.Client()

    def ask(payload: object) -> tuple[list[float], str]:
        try:
            json.dumps(payload, allow_nan=False)
        except ValueError:
            reject(unchecked(payload))
        try:
            body = client.predict(payload, api_name="/predict")
        except gradio_client.exceptions.AppError as error:
            reject(str(error))
        return priced(body if isinstance(payload, list) else [body])

    def reject(message: str) -> NoReturn:
        raise Rejected([(p["field"], p["reason"]) for p in json.loads(message)["detail"]])

    def unchecked(payload: object) -> str:
        """NaN schickt gradio_client nicht ab; ein anderer Client täte es."""
        call = f"{url.rstrip('/')}/gradio_api/call/predict"
        body = json.dumps({"data": [payload]})
        event = other.post(call, content=body, headers=JSON).json()["event_id"]
        stream = other.get(f"{call}/{event}").text
        return json.loads(stream.split("data: ", 1)[1])["error"]

    try:
        yield ask
    finally:
        client.close()
        other.close()


@contextmanager
def local_hub() -> Iterator[tuple[str, dict[str, str]]]:
    """Die Nachbildung des Hugging Face Hubs; gibt (Adresse, Schlüssel je Rolle) zurück."""
    port = free_port()
    keys = huggingface_access.create()
    env = {"LOCAL_HUB_TOKENS": json.dumps(keys["accounts"])}
    command = ["python", "-m", "examples.local_cloud.hub", "--port", str(port)]
    service = process.serve(command, f"http://127.0.0.1:{port}/health/ready", env=env)
    # Den Ersatz für LFS bietet die Nachbildung nicht; gelesen wird die Variable nur beim Import.
    with mock.patch.object(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True):
        huggingface_hub.utils.disable_progress_bars()
        try:
            yield f"http://127.0.0.1:{port}", keys["tokens"]
        finally:
            service.stop()


MODEL_REPOSITORY, SPACE = "kurs/price-model", "kurs/price"


def deploy_space(api: huggingface_hub.HfApi, key: str, folder: Path) -> None:
    """Legt Modell und Space an, lädt beide hoch und wartet, bis der Space läuft."""
    assemble.main(folder)
    api.create_repo(MODEL_REPOSITORY, private=True)
    api.upload_folder(repo_id=MODEL_REPOSITORY, folder_path=folder / "model")
    api.create_repo(
        SPACE,
        repo_type="space",
        space_sdk="gradio",
        space_variables=[{"key": "MODEL_REPO", "value": MODEL_REPOSITORY}],
        space_secrets=[{"key": "HF_TOKEN", "value": key}],
    )
    api.upload_folder(repo_id=SPACE, repo_type="space", folder_path=folder / "space")
    stage = api.wait_for_space(SPACE, timeout=150, poll_interval=0.2).stage
    assert stage == "RUNNING", "".join(api.fetch_space_logs(SPACE))


@contextmanager
def from_space() -> Iterator[Ask]:
    """Der Preisrechner als Space: hochgeladen und vom Space-Runner gestartet."""
    with local_hub() as (endpoint, tokens), tempfile.TemporaryDirectory() as folder:
        api = huggingface_hub.HfApi(endpoint, token=tokens["deploy"])
        deploy_space(api, tokens["space"], Path(folder))
        with gradio_api(api.space_info(SPACE).host) as ask:
            yield ask


@functools.cache
def require_environment(slug: str) -> None:
    """Überspringt, wenn die Umgebung eines Kapitels fehlt; in CI ist das ein Fehler."""
    try:
        process.output([f"python:{slug}", "-c", ""])
    except process.ProcessError as error:
        skip_or_fail(str(error))


@contextmanager
def from_ray() -> Iterator[Ask]:
    """Derselbe Dienst auf einem eigenen Cluster von Ray Serve."""
    require_environment("auto_scaling")
    with over_http(RAY, timeout=120) as ask:
        yield ask


@contextmanager
def from_tensorflow() -> Iterator[Ask]:
    """Das SavedModel hinter der REST-Schnittstelle von TensorFlow Serving."""
    require_environment("tensorflow_savedmodel")
    port = free_port()
    url = f"http://127.0.0.1:{port}/v1/models/price"
    command = ["python:tensorflow_savedmodel", "-m", "examples.tensorflow_savedmodel.server"]
    service = process.serve([*command, "--rest_api_port", port], url, timeout=60)
    client = httpx.Client(timeout=30)

    def ask(payload: object) -> tuple[list[float], str]:
        # Der Umschlag kennt nur Listen; ein einzelner Stein ist eine mit einem Element.
        single = isinstance(payload, dict)
        content = json.dumps({"instances": [payload] if single else payload})
        response = client.post(f"{url}:predict", content=content, headers=JSON)
        body = response.json()
        if response.is_client_error:
            problems = [(p["field"], p["reason"]) for p in body["detail"]]
            # Wer nur die Form von TensorFlow Serving kennt, erfährt dasselbe.
            assert response.status_code == 400
            assert body["error"] == "; ".join(f"{field}: {reason}" for field, reason in problems)
            raise Rejected([(question_field(field, single), why) for field, why in problems])
        response.raise_for_status()
        return priced(body["predictions"])

    def question_field(field: str, single: bool) -> str:
        """Übersetzt ein Feld des Umschlags in das der Frage darin."""
        if field == "instances":
            return "body"
        return "body" if single and field == "0" else field.removeprefix("0." if single else "")

    try:
        yield ask
    finally:
        client.close()
        service.stop()


@contextmanager
def aws_account() -> Iterator[Aws]:
    """AWS; das Konto darin entsteht nur einmal, auch wenn zweimal ausgeliefert wird."""
    require_environment("local_cloud")
    with local_aws(free_port()) as aws:
        aws.account = functools.cache(aws.account)
        yield aws


@contextmanager
def from_sagemaker(kind: str) -> Iterator[Ask]:
    """Ein Endpunkt von SageMaker, gefragt mit InvokeEndpoint; `kind` ist das Archiv."""
    with tempfile.TemporaryDirectory() as folder, PLATFORMS["sagemaker_endpoint"]() as aws:
        with suppress(AwsError):  # vor der ersten Variante gibt es noch keinen Endpunkt
            aws.call("sagemaker", "delete_endpoint", EndpointName="price")
            aws.call("sagemaker", "delete_endpoint_config", EndpointConfigName="price-1")
        account = deploy_to_sagemaker(aws, kind, Path(folder))
        client = aws.assume(account["roles"]["client"])
        question = {"EndpointName": "price", "ContentType": "application/json"}

        def ask(payload: object) -> tuple[list[float], str]:
            call = question | {"Body": json.dumps(payload)}
            try:
                answer = aws.call("sagemaker-runtime", "invoke_endpoint", client, **call)
            except AwsError as error:
                # Der Umschlag: Was der Container sagte, steht im ModelError.
                assert (error.code, error.status) == ("ModelError", 424)
                # Hinter der Antwort eines Handlers hängt das Toolkit den Traceback an.
                body = json.loads(error.text.split("\n")[0])
                problems = [(p["field"], p["reason"]) for p in body["detail"]]
                raise Rejected(problems, error.original) from None
            body = json.loads(answer["Body"])
            return priced(body if isinstance(payload, list) else [body])

        yield ask


@contextmanager
def google_project() -> Iterator[Vertex]:
    """Die Agent Platform; das Projekt legt erst die erste Variante an."""
    require_environment("local_cloud")
    with local_vertex(free_port()) as vertex:
        yield vertex


@contextmanager
def from_vertex(kind: str) -> Iterator[Ask]:
    """Ein Endpunkt der Agent Platform, gefragt mit `predict` des SDK; `kind` ist das Image."""
    with PLATFORMS["vertex_ai_endpoint"]() as vertex:
        if vertex.emails:  # die Konten des Projekts: Es gibt schon einen Endpunkt mit einem Modell
            vertex.run("Endpoint('price').undeploy_all() and None", "deployer")
            vertex.deploy(vertex.upload(kind, model_id=f"price-{kind}"))
        else:
            deploy_to_vertex(vertex, kind)
        url = f"{vertex.url}/v1/{PLACE}/endpoints/price:predict"
        headers = JSON | {"Authorization": f"Bearer {vertex.token}"}

        def predict(instances: list) -> list[dict]:
            try:
                json.dumps(instances, allow_nan=False)
                code = "endpoint('price', who).predict(instances=instances)"
                return vertex.run(code, "client", instances=instances)["predictions"]
            except VertexError as error:
                assert error.status == 400
                reject(error.message[error.message.index("{") :])
            except ValueError:  # NaN schickt das SDK nicht ab; ein anderer Client täte es
                content = json.dumps({"instances": instances})
                reject(httpx.post(url, content=content, headers=headers).json()["error"]["message"])

        def ask(payload: object) -> tuple[list[float], str]:
            # Der Umschlag kennt nur Listen; ein einzelner Stein ist eine mit einem Element.
            single = not isinstance(payload, list)
            try:
                answers = predict([payload] if single else payload)
            except Rejected as rejected:
                problems = [(envelope_field(f, single), why) for f, why in rejected.problems]
                raise Rejected(problems, rejected.status) from None
            return priced(answers)

        def reject(message: str) -> NoReturn:
            raise Rejected([(p["field"], p["reason"]) for p in json.loads(message)["detail"]])

        yield ask


def envelope_field(field: str, single: bool) -> str:
    """Übersetzt ein Feld aus `instances` in das der Frage darin."""
    inner = field.removeprefix("instances").removeprefix(".")
    return (inner.removeprefix("0").removeprefix(".") if single else inner) or "body"


@contextmanager
def azure_workspace() -> Iterator[Azure]:
    """Ein Arbeitsbereich von Azure, in dem Modelle und Umgebung angemeldet sind."""
    require_environment("local_cloud")
    require_environment("azureml_server")
    with tempfile.TemporaryDirectory() as folder, Azure(free_port(), Path(folder)) as azure:
        azure.register()
        yield azure


@contextmanager
def from_azure(deployment: str) -> Iterator[Ask]:
    """Ein Online-Endpunkt von Azure, gefragt mit seinem Schlüssel; `deployment` steht dahinter."""
    with PLATFORMS["azure_ml_endpoint"]() as azure:
        azure.deploy(deployment)  # bekommt allen Verkehr, auch den eines Deployments davor
        key = azure.key()

        def ask(payload: object) -> tuple[list[float], str]:
            # Der eigene Container bestimmt Pfad und Umschlag selbst.
            own = deployment == "container"
            body = payload if own else {"data": payload}
            answer = azure.ask(body, key, path="predict" if own else "score")
            if answer.status_code == 424:
                # Der Umschlag von Azure: Den Status des Modells nennt ein Header.
                problems = [(p["field"], p["reason"]) for p in answer.json()["detail"]]
                raise Rejected(problems, int(answer.headers["ms-azureml-model-error-statuscode"]))
            answer.raise_for_status()
            return priced(answer.json() if isinstance(payload, list) else [answer.json()])

        yield ask


@functools.cache
def bare_model() -> Reference:
    """Das Modell des Falls ohne Umwege: die Pipeline von scikit-learn."""
    pipeline = joblib.load(ARTIFACTS / "price_model.joblib")
    version = load_metadata()["model_version"]

    @functools.cache
    def prices(question: str) -> list[float]:
        return pipeline.predict(pd.DataFrame(json.loads(question))).tolist()

    return lambda stones: (prices(json.dumps(stones)), version)


def keras_model() -> Reference:
    """Das Keras-Modell im Prozess seiner Umgebung; einmal für alle gültigen Fragen gefragt."""
    known = {json.dumps(item) for question in VALID.values() for item in as_list(question)}
    asked = sorted(known)
    command = ["python:tensorflow_savedmodel", "-m", "examples.tensorflow_savedmodel.reference"]
    answer = json.loads(process.output([*command, f"[{', '.join(asked)}]"]))
    prices = dict(zip(asked, answer["prices"], strict=True))
    return lambda stones: (
        [prices[json.dumps(item)] for item in stones],
        answer["model_version"],
    )


def as_list(question: object) -> list[dict]:
    """Ein Stein als Liste mit einem Element; eine Liste bleibt, wie sie ist."""
    return question if isinstance(question, list) else [question]


@contextmanager
def from_streamlit() -> Iterator[Ask]:
    """Die Streamlit-Anwendung ohne Browser: Frage eintragen, Knopf drücken, Antwort ablesen."""
    script = process.ROOT / "examples" / "streamlit_app" / "app.py"
    app = AppTest.from_file(script, default_timeout=60).run()

    def ask(payload: object) -> tuple[list[float], str]:
        app.text_area(key="question").set_value(json.dumps(payload))
        app.button(key="ask").click().run()
        assert not app.exception
        body = json.loads(app.code[0].value)
        if "detail" in body:
            raise Rejected([(p["field"], p["reason"]) for p in body["detail"]])
        return priced(body if isinstance(payload, list) else [body])

    yield ask


@contextmanager
def through_haproxy() -> Iterator[Ask]:
    """Vier Preisdienste hinter HAProxy, gefragt unter dessen Adresse."""
    tool("haproxy")
    env = {name: str(free_port()) for name in ("PORT_1", "PORT_2", "PORT_3", "PORT_4", "TCP_PORT")}
    with tempfile.TemporaryDirectory() as folder:
        command = ["python", "-m", "examples.load_balancing.cluster", folder, "--port", "{port}"]
        with over_http(command, env, timeout=120) as ask:
            yield ask


@contextmanager
def through_load_generator() -> Iterator[Ask]:
    """Der Dienst unter Last: Ein Generator gibt sie, ein zweiter stellt die Fragen."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = ["python", "-m", "uvicorn", "examples.load_test.service:app", "--port", port]
    service = process.serve(command, f"{url}/health/ready", env={"SEAT_SECONDS": "0.001"})
    load = [sys.executable, "-m", "examples.load_test.generate", url, "--rate", "20"]
    crowd = subprocess.Popen([*load, "--seconds", "3600", "--quiet"], cwd=process.ROOT)

    async def answer(body: bytes) -> generate.Sample:
        target = generate.Target(url, timeout=30)
        sample = await target.ask(body, 0, asyncio.get_running_loop().time())
        target.close()
        return sample

    def ask(payload: object) -> tuple[list[float], str]:
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        sample = asyncio.run(answer(body))
        assert sample.status.isdecimal(), f"Keine Antwort: {sample.status}"
        content = json.loads(sample.answer)
        if sample.status.startswith("4"):
            problems = [(p["field"], p["reason"]) for p in content["detail"]]
            raise Rejected(problems, int(sample.status))
        assert sample.status == "200" and crowd.poll() is None
        return priced(content if isinstance(content, list) else [content])

    try:
        yield ask
    finally:
        crowd.kill()
        crowd.wait()
        service.stop()


@contextmanager
def from_git_and_dvc() -> Iterator[Ask]:
    """Der Dienst mit einem Modell aus dem Klon: trainiert, hochgeschoben, mit DVC geholt."""
    require_environment("versioning_git_dvc")
    with tempfile.TemporaryDirectory() as folder:
        project = versioned.create(Path(folder))
        versioned.release(project, "november", "1.0.0")
        clone = versioned.restore(project, "1.0.0")
        with over_http(FASTAPI, {"PRICE_MODEL_DIR": str(clone / "model")}) as ask:
            yield ask


@contextmanager
def mlflow_server(folder: Path, port: int | None = None) -> Iterator[str]:
    """Ein MLflow-Server mit Datenbank und Artefakten in diesem Ordner; gibt seine Adresse."""
    port = port or free_port()
    url = f"http://127.0.0.1:{port}"
    command = ["mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    command += ["--artifacts-destination", folder / "artifacts"]
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    service = process.serve(command, f"{url}/health", timeout=120, env=quiet)
    try:
        yield url
    finally:
        service.stop()


@contextmanager
def from_registry() -> Iterator[Ask]:
    """Der Dienst, der dem Alias champion folgt: das Modell registriert, freigegeben, gesetzt."""
    with tempfile.TemporaryDirectory() as folder, mlflow_server(Path(folder)) as url:
        step = ["examples.model_registry.registry", "--tracking-uri", url]
        commands = (
            [*step, "register", "--by", "anna"],
            [*step, "approve", "--version", "1", "--by", "ben", "--because", "test"],
            [*step, "promote", "--version", "1", "--by", "ben"],
        )
        process.output(["python", *one_after_another(*commands)])
        command = ["python", "-m", "examples.model_registry.service", "--tracking-uri", url]
        with over_http([*command, "--port", "{port}"], timeout=60) as ask:
            yield ask


JSON = {"Content-Type": "application/json"}
FASTAPI = ["python", "-m", "uvicorn", "examples.fastapi_service.app:app", "--port", "{port}"]
FLASK = ["python", "-m", "examples.flask_service.serve", "--port", "{port}"]
MONITORED = ["python", "-m", "examples.monitoring_alerting.serve", "--workers", "2"]
MONITORED += ["--port", "{port}"]
STACK = process.ROOT / "examples" / "compose_stack"
RAY = ["python:auto_scaling", "-m", "examples.auto_scaling.ray_service", "--port", "{port}"]
GUNICORN = ["python", "-m", "gunicorn", "--config", "examples/flask_service/gunicorn_conf.py"]

# So läuft der Container auch im Kapitel: nichts beschreibbar, keine Sonderrechte, begrenzt.
CONTAINER = [
    *("docker", "run", "--rm", "--name", "docker-image-{port}", "--read-only"),
    *("--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--memory", "256m"),
    *("--publish", "127.0.0.1:{port}:8000", build.TAG),
]

# Kapitel, deren Varianten auf derselben Plattform laufen; wer sie nacheinander fragt, kann hier
# eine eintragen, die schon läuft.
PLATFORMS: dict[str, Callable[[], AbstractContextManager]] = {
    "sagemaker_endpoint": aws_account,
    "vertex_ai_endpoint": google_project,
    "azure_ml_endpoint": azure_workspace,
}
VARIANTS: dict[str, Callable[[], AbstractContextManager[Ask]]] = {
    "price_model": lambda: in_process("onnx"),
    "price_model with scikit-learn": lambda: in_process("sklearn"),
    "joblib_model": lambda: from_file(joblib_store),
    "pickle_model": lambda: from_file(pickle_store),
    "pickle_model with skops": lambda: from_file(skops_store),
    "onnx_model": from_onnx_file,
    "gradio_app": from_gradio,
    "huggingface_space": from_space,
    "tensorflow_savedmodel": from_tensorflow,
    "streamlit_app": from_streamlit,
    "flask_service": lambda: over_http(FLASK),
    "flask_service with gunicorn": lambda: over_http(
        [*GUNICORN, "--preload", "--bind", "127.0.0.1:{port}"]
    ),
    "sagemaker_endpoint": lambda: from_sagemaker("service"),
    "sagemaker_endpoint with handlers": lambda: from_sagemaker("handlers"),
    "vertex_ai_endpoint": lambda: from_vertex("service"),
    "vertex_ai_endpoint with predictor": lambda: from_vertex("predictor"),
    "azure_ml_endpoint": lambda: from_azure("blue"),
    "azure_ml_endpoint with container": lambda: from_azure("container"),
    "fastapi_service": lambda: over_http(FASTAPI),
    "fastapi_service with scikit-learn": lambda: over_http(FASTAPI, {"PRICE_ENGINE": "sklearn"}),
    "docker_image": from_container,
    "compose_stack": through_load_balancer,
    "kubernetes_cluster": from_cluster,
    "load_test": through_load_generator,
    "load_balancing": through_haproxy,
    "auto_scaling": from_ray,
    "monitoring_alerting": lambda: over_http(MONITORED, timeout=60, workers=2),
    "service_logging": with_service_log,
    "drift_detection": seen_by_detector,
    "versioning_git_dvc": from_git_and_dvc,
    "experiment_tracking_mlflow": from_tracked_run,
    "model_registry": from_registry,
    "ci_cd_pipeline": from_slot,
    "ab_test": through_router,
    "experiment_tracking_wandb": from_offline_run,
}
# Ein anderes Modell wird mit sich selbst verglichen, alle übrigen mit dem des Falls.
REFERENCES: dict[str, Callable[[], Reference]] = {"tensorflow_savedmodel": keras_model}
HTTP_SERVICES = (
    *("flask_service", "fastapi_service", "docker_image", "compose_stack"),
    *("kubernetes_cluster", "load_test", "load_balancing", "auto_scaling", "service_logging"),
    *("monitoring_alerting", "model_registry", "ab_test", "ci_cd_pipeline"),
)
# Nur im Netz des Rechners zu erreichen.
OUTSIDE = {"docker_image", "compose_stack", "kubernetes_cluster"}
HTTP_VARIANTS = [name for name in VARIANTS if name.startswith(HTTP_SERVICES)]
