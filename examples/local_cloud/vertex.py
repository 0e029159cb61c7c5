"""Google Agent Platform (früher Vertex AI) auf dem eigenen Rechner: Modelle, Endpunkte, Stapel.

Hinter jedem bereitgestellten Modell läuft der Prozess, der in seinem Image liefe, mit den
Umgebungsvariablen, die Google setzt.

Starten: python -m examples.local_cloud.vertex --port …
LOCAL_GOOGLE_TOKEN ist dabei der Token dessen, dem das Projekt gehört.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from examples.local_cloud.google_cloud import (
    LOCATION,
    TENANT,
    WORDS,
    GoogleCloud,
    needs,
    now,
)
from examples.local_cloud.service import (
    HOST,
    Child,
    Refusal,
    Request,
    Response,
    free_port,
    route,
    run,
)

# Statt ein Image zu ziehen, startet die Nachbildung den Prozess, den es starten würde.
IMAGES = {
    "price-service": "examples.vertex_ai_endpoint.container",
    "price-predictor": "examples.vertex_ai_endpoint.predictor_server",
}
START_SECONDS = 120
PREDICT_SECONDS = 60
POLL_SECONDS = 10  # so lange hält die Nachbildung die Frage nach einem Vorgang zurück
TYPE = "type.googleapis.com/google.cloud.aiplatform.v1."
# Mehr sieht ein Container von diesem Rechner nicht; Token der Nutzer schon gar nicht.
INHERITED = ("PATH", "SYSTEMROOT", "TEMP", "LANG", "LD_LIBRARY_PATH", "PYTHONDONTWRITEBYTECODE")


@dataclass
class Container:
    """Ein laufendes Modell: der Prozess, sein Port und seine Adresse für Fragen."""

    child: Child
    port: int
    path: str


@dataclass
class Operation:
    """Ein Vorgang, der dauert; `content` ist gefüllt, wenn er zu Ende ist."""

    content: dict = field(default_factory=dict)
    done: threading.Event = field(default_factory=threading.Event)


class Vertex(GoogleCloud):
    """Modelle, Endpunkte und Stapelvorhersagen in einem Projekt."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._models: dict[str, list[dict]] = {}  # je Modell seine Versionen
        self._endpoints: dict[str, dict] = {}
        self._jobs: dict[str, dict] = {}
        self._ended: dict[str, threading.Event] = {}
        self._containers: dict[str, Container] = {}
        self._operations: dict[str, Operation] = {}
        self._ids = itertools.count(1)
        self._lock = threading.RLock()

    # --- Modelle

    @route("POST", f"{LOCATION}/models:upload")
    @needs("aiplatform.models.upload")
    def upload_model(self, request: Request) -> dict:
        """Legt ein Modell an oder zu einem vorhandenen eine Version."""
        content, place = request.json(), location(request)
        model, parent = dict(content["model"]), content.get("parentModel")
        name = parent or f"{place}/models/{content.get('modelId') or self._new_id()}"
        if parent and parent not in self._models:
            raise missing("Model", parent)
        if not parent and name in self._models:
            raise Refusal(409, f"Model {name} already exists.")
        self._check_image(model["containerSpec"]["imageUri"])
        if uri := model.get("artifactUri"):
            # Google kopiert beim Hochladen; was danach im Bucket geschieht, ändert nichts mehr.
            model["_copy"] = self._copy(uri)
        with self._lock:
            versions = self._models.setdefault(name, [])
            if content["model"].get("versionAliases", ["default"]):
                for version in versions:
                    version["versionAliases"] = []
            model |= {"name": name, "versionId": str(len(versions) + 1)}
            model |= {"versionAliases": ["default"], "createTime": now(), "updateTime": now()}
            versions.append(model)
        result = {"model": name, "modelVersionId": model["versionId"]}
        return self._finished(name, "UploadModelResponse", result)

    @route("GET", f"{LOCATION}/models")
    @needs("aiplatform.models.list")
    def list_models(self, request: Request) -> dict:
        """Nennt von jedem Modell die neueste Version."""
        return {"models": [public(versions[-1]) for versions in self._models.values()]}

    @route("GET", f"{LOCATION}/models/(?P<model>[^/:]+):listVersions")
    @needs("aiplatform.models.list")
    def list_versions(self, request: Request) -> dict:
        """Nennt alle Versionen eines Modells."""
        found = self._version(resource(request).removesuffix(":listVersions"))
        return {"models": [public(version) for version in self._models[found["name"]]]}

    @route("GET", f"{LOCATION}/models/{{model}}")
    @needs("aiplatform.models.get")
    def get_model(self, request: Request) -> dict:
        """Beschreibt eine Version, ohne Angabe die mit dem Alias `default`."""
        return public(self._version(resource(request)))

    @route("DELETE", f"{LOCATION}/models/{{model}}")
    @needs("aiplatform.models.delete")
    def delete_model(self, request: Request) -> dict:
        """Entfernt ein Modell mit allen Versionen, wenn keine bereitgestellt ist."""
        name = self._version(resource(request))["name"]
        used = [e["name"] for e in self._endpoints.values() for d in deployed(e) if named(d, name)]
        if used:
            raise Refusal(400, f"Model {name} is deployed at {used[0]}.", "FAILED_PRECONDITION")
        del self._models[name]
        return self._finished(name)

    def _version(self, name: str) -> dict:
        """Eine Version: `…/models/1`, `…/models/1@2` oder `…/models/1@default`."""
        base, _, wanted = name.partition("@")
        for version in reversed(self._models.get(base, [])):
            if wanted in (version["versionId"], *version["versionAliases"]) or not wanted:
                return version
        raise missing("Model", name)

    def _check_image(self, image: str) -> None:
        found = re.fullmatch(r"([\w-]+)-docker\.pkg\.dev/([^/]+)/([^/]+)/([^/:]+):.+", image)
        place, project, repository, name = found.groups() if found else ("", "", "", "")
        known = f"projects/{project}/locations/{place}/repositories/{repository}"
        if known not in self._repositories or name not in IMAGES:
            raise Refusal(400, f"Image '{image}' not found.", "FAILED_PRECONDITION")

    def _copy(self, uri: str) -> str:
        """Kopiert die Dateien eines Modells in einen Bucket der Plattform."""
        objects = self._objects(uri)
        if not objects:
            raise Refusal(
                400, f'There are no files under "{uri}" to copy.', "FAILED_PRECONDITION"
            )
        bucket = f"{TENANT}{self._new_id()}"
        self._store("POST", "/storage/v1/b", json.dumps({"name": bucket}).encode())
        for name in objects:
            source, key = split(f"{uri.rstrip('/')}/{name}")
            self._write(bucket, f"model/{name}", self._read(source, key))
        return f"gs://{bucket}/model"

    # --- Endpunkte

    @route("POST", f"{LOCATION}/endpoints")
    @needs("aiplatform.endpoints.create")
    def create_endpoint(self, request: Request) -> dict:
        """Legt einen leeren Endpunkt an; ohne Modell kostet er nichts."""
        name = f"{location(request)}/endpoints/{request.query.get('endpointId') or self._new_id()}"
        if name in self._endpoints:
            raise Refusal(409, f"Endpoint {name} already exists.")
        endpoint = dict(request.json()) | {"name": name, "createTime": now(), "updateTime": now()}
        self._endpoints[name] = endpoint
        return self._finished(name, "Endpoint", endpoint)

    @route("GET", f"{LOCATION}/endpoints")
    @needs("aiplatform.endpoints.list")
    def list_endpoints(self, request: Request) -> dict:
        """Nennt alle Endpunkte."""
        return {"endpoints": list(self._endpoints.values())}

    @route("GET", f"{LOCATION}/endpoints/{{endpoint}}")
    @needs("aiplatform.endpoints.get")
    def get_endpoint(self, request: Request) -> dict:
        """Beschreibt einen Endpunkt."""
        return self._endpoint(resource(request))

    @route("PATCH", f"{LOCATION}/endpoints/{{endpoint}}")
    @needs("aiplatform.endpoints.update")
    def update_endpoint(self, request: Request) -> dict:
        """Ändert einen Endpunkt, etwa die Aufteilung des Verkehrs."""
        endpoint, change = self._endpoint(resource(request)), request.json()
        if "trafficSplit" in change:
            check_split(change["trafficSplit"], endpoint)
        endpoint.update(change)
        return endpoint

    @route("DELETE", f"{LOCATION}/endpoints/{{endpoint}}")
    @needs("aiplatform.endpoints.delete")
    def delete_endpoint(self, request: Request) -> dict:
        """Entfernt einen Endpunkt, auf dem nichts mehr bereitgestellt ist."""
        endpoint = self._endpoint(resource(request))
        if deployed(endpoint):
            raise Refusal(
                400,
                "Endpoint has deployed or being-deployed DeployedModel(s).",
                "FAILED_PRECONDITION",
            )
        del self._endpoints[endpoint["name"]]
        return self._finished(endpoint["name"])

    @route("POST", f"{LOCATION}/endpoints/(?P<endpoint>[^/:]+):deployModel")
    @needs("aiplatform.endpoints.deploy")
    def deploy_model(self, request: Request) -> dict:
        """Startet den Container einer Version; Verkehr bekommt er erst, wenn er bereit ist."""
        content = request.json()
        endpoint, wanted = self._endpoint(resource(request)), dict(content["deployedModel"])
        model = self._version(wanted["model"])
        split_ = content.get("trafficSplit") or {}
        check_split(split_, endpoint, new=True)
        wanted |= {"id": self._new_id(), "model": model["name"], "createTime": now()}
        wanted |= {"modelVersionId": model["versionId"]}

        def deploy() -> dict:
            container = self._start(model, {"AIP_ENDPOINT_ID": endpoint["name"].split("/")[-1]})
            with self._lock:
                if self._endpoints.get(endpoint["name"]) is not endpoint:
                    container.child.stop()
                    raise missing("Endpoint", endpoint["name"])
                self._containers[wanted["id"]] = container
                endpoint.setdefault("deployedModels", []).append(wanted)
                if split_:
                    endpoint["trafficSplit"] = {
                        wanted["id"] if key == "0" else key: share
                        for key, share in split_.items()
                    }
            return {"@type": f"{TYPE}DeployModelResponse", "deployedModel": wanted}

        return self._later(endpoint["name"], deploy)

    @route("POST", f"{LOCATION}/endpoints/(?P<endpoint>[^/:]+):undeployModel")
    @needs("aiplatform.endpoints.undeploy")
    def undeploy_model(self, request: Request) -> dict:
        """Nimmt ein Modell vom Endpunkt; laufende Anfragen bekommen noch ihre Antwort."""
        endpoint, content = self._endpoint(resource(request)), request.json()
        wanted, split_ = content["deployedModelId"], content.get("trafficSplit") or {}
        with self._lock:
            if wanted not in self._containers:
                raise missing("DeployedModel", wanted)
            traffic = split_ or {k: v for k, v in endpoint.get("trafficSplit", {}).items()}
            if traffic.get(wanted) and len(deployed(endpoint)) > 1:
                raise Refusal(
                    400,
                    f"DeployedModel {wanted} still has traffic; set its share to 0 first.",
                    "FAILED_PRECONDITION",
                )
            container = self._containers.pop(wanted)
            endpoint["deployedModels"] = [d for d in deployed(endpoint) if d["id"] != wanted]
            endpoint["trafficSplit"] = {k: v for k, v in traffic.items() if k != wanted}
        threading.Thread(target=container.child.stop).start()
        return self._finished(endpoint["name"], "UndeployModelResponse", {})

    @route("POST", f"{LOCATION}/endpoints/(?P<endpoint>[^/:]+):predict")
    @needs("aiplatform.endpoints.predict")
    def predict(self, request: Request) -> Response | dict:
        """Lost ein Modell nach seinem Anteil aus und reicht ihm die Frage."""
        endpoint = self._endpoint(resource(request))
        with self._lock:
            traffic = endpoint.get("trafficSplit") or {}
            if not any(traffic.values()):
                message = f"Endpoint {endpoint['name']} does not have any deployed models."
                raise Refusal(400, message, "FAILED_PRECONDITION")
            (chosen,) = random.choices(list(traffic), list(traffic.values()))
            container = self._containers[chosen]
            (model,) = [d for d in deployed(endpoint) if d["id"] == chosen]
        answer = ask(container, request.body)
        version = self._version(f"{model['model']}@{model['modelVersionId']}")
        return answer | {
            "deployedModelId": chosen,
            "model": model["model"],
            "modelDisplayName": version.get("displayName", ""),
            "modelVersionId": model["modelVersionId"],
        }

    def _endpoint(self, name: str) -> dict:
        name = re.sub(r":\w+$", "", name)
        if name not in self._endpoints:
            raise missing("Endpoint", name)
        return self._endpoints[name]

    def _start(self, model: dict, more: dict[str, str]) -> Container:
        """Startet den Prozess des Images, wie Google ihn startet, und wartet auf ihn."""
        spec, port = model["containerSpec"], free_port()
        folder = tempfile.mkdtemp(dir=self.folder, prefix="container-")
        predict = spec.get("predictRoute", "/predict")
        env = {name: os.environ[name] for name in INHERITED if name in os.environ}
        env |= {"PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1", "HOME": folder, "TMPDIR": folder}
        # Im Container gibt es die Zugangsdaten des Dienstkontos, hier den Speicher ohne Prüfung.
        env |= {"STORAGE_EMULATOR_HOST": self.storage_address}
        env |= {"AIP_MODE": "PREDICTION", "AIP_HTTP_PORT": str(port), "AIP_PREDICT_ROUTE": predict}
        env |= {"AIP_HEALTH_ROUTE": spec.get("healthRoute", "/health")}
        env |= {"AIP_STORAGE_URI": model.get("_copy", "")} | more
        env |= {item["name"]: item.get("value", "") for item in spec.get("env", [])}
        name = spec["imageUri"].rpartition("/")[2].partition(":")[0]
        child = self.start([sys.executable, "-m", IMAGES[name]], env)
        if not child.answers(f"http://{HOST}:{port}{env['AIP_HEALTH_ROUTE']}", START_SECONDS):
            child.stop()
            last = "\n".join(child.log().strip().splitlines()[-3:])
            raise Refusal(
                400,
                "Model server exited unexpectedly. Model server logs can be found in Cloud "
                f"Logging. Last lines: {last}",
                "FAILED_PRECONDITION",
            )
        return Container(child, port, predict)

    # --- Stapelvorhersage

    @route("POST", f"{LOCATION}/batchPredictionJobs")
    @needs("aiplatform.batchPredictionJobs.create")
    def create_job(self, request: Request) -> dict:
        """Nimmt einen Auftrag an; gerechnet wird danach."""
        job = dict(request.json())
        name = f"{location(request)}/batchPredictionJobs/{self._new_id()}"
        model = self._version(job["model"])
        if job["inputConfig"]["instancesFormat"] != "jsonl":
            raise Refusal(501, "Nicht nachgebildet: batchPredictionJobs nur mit jsonl")
        job |= {"name": name, "state": "JOB_STATE_RUNNING", "createTime": now()}
        job |= {"modelVersionId": model["versionId"], "updateTime": now()}
        self._jobs[name], self._ended[name] = job, threading.Event()
        threading.Thread(target=self._run_job, args=(job, model), daemon=True).start()
        return job

    @route("GET", f"{LOCATION}/batchPredictionJobs")
    @needs("aiplatform.batchPredictionJobs.list")
    def list_jobs(self, request: Request) -> dict:
        """Nennt alle Aufträge."""
        return {"batchPredictionJobs": list(self._jobs.values())}

    @route("GET", f"{LOCATION}/batchPredictionJobs/{{job}}")
    @needs("aiplatform.batchPredictionJobs.get")
    def get_job(self, request: Request) -> dict:
        """Sagt, wie weit ein Auftrag ist."""
        job = self._job(request)
        self._ended[job["name"]].wait(POLL_SECONDS)
        return job

    @route("DELETE", f"{LOCATION}/batchPredictionJobs/{{job}}")
    @needs("aiplatform.batchPredictionJobs.delete")
    def delete_job(self, request: Request) -> dict:
        """Entfernt einen beendeten Auftrag; was er schrieb, bleibt."""
        job = self._job(request)
        if not self._ended[job["name"]].is_set():
            raise Refusal(400, "The job is still running.", "FAILED_PRECONDITION")
        del self._jobs[job["name"]]
        return self._finished(job["name"])

    def _job(self, request: Request) -> dict:
        if resource(request) not in self._jobs:
            raise missing("BatchPredictionJob", resource(request))
        return self._jobs[resource(request)]

    def _run_job(self, job: dict, model: dict) -> None:
        try:
            self._predict_all(job, model)
            job["state"] = "JOB_STATE_SUCCEEDED"
        except Refusal as refused:
            job |= {"state": "JOB_STATE_FAILED"}
            job |= {"error": {"code": 9, "message": refused.message}}
        job |= {"endTime": now(), "updateTime": now()}
        self._ended[job["name"]].set()

    def _predict_all(self, job: dict, model: dict) -> None:
        """Startet einen Container, fragt ihn Gruppe für Gruppe und beendet ihn."""
        lines = []
        for uri in job["inputConfig"]["gcsSource"]["uris"]:
            lines += self._read(*split(uri)).decode().splitlines()
        try:
            instances = [json.loads(line) for line in lines if line.strip()]
        except ValueError:
            raise Refusal(400, "Failed to parse the input as JSON lines.") from None
        size = int(job.get("manualBatchTuningParameters", {}).get("batchSize") or 64)
        results, errors = [], []
        container = self._start(model, {})
        try:
            for start in range(0, len(instances), size):
                group = instances[start : start + size]
                try:
                    answer = ask(container, json.dumps({"instances": group}).encode())
                except Refusal as refused:
                    error = {"status": refused.code, "message": refused.message}
                    errors += [{"instance": instance, "error": error} for instance in group]
                    continue
                pairs = zip(group, answer["predictions"], strict=True)
                results += [{"instance": i, "prediction": p} for i, p in pairs]
        finally:
            container.child.stop()
        bucket, prefix = split(job["outputConfig"]["gcsDestination"]["outputUriPrefix"])
        folder = f"{prefix.rstrip('/')}/prediction-{model['displayName']}-{job['createTime'][:19]}"
        for name, content in (("results", results), ("errors_stats", errors)):
            text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in content)
            self._write(bucket, f"{folder}/prediction.{name}-00000-of-00001", text.encode())
        job["outputInfo"] = {"gcsOutputDirectory": f"gs://{bucket}/{folder}"}
        job["completionStats"] = {
            "successfulCount": str(len(results)),
            "failedCount": str(len(errors)),
        }

    # --- Vorgänge

    @route("GET", r"/(?:v1|ui)/(?P<operation>projects/.+/operations/[^/:]+)")
    def get_operation(self, request: Request) -> dict:
        """Sagt, ob ein Vorgang zu Ende ist; das darf, wer sehen darf, worum es geht."""
        name = request.args["operation"]
        kind = name.split("/")[-4]
        self.require(request, f"aiplatform.{kind}.get")
        if name not in self._operations:
            raise missing("Operation", name)
        operation = self._operations[name]
        operation.done.wait(POLL_SECONDS)
        return {"name": name, "done": operation.done.is_set()} | operation.content

    def _finished(self, name: str, kind: str = "", result: dict | None = None) -> dict:
        """Ein Vorgang, der schon zu Ende ist."""
        empty = {"@type": "type.googleapis.com/google.protobuf.Empty"}
        response = {"@type": f"{TYPE}{kind}", **(result or {})} if kind else empty
        return {"name": f"{name}/operations/{self._new_id()}", "done": True, "response": response}

    def _later(self, name: str, work: Callable[[], dict]) -> dict:
        """Ein Vorgang, der im Hintergrund läuft."""
        full, operation = f"{name}/operations/{self._new_id()}", Operation()
        self._operations[full] = operation

        def finish() -> None:
            try:
                operation.content = {"response": work()}
            except Refusal as refused:
                operation.content = {"error": {"code": 9, "message": refused.message}}
            operation.done.set()

        threading.Thread(target=finish, daemon=True).start()
        return {"name": full, "done": False}

    def _new_id(self) -> str:
        return f"{random.randrange(10**17, 10**18)}{next(self._ids) % 10}"

    # --- Objektspeicher, ohne Prüfung der Rechte

    def _objects(self, uri: str) -> list[str]:
        bucket, prefix = split(uri)
        path = f"/storage/v1/b/{bucket}/o?prefix={quote(prefix.rstrip('/'), safe='')}/"
        found = json.loads(self._store("GET", path).content).get("items", [])
        return [item["name"].removeprefix(prefix.rstrip("/") + "/") for item in found]

    def _read(self, bucket: str, key: str) -> bytes:
        return self._store("GET", f"/download/storage/v1/b/{bucket}/o/{quote(key)}").content

    def _write(self, bucket: str, key: str, content: bytes) -> None:
        path = f"/upload/storage/v1/b/{bucket}/o?uploadType=media&name={quote(key, safe='')}"
        self._store("POST", path, content)

    def _store(self, method: str, path: str, body: bytes = b"") -> Response:
        kind = "application/json" if method == "POST" and "upload" not in path else OCTETS
        answer = self.storage_call(method, path, body, {"Content-Type": kind})
        if answer.status >= 400:
            raise Refusal(400, f"Cloud Storage: {path} not found.", "FAILED_PRECONDITION")
        return answer


OCTETS = "application/octet-stream"


def location(request: Request) -> str:
    """Projekt und Region aus der Adresse."""
    return f"projects/{request.args['project']}/locations/{request.args['location']}"


def resource(request: Request) -> str:
    """Der Name dessen, worum es in der Adresse geht."""
    return request.path.removeprefix("/v1/")


def split(uri: str) -> tuple[str, str]:
    """Zerlegt gs://bucket/name."""
    found = re.fullmatch(r"gs://([^/]+)/(.*)", uri)
    if not found:
        raise Refusal(400, f"Invalid Cloud Storage URI: {uri}")
    return found.groups()


def missing(kind: str, name: str) -> Refusal:
    """Das gibt es nicht."""
    return Refusal(404, f"The {kind} does not exist: {name}")


def public(model: dict) -> dict:
    """Ein Modell ohne das, was nur die Plattform sieht."""
    return {name: value for name, value in model.items() if not name.startswith("_")}


def deployed(endpoint: dict) -> list[dict]:
    """Was auf einem Endpunkt bereitgestellt ist."""
    return endpoint.get("deployedModels", [])


def named(deployed_model: dict, name: str) -> bool:
    """Ob ein bereitgestelltes Modell dieses ist."""
    return deployed_model["model"] == name


def check_split(shares: dict, endpoint: dict, new: bool = False) -> None:
    """Anteile ergeben zusammen 100 und gehören zu Modellen, die es hier gibt."""
    known = {d["id"] for d in deployed(endpoint)} | ({"0"} if new else set())
    if strange := set(shares) - known:
        raise Refusal(400, f"Unknown DeployedModel id(s) in traffic_split: {sorted(strange)}")
    if shares and sum(shares.values()) != 100:
        raise Refusal(400, "The sum of the traffic percentages must be 100.")


def ask(container: Container, body: bytes) -> dict:
    """Stellt dem Container die Frage; lehnt er sie ab, wird seine Antwort zur Meldung."""
    url = f"http://{HOST}:{container.port}{container.path}"
    question = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(question, timeout=PREDICT_SECONDS) as answer:
            content = json.loads(answer.read())
    except urllib.error.HTTPError as error:
        message = error.read().decode(errors="replace")
        # Was Google nicht als eigenen Status kennt, etwa 422, wird zu 400.
        status = error.code if error.code in WORDS or error.code >= 500 else 400
        raise Refusal(status, message, WORDS.get(status, "INTERNAL")) from None
    except ValueError:
        raise Refusal(500, "The response of the model server is not JSON.", "INTERNAL") from None
    except OSError:  # der Container ist weg oder schweigt
        raise Refusal(503, "The model server did not answer.", "UNAVAILABLE") from None
    if "predictions" not in content:
        message = "Invalid response from prediction server - the response field predictions"
        raise Refusal(500, f"{message} is missing.", "INTERNAL")
    return content


if __name__ == "__main__":
    run(Vertex)
