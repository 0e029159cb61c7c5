"""Modelle der Agent Platform: hochladen, Versionen, und der Prozess, in dem eine läuft.

Der Prozess bekommt die Umgebungsvariablen, die Google setzt, und das Modell aus einem Bucket
der Plattform.
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
    refusal,
)
from examples.local_cloud.service import (
    HOST,
    Child,
    Fields,
    Refusal,
    Request,
    Response,
    free_port,
    route,
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
OCTETS = "application/octet-stream"
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


class Models(GoogleCloud):
    """Ein Projekt mit Modellen; bereitgestellt wird in der Unterklasse."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._models: dict[str, list[dict]] = {}  # je Modell seine Versionen
        self._operations: dict[str, Operation] = {}
        self._ids = itertools.count(1)
        self._lock = threading.RLock()

    def users(self, model: str) -> list[str]:
        """Endpunkte, auf denen dieses Modell bereitgestellt ist."""
        return []

    @route("POST", f"{LOCATION}/models:upload")
    @needs("aiplatform.models.upload")
    def upload_model(self, request: Request) -> dict:
        """Legt ein Modell an oder zu einem vorhandenen eine Version."""
        content, place = request.json(), location(request)
        model, parent = Fields(content["model"]), content.get("parentModel")
        name = parent or f"{place}/models/{content.get('modelId') or self.new_id()}"
        if parent and parent not in self._models:
            raise missing("Model", parent)
        if not parent and name in self._models:
            raise refusal("exists", kind="Model", name=name)
        self._check_image(model["containerSpec"]["imageUri"])
        if uri := model.get("artifactUri"):
            # Google kopiert beim Hochladen; was danach im Bucket geschieht, ändert nichts mehr.
            model["_copy"] = self._copy(uri)
        aliases = set(model.get("versionAliases") or [])
        with self._lock:
            versions = self._models.setdefault(name, [])
            # Ein Alias gehört genau einer Version, und `default` fehlt nie.
            aliases |= set() if versions else {"default"}
            for version in versions:
                kept = [alias for alias in version["versionAliases"] if alias not in aliases]
                version["versionAliases"] = kept
            model |= {"name": name, "versionId": str(len(versions) + 1)}
            model |= {"versionAliases": sorted(aliases), "createTime": now(), "updateTime": now()}
            # Fehlt das, so hält das SDK das Modell für eines, das sich nicht bereitstellen lässt.
            model |= {"supportedDeploymentResourcesTypes": ["DEDICATED_RESOURCES"]}
            versions.append(model)
        result = {"model": name, "modelVersionId": model["versionId"]}
        return self.finished(name, "UploadModelResponse", result)

    @route("GET", f"{LOCATION}/models")
    @needs("aiplatform.models.list")
    def list_models(self, request: Request) -> dict:
        """Nennt von jedem Modell die Version mit dem Alias `default`."""
        return {"models": [public(self.version(name)) for name in self._models]}

    @route("GET", f"{LOCATION}/models/(?P<model>[^/:]+):listVersions")
    @needs("aiplatform.models.list")
    def list_versions(self, request: Request) -> dict:
        """Nennt alle Versionen eines Modells."""
        found = self.version(resource(request).removesuffix(":listVersions"))
        return {"models": [public(version) for version in self._models[found["name"]]]}

    @route("GET", f"{LOCATION}/models/(?P<model>[^/:]+)")
    @needs("aiplatform.models.get")
    def get_model(self, request: Request) -> dict:
        """Beschreibt eine Version, ohne Angabe die mit dem Alias `default`."""
        return public(self.version(resource(request)))

    @route("DELETE", f"{LOCATION}/models/(?P<model>[^/:]+)")
    @needs("aiplatform.models.delete")
    def delete_model(self, request: Request) -> dict:
        """Entfernt ein Modell mit allen Versionen, wenn keine bereitgestellt ist."""
        name = self.version(resource(request))["name"]
        if used := self.users(name):
            raise refusal("model_in_use", name=name, endpoint=used[0])
        del self._models[name]
        return self.finished(name)

    def version(self, name: str) -> dict:
        """Eine Version: `…/models/1`, `…/models/1@2` oder `…/models/1@default`."""
        base, _, wanted = name.partition("@")
        for version in self._models.get(base, []):
            if (wanted or "default") in (version["versionId"], *version["versionAliases"]):
                return version
        raise missing("Model", name)

    def _check_image(self, image: str) -> None:
        found = re.fullmatch(r"([\w-]+)-docker\.pkg\.dev/([^/]+)/([^/]+)/([^/:]+):.+", image)
        place, project, repository, name = found.groups() if found else ("", "", "", "")
        known = f"projects/{project}/locations/{place}/repositories/{repository}"
        if known not in self._repositories or name not in IMAGES:
            raise refusal("no_image", image=image)

    def _copy(self, uri: str) -> str:
        """Kopiert die Dateien eines Modells in einen Bucket der Plattform."""
        objects = self._objects(uri)
        if not objects:
            raise refusal("no_files", uri=uri)
        bucket = f"{TENANT}{self.new_id()}"
        self._store("POST", "/storage/v1/b", json.dumps({"name": bucket}).encode())
        for name in objects:
            source, key = split(f"{uri.rstrip('/')}/{name}")
            self.write(bucket, f"model/{name}", self.read(source, key))
        return f"gs://{bucket}/model"

    # --- Container

    def launch(self, model: dict, more: dict[str, str]) -> Container:
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
            raise refusal("exited", last=last)
        return Container(child, port, predict)

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

    def finished(self, name: str, kind: str = "", result: dict | None = None) -> dict:
        """Ein Vorgang, der schon zu Ende ist."""
        empty = {"@type": "type.googleapis.com/google.protobuf.Empty"}
        response = {"@type": f"{TYPE}{kind}", **(result or {})} if kind else empty
        return {"name": f"{name}/operations/{self.new_id()}", "done": True, "response": response}

    def later(self, name: str, work: Callable[[], dict]) -> dict:
        """Ein Vorgang, der im Hintergrund läuft."""
        full, operation = f"{name}/operations/{self.new_id()}", Operation()
        self._operations[full] = operation

        def finish() -> None:
            try:
                operation.content = {"response": work()}
            except Refusal as refused:
                operation.content = {"error": {"code": 9, "message": refused.message}}
            except Exception as error:  # sonst wartete das SDK ewig
                operation.content = {"error": {"code": 13, "message": repr(error)}}
            operation.done.set()

        threading.Thread(target=finish, daemon=True).start()
        return {"name": full, "done": False}

    def new_id(self) -> str:
        """Eine neue Nummer, so lang wie die von Google."""
        return f"{random.randrange(10**17, 10**18)}{next(self._ids) % 10}"

    # --- Objektspeicher, ohne Prüfung der Rechte

    def _objects(self, uri: str) -> list[str]:
        bucket, prefix = split(uri)
        path = f"/storage/v1/b/{bucket}/o?prefix={quote(prefix.rstrip('/'), safe='')}/"
        found = json.loads(self._store("GET", path).content).get("items", [])
        return [item["name"].removeprefix(prefix.rstrip("/") + "/") for item in found]

    def read(self, bucket: str, key: str) -> bytes:
        """Liest ein Objekt; fehlt es, so `Refusal`."""
        return self._store("GET", f"/download/storage/v1/b/{bucket}/o/{quote(key)}").content

    def write(self, bucket: str, key: str, content: bytes) -> None:
        """Schreibt ein Objekt."""
        path = f"/upload/storage/v1/b/{bucket}/o?uploadType=media&name={quote(key, safe='')}"
        self._store("POST", path, content)

    def _store(self, method: str, path: str, body: bytes = b"") -> Response:
        kind = "application/json" if method == "POST" and "upload" not in path else OCTETS
        answer = self.storage_call(method, path, body, {"Content-Type": kind})
        if answer.status >= 400:
            raise refusal("no_object", path=path)
        return answer


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
        raise refusal("bad_uri", uri=uri)
    return found.groups()


def missing(kind: str, name: str) -> Refusal:
    """Das gibt es nicht."""
    return refusal("missing", kind=kind, name=name)


def public(model: dict) -> dict:
    """Ein Modell ohne das, was nur die Plattform sieht."""
    return {name: value for name, value in model.items() if not name.startswith("_")}


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
        raise refusal("not_json") from None
    except OSError:  # der Container ist weg oder schweigt
        raise refusal("no_answer") from None
    if "predictions" not in content:
        raise refusal("no_predictions")
    return content
