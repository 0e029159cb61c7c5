"""Azure Machine Learning auf dem eigenen Rechner: Resource Manager, Speicher und Endpunkte.

Nachgebildet ist die Steuerungsebene, soweit das SDK `azure-ai-ml` sie hier fragt. Hinter einem
Deployment läuft der echte Inferenzserver mit dem hochgeladenen Code und Modell, oder der
Prozess des eigenen Containers.

Starten: python -m examples.local_cloud.azure --port …
LOCAL_AZURE_TOKENS nennt als JSON je Token Namen und Rolle, LOCAL_AZURE_CERTIFICATE die Datei mit
Schlüssel und Zertifikat: Das SDK schickt ein Token nur über HTTPS.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import secrets
import ssl
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
import uuid
from dataclasses import dataclass
from pathlib import Path

from examples.local_cloud.azure_access import refusal
from examples.local_cloud.azure_resources import (
    GROUP,
    PROVIDER,
    STORAGE,
    STORE,
    WORKSPACE,
    Resources,
)
from examples.local_cloud.service import (
    ROOT,
    Child,
    Refusal,
    Request,
    Response,
    free_port,
    route,
    run,
    say,
)

ENDPOINT = WORKSPACE + "/onlineEndpoints/{endpoint}"
DEPLOYMENT = ENDPOINT + "/deployments/{deployment}"
# Statt ein Image zu ziehen, startet die Nachbildung, was darin liefe.
SERVER_IMAGE = "mcr.microsoft.com/azureml/"
CONTAINERS = {"price-api": ["-m", "uvicorn", "examples.fastapi_service.app:app", "--port"]}
MOUNT = "/var/azureml-app"
MAX_MIRROR_PERCENT = 50
START_SECONDS = 180
SEED = 2026  # dieselbe Folge von Anfragen verteilt sich jedes Mal gleich


@dataclass
class Running:
    """Ein gestartetes Deployment."""

    child: Child
    port: int
    readiness: str
    timeout: float
    ready: bool = False


class Azure(Resources):
    """Azure Machine Learning: die Ressourcen und die Endpunkte, die daraus laufen."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._keys: dict[str, dict[str, str]] = {}
        self._dice: dict[str, random.Random] = {}
        self._running: dict[str, Running] = {}
        self._operations: dict[str, dict] = {}
        self._newest: dict[str, str] = {}  # je Deployment der jüngste Vorgang

    def removed(self, keys: list[str]) -> None:
        """Beendet alle gelöschten Deployments zugleich."""
        with self._lock:
            children = [self._running.pop(key).child for key in keys if key in self._running]
            for key in keys:
                self._keys.pop(key, None)
                self._dice.pop(key, None)
                self._newest.pop(key, None)
        for child in children:
            child.stop(wait=False)
        for child in children:
            child.stop()

    # --- Endpunkte

    @route("PUT", ENDPOINT)
    def put_endpoint(self, request: Request) -> Response:
        """Legt den Endpunkt an oder ändert, wohin der Verkehr geht."""
        self._find(self._workspace(request, request.args["workspace"]))
        name, key = request.args["endpoint"], request.path.lower()
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]{1,30}[A-Za-z0-9]", name):
            raise refusal("bad_name", name=name)
        properties = request.json()["properties"]
        self._check_traffic(key, properties)
        fixed = {
            "scoringUri": f"{self.address}/endpoints/{name}/score",
            "swaggerUri": f"{self.address}/endpoints/{name}/swagger.json",
            "provisioningState": "Succeeded",
        }
        with self._lock:
            self._keys.setdefault(key, {"primaryKey": new_key(), "secondaryKey": new_key()})
            self._dice.setdefault(key, random.Random(SEED))
            return self._put(request.path, {**properties, **fixed}, extras(request), tracked=True)

    def _check_traffic(self, key: str, properties: dict) -> None:
        live = {n: p for n, p in (properties.get("traffic") or {}).items() if p}
        mirror = {n: p for n, p in (properties.get("mirrorTraffic") or {}).items() if p}
        problem = None
        if sum(live.values()) not in (0, 100):
            problem = refusal("bad_sum")
        elif len(mirror) > 1:
            problem = refusal("one_mirror")
        elif sum(mirror.values()) > MAX_MIRROR_PERCENT:
            problem = refusal("too_much_mirror", most=MAX_MIRROR_PERCENT)
        elif set(live) & set(mirror):
            problem = refusal("live_and_mirror")
        for name in [*live, *mirror]:
            running = self._running.get(f"{key}/deployments/{name}".lower())
            if not (running and running.ready):
                problem = problem or refusal("not_ready", name=name)
        if problem:
            raise problem

    @route("GET", ENDPOINT)
    @route("GET", DEPLOYMENT)
    def show(self, request: Request) -> dict:
        """Ein Endpunkt oder ein Deployment."""
        return self._find(request.path)

    @route("DELETE", ENDPOINT)
    def delete_endpoint(self, request: Request) -> Response:
        """Löscht den Endpunkt mit allen Deployments."""
        return self._delete(request.path)

    @route("POST", ENDPOINT + "/(?i:listKeys)")
    def list_keys(self, request: Request) -> dict:
        """Beide Schlüssel; sie gelten, bis sie jemand erneuert."""
        return self._keys[self._key_of(request)]

    @route("POST", ENDPOINT + "/(?i:regenerateKeys)")
    def regenerate(self, request: Request) -> Response:
        """Ersetzt einen der beiden Schlüssel."""
        which = f"{request.json()['keyType'].lower()}Key"
        keys = self._keys[self._key_of(request)]
        if which not in keys:
            raise refusal("bad_key_type")
        keys[which] = new_key()
        return Response(b"", 200)

    def _key_of(self, request: Request) -> str:
        path = request.path.rpartition("/")[0]
        self._find(path)
        return path.lower()

    # --- Deployments

    @route("PUT", DEPLOYMENT)
    def put_deployment(self, request: Request) -> Response:
        """Beginnt ein Deployment; fertig ist es erst, wenn der Prozess bereit ist."""
        endpoint = request.path.rpartition("/deployments/")[0]
        self._find(endpoint)
        properties = request.json()["properties"]
        if not 1 <= (request.json().get("sku") or {}).get("capacity", 1) <= 50:
            raise refusal("bad_count")
        code = (properties.get("codeConfiguration") or {}).get("codeId")
        for asset in filter(None, (properties.get("model"), properties["environmentId"], code)):
            self._asset(asset)
        properties.setdefault("scaleSettings", {"scaleType": "Default"})
        properties["provisioningState"] = "Creating"
        number = str(uuid.uuid4())
        with self._lock:  # sonst gehörten Ressource und jüngster Vorgang zu zwei Aufrufen
            response = self._put(request.path, properties, extras(request), tracked=True)
            self._operations[number] = {"status": "InProgress"}
            self._newest[request.path.lower()] = number
        self._deleted.discard(request.path.lower())
        threading.Thread(
            target=self._deploy, args=(request.path, properties, number), daemon=True
        ).start()
        place = request.path.partition("/providers/")[0]
        response.headers["Azure-AsyncOperation"] = f"{self.address}{place}/operations/{number}"
        response.headers["Retry-After"] = "1"
        return response

    @route("GET", GROUP + "/operations/{number}")
    def show_operation(self, request: Request) -> Response:
        """Wie weit es ist."""
        return Response(self._operations[request.args["number"]], headers={"Retry-After": "1"})

    def _deploy(self, path: str, properties: dict, number: str) -> None:
        key, running, problem = path.lower(), None, None
        try:
            running = self._start(properties)
            url = f"http://127.0.0.1:{running.port}{running.readiness}"
            if not running.child.answers(url, START_SECONDS):
                raise refusal("crashed")
            running.ready = True
        except Refusal as refused:
            problem = {"code": refused.code or "BadRequest", "message": refused.message}
        except Exception as error:  # sonst wartete das SDK ewig
            say(f"Fehler der Nachbildung: {error!r}")
            message = "In der Nachbildung ist ein Fehler aufgetreten."
            problem = {"code": "InternalServerError", "message": message}
        with self._lock:
            gone = self._newest.get(key) != number  # überholt oder gelöscht
            if gone and not problem:
                canceled = refusal("canceled")
                problem = {"code": canceled.code, "message": canceled.message}
            old = None if problem or gone else self._running.get(key)
            if running and not gone and (not problem or key not in self._running):
                self._running[key] = running
            if problem:
                self._operations[number] = {"status": "Failed", "error": problem}
            else:
                self._operations[number] = {"status": "Succeeded"}
            if not gone:
                state = "Failed" if problem else "Succeeded"
                properties["provisioningState"] = state
        if old:
            old.child.stop()
        if running and (problem or gone):
            running.child.stop()

    def _start(self, properties: dict) -> Running:
        """Lädt Modell und Code herunter und startet, was im Container liefe."""
        base = self.folder / f"deployment-{uuid.uuid4()}"
        model = self._asset(properties["model"])
        name, _, version = properties["model"].split("/")[-3:]
        folder = base / "azureml-models" / name / version
        store, _, path = model["properties"]["modelUri"].rpartition("/paths/")
        if not store:
            raise refusal("other_store")
        self._blobs.copy(STORE, path, folder)
        environment = self._asset(properties["environmentId"])["properties"]
        port = free_port()
        given = properties.get("environmentVariables") or {}
        variables = {n: str(v).replace(MOUNT, str(base), 1) for n, v in given.items()}
        # Wie im Container: ohne die Token und Pfade dessen, der gestartet hat.
        env = {n: v for n, v in os.environ.items() if not n.startswith("LOCAL_AZURE_")}
        env.pop("PYTHONPATH", None)
        env |= {"AZUREML_MODEL_DIR": str(folder), "PYTHONUNBUFFERED": "1"} | variables
        if environment.get("inferenceConfig"):
            command, readiness = own_container(environment)
            command, cwd = [*command, str(port)], ROOT
        else:
            command, readiness, cwd = self._server(properties, environment, base)
            command += ["--model_dir", folder, "--port", str(port)]
            env["AML_APP_ROOT"] = str(cwd)
        limit = duration((properties.get("requestSettings") or {}).get("requestTimeout", "PT5S"))
        return Running(self.start(command, env, cwd), port, readiness, limit)

    def _server(self, properties: dict, environment: dict, base: Path) -> tuple:
        """Der Inferenzserver von Azure mit dem hochgeladenen Code."""
        if not environment.get("image", "").startswith(SERVER_IMAGE):
            raise refusal("no_image", image=environment.get("image"))
        configuration = properties.get("codeConfiguration")
        if not configuration:
            message = "Nicht nachgebildet: Deployment ohne Code (MLflow)"
            raise Refusal(501, message, "NotImplemented")
        code = self._asset(configuration["codeId"])["properties"]["codeUri"]
        container, _, path = code.partition(f"{STORAGE}/")[2].partition("/")
        self._blobs.copy(container, path, base)
        script = base / path / configuration["scoringScript"]
        if not script.is_file():
            raise refusal("no_script", script=configuration["scoringScript"])
        python = environment_python("azureml_server")
        server = ROOT / "examples" / "azure_ml_endpoint" / "server.py"
        return [python, server, "--entry_script", script], "/", script.parent

    @route("DELETE", DEPLOYMENT)
    def delete_deployment(self, request: Request) -> Response:
        """Löscht ein Deployment, wenn es keinen Verkehr mehr bekommt."""
        endpoint, _, name = request.path.rpartition("/deployments/")
        if (self._find(endpoint)["properties"].get("traffic") or {}).get(name):
            raise refusal("live", name=name)
        return self._delete(request.path)

    @route("POST", DEPLOYMENT + "/(?i:getLogs)")
    def show_log(self, request: Request) -> dict:
        """Die letzten Zeilen dessen, was der Prozess ausgegeben hat."""
        path = request.path.rpartition("/")[0]
        self._find(path)
        running = self._running.get(path.lower())
        lines = running.child.log().splitlines() if running else []
        return {"content": "\n".join(lines[-int(request.json().get("tail") or 50) :])}

    # --- Fragen

    @route("POST", "/endpoints/{endpoint}/{path:path}")
    def score(self, request: Request) -> Response:
        """Fragt ein Deployment unter diesem Pfad: das genannte, oder eines nach Anteil."""
        key, endpoint = self._asked(request)
        wanted = request.headers.get("azureml-model-deployment")
        name = wanted or self._choose(key, endpoint["properties"])
        running = self._running.get(f"{key}/deployments/{name}".lower())
        if running is None or not name:
            raise refusal("no_deployment", name=name) if name else refusal("no_traffic")
        if not wanted:
            self._mirror(key, endpoint["properties"], request)
        response = forward(request, running, f"/{request.args['path']}")
        response.headers["azureml-model-deployment"] = name
        return response

    @route("GET", "/endpoints/{endpoint}/swagger.json")
    def swagger(self, request: Request) -> Response:
        """Die Beschreibung, die der Inferenzserver aus dem Code ableitet."""
        key, endpoint = self._asked(request)
        name = self._choose(key, endpoint["properties"])
        running = self._running.get(f"{key}/deployments/{name}".lower())
        if running is None:
            raise refusal("no_traffic")
        return forward(request, running, "/swagger.json")

    def _asked(self, request: Request) -> tuple[str, dict]:
        end = f"/onlineendpoints/{request.args['endpoint']}".lower()
        with self._lock:  # daneben kann ein Deployment entstehen oder verschwinden
            key = next((key for key in self._resources if key.endswith(end)), "")
            endpoint = self._resources.get(key)
        if endpoint is None:
            raise refusal("no_endpoint")
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if endpoint["properties"].get("authMode", "Key").lower() == "aadtoken":
            action = f"{PROVIDER}/workspaces/onlineEndpoints/score/action"
            self._access.check(self._access.caller(request), action, endpoint["id"])
        elif given not in self._keys[key].values():
            raise refusal("bad_key")
        return key, endpoint

    def _choose(self, key: str, properties: dict) -> str:
        traffic = {n: p for n, p in (properties.get("traffic") or {}).items() if p}
        if not traffic:
            return ""
        with self._lock:
            return self._dice[key].choices(list(traffic), list(traffic.values()))[0]

    def _mirror(self, key: str, properties: dict, request: Request) -> None:
        """Schickt einen Teil der Anfragen auch dorthin; die Antwort liest niemand."""
        for name, percent in (properties.get("mirrorTraffic") or {}).items():
            with self._lock:
                chosen = self._dice[key].random() * 100 < percent
            running = self._running.get(f"{key}/deployments/{name}".lower())
            if chosen and running:
                threading.Thread(target=discard, args=(request, running), daemon=True).start()


def extras(request: Request) -> dict:
    """Was neben `properties` zu einer Ressource gehört, etwa Zahl und Art der Maschinen."""
    given = request.json()
    return {name: given[name] for name in ("kind", "identity", "sku", "tags") if name in given}


def new_key() -> str:
    """Ein Schlüssel für die Fragenden."""
    return secrets.token_urlsafe(32)


def duration(text: str) -> float:
    """Liest `PT5S`, `PT1M30S` oder `PT0.5S`."""
    found = re.fullmatch(r"PT(?:(\d+)M)?(?:([\d.]+)S)?", text)
    if not found:
        raise Refusal(400, f"Die Dauer {text} ist nicht lesbar.", "BadArgument")
    return int(found[1] or 0) * 60 + float(found[2] or 0)


def environment_python(slug: str) -> str:
    """Das Python einer Umgebung des Buches; sie ist hier, was sonst das Image wäre."""
    folder = ROOT / ".environments" / slug
    program = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not program.exists():
        message = f"Es fehlt die Umgebung. Abhilfe: python tools/setup.py {slug}"
        raise Refusal(400, message, "BadEnvironmentImage")
    return str(program)


def own_container(environment: dict) -> tuple[list[str], str]:
    """Der Prozess eines eigenen Images und die Adresse, unter der er sich bereit meldet."""
    image = environment.get("image", "").rpartition("/")[2].partition(":")[0]
    if image not in CONTAINERS:
        raise refusal("no_image", image=environment.get("image"))
    readiness = environment["inferenceConfig"]["readinessRoute"]["path"]
    return [sys.executable, *CONTAINERS[image]], readiness


def forward(request: Request, running: Running, route: str) -> Response:
    """Stellt dem Prozess die Frage; lehnt er sie ab, wird daraus 424 mit seinem Status."""
    headers = {"Content-Type": request.headers.get("content-type", "application/json")}
    # Der Pfad kam entschlüsselt an; `:` steht etwa in `/v1/models/x:predict`.
    url = f"http://127.0.0.1:{running.port}{urllib.parse.quote(route, safe='/:')}"
    question = urllib.request.Request(url, request.body, headers, method=request.method)
    try:
        with urllib.request.urlopen(question, timeout=running.timeout) as answer:
            return Response(answer.read(), 200, {}, answer.headers.get("Content-Type", ""))
    except urllib.error.HTTPError as error:
        told = {
            "ms-azureml-model-error-statuscode": str(error.code),
            "ms-azureml-model-error-reason": "model_error",
        }
        return Response(error.read(), 424, told, error.headers.get("Content-Type", ""))
    except TimeoutError:
        raise refusal("slow", seconds=running.timeout) from None
    except OSError:  # der Prozess ist weg
        raise refusal("silent") from None


def discard(request: Request, running: Running) -> None:
    """Stellt die Frage und wirft weg, was zurückkommt; auch ein Fehler geht niemanden an."""
    with contextlib.suppress(Refusal):
        forward(request, running, f"/{request.args['path']}")


def main() -> None:
    """Startet die Nachbildung mit dem Zertifikat aus der Umgebung."""
    try:
        certificate = os.environ["LOCAL_AZURE_CERTIFICATE"]
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate)
    except KeyError as missing:
        sys.exit(f"Es fehlt {missing}: die Datei mit Schlüssel und Zertifikat.")
    except OSError as error:
        sys.exit(f"Das Zertifikat lässt sich nicht laden: {error}")
    run(Azure, tls)


if __name__ == "__main__":
    main()
