"""Google Cloud für Tests und Vertrag: Das SDK lebt in der Umgebung local_cloud, also im Prozess.

Je Zeile ein Ausdruck als JSON; zurück kommt das Ergebnis oder der Fehler, wie ihn das SDK meldet.
"""

import json
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

import process

ENVIRONMENT, PROJECT, REGION = "local_cloud", "kurs-projekt", "europe-west3"
PLACE = f"projects/{PROJECT}/locations/{REGION}"
SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]
ROUTES = {
    "serving_container_predict_route": "/v1/predict",
    "serving_container_health_route": "/health/ready",
}
LOOP = """
import contextlib, functools, json, logging, os, sys
from google.api_core.exceptions import GoogleAPICallError
from google.auth import impersonated_credentials
from google.auth.exceptions import GoogleAuthError
from google.cloud import aiplatform, storage
from google.oauth2.credentials import Credentials
logging.disable(logging.INFO)
url, project, region, scope = sys.argv[1:]

@functools.cache
def credentials(who):
    owner = Credentials(os.environ["LOCAL_GOOGLE_TOKEN"])
    if who == "owner":
        return owner
    if "@" not in who:
        return Credentials(who)
    tokens = f"{url}/v1/projects/-/serviceAccounts/{who}:generateAccessToken"
    return impersonated_credentials.Credentials(
        owner, who, [scope], iam_endpoint_override=tokens)

@functools.lru_cache(1)
def bucket_as(who):
    held = credentials(who)
    aiplatform.init(project=project, location=region, credentials=held,
                    api_endpoint=url, api_transport="rest")
    return storage.Client(project=project, credentials=held).bucket(f"{project}-price-models")

@functools.cache
def endpoint(name, who):
    return aiplatform.Endpoint(name, credentials=credentials(who))

for line in sys.stdin:
    who, code, names = json.loads(line)
    known = names | {"aiplatform": aiplatform, "bucket": bucket_as(who), "who": who,
                     "Model": aiplatform.Model, "Endpoint": aiplatform.Endpoint,
                     "endpoint": endpoint, "Job": aiplatform.BatchPredictionJob}
    try:
        with contextlib.redirect_stdout(sys.stderr):  # das SDK sagt manches mit print
            result = eval(code, known)
        answer = {"result": result._asdict() if hasattr(result, "_asdict") else result}
    except (GoogleAPICallError, GoogleAuthError, ValueError, RuntimeError) as error:
        answer = {"error": type(error).__name__, "status": getattr(error, "code", None),
                  "message": str(error)}
    print(json.dumps(answer, default=str), flush=True)
"""


class VertexError(Exception):
    """Ein Fehler, den das SDK meldet; `status` ist der HTTP-Status, falls es einen gab."""

    def __init__(self, answer: dict) -> None:
        super().__init__(f"{answer['error']}: {answer['message']}")
        self.kind, self.status = answer["error"], answer["status"]
        self.message = answer["message"]


class Vertex:
    """Ein Prozess mit dem SDK; `token` ist der des Inhabers."""

    def __init__(self, port: int) -> None:
        self.token, self.url = secrets.token_urlsafe(24), f"http://127.0.0.1:{port}"
        self.env = {"LOCAL_GOOGLE_TOKEN": self.token, "STORAGE_EMULATOR_HOST": self.url}
        self._child: subprocess.Popen | None = None
        self.emails: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._child:
            self._child.__exit__(None, None, None)  # schließt die Eingabe; daran endet der Prozess

    def send(self, code: str, who: str = "owner", **names: object) -> None:
        """Schickt einen Ausdruck ab, ohne auf die Antwort zu warten."""
        if self._child is None:  # erst hier: Der Import des SDK dauert
            command = [f"python:{ENVIRONMENT}", "-c", LOOP, self.url, PROJECT, REGION, SCOPES[0]]
            self._child = subprocess.Popen(
                process._command(command),
                cwd=process.ROOT,
                env=process._environment(self.env),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                encoding="utf-8",
            )
        self._child.stdin.write(json.dumps([self.emails.get(who, who), code, names]) + "\n")
        self._child.stdin.flush()

    def receive(self) -> object:
        """Liest die nächste Antwort oder wirft `VertexError`."""
        answer = json.loads(self._child.stdout.readline())
        if "error" in answer:
            raise VertexError(answer)
        return answer["result"]

    def run(self, code: str, who: str = "owner", **names: object) -> object:
        """Wertet einen Ausdruck mit dem SDK aus, als Inhaber oder als Dienstkonto."""
        self.send(code, who, **names)
        return self.receive()

    def account(self, command: str) -> dict | None:
        """Führt einen Befehl aus examples/vertex_ai_endpoint/account.py aus."""
        module = ["-m", "examples.vertex_ai_endpoint.account", command, PROJECT]
        env = {"GOOGLE_LOCAL_URL": self.url, "GOOGLE_LOCAL_TOKEN": self.token}
        said = process.output([f"python:{ENVIRONMENT}", *module], env=env)
        answer = json.loads(said) if said else None
        if command == "create":
            self.emails = answer["accounts"]
        return answer

    def upload(self, kind: str, who: str = "deployer", **more: object) -> str:
        """Lädt das Modell für `service` oder `predictor` hoch und gibt seinen Namen zurück."""
        suffix = {"service": "onnx", "predictor": "joblib"}[kind]
        files = [f"price_model.{suffix}", "metadata.json"]
        put = "bucket.blob(key).upload_from_filename(path)"
        for name in files:
            path = f"examples/price_model/artifacts/{name}"
            self.run(put, who, key=f"price/{kind}/{name}", path=path)
        image = f"{REGION}-docker.pkg.dev/{PROJECT}/price/price-{kind}:1.0.0"
        given = {
            "display_name": "price",
            "artifact_uri": f"gs://{PROJECT}-price-models/price/{kind}",
            "serving_container_image_uri": image,
        }
        code = "Model.upload(**given).versioned_resource_name"
        return self.run(code, who, given=given | ROUTES | more)

    def deploy(self, model: str, share: int = 100, who: str = "deployer") -> dict[str, int]:
        """Stellt ein Modell am Endpunkt `price` bereit; gibt die Aufteilung zurück."""
        code = "[e := Endpoint('price'), e.deploy(Model(model), machine_type='e2-standard-2', "
        code += "traffic_percentage=share), dict(e.traffic_split)][-1]"
        return self.run(code, who, model=model, share=share)


@contextmanager
def local_vertex(port: int) -> Iterator[Vertex]:
    """Die Nachbildung als Prozess und ein SDK, das mit ihr spricht."""
    with Vertex(port) as vertex:
        module = ["-m", "examples.local_cloud.vertex", "--port", port]
        service = process.serve(
            [f"python:{ENVIRONMENT}", *module],
            f"{vertex.url}/health/ready",
            timeout=60,
            env=vertex.env,
        )
        vertex.service = service
        try:
            yield vertex
        finally:
            service.stop()


def deployed(vertex: Vertex, kind: str) -> None:
    """Ein Projekt mit dem Endpunkt `price`, hinter dem eine der beiden Varianten läuft."""
    vertex.account("create")
    model = vertex.upload(kind, model_id="price")
    create = "Endpoint.create(display_name='price', endpoint_id='price').name"
    vertex.run(create, "deployer")
    vertex.deploy(model)
