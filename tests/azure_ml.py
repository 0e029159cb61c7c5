"""Azure für Tests und Vertrag: Das SDK lebt in der Umgebung local_cloud, also in einem Prozess.

Je Zeile ein Aufruf als JSON; zurück kommt das Ergebnis oder der Fehler, wie ihn das SDK meldet.
"""

import json
import os
import ssl
import subprocess
from pathlib import Path
from typing import Self
from unittest import mock

import httpx

import process

ENVIRONMENT = "local_cloud"
SUBSCRIPTION = "00000000-0000-0000-0000-000000000000"
LOOP = """
import contextlib, functools, json, os, sys, time, types

import azure.ai.ml as sdk
from azure.ai.ml import MLClient, entities
from azure.core.credentials import AccessToken
from azure.core.exceptions import HttpResponseError

out, sys.stdout = sys.stdout, sys.stderr  # das SDK schreibt seinen Fortschritt dazwischen

@functools.cache
def client(token, workspace):
    answer = AccessToken(token, int(time.time()) + 3600)
    credential = types.SimpleNamespace(get_token=lambda *scopes, **options: answer)
    place = (sys.argv[1], "price", workspace)
    return MLClient(credential, *place, cloud="LokaleCloud", enable_telemetry=False,
                    show_progress=False, retry_total=0)

def given(value):
    # {"load_online_endpoint": [Datei, Änderungen]} oder {"Model": Argumente}
    if isinstance(value, dict) and len(value) == 1 and hasattr(sdk, next(iter(value))):
        (name, (path, changes)), = value.items()
        return getattr(sdk, name)(path, params_override=[{k: v} for k, v in changes.items()])
    if isinstance(value, dict) and len(value) == 1 and hasattr(entities, next(iter(value))):
        (name, arguments), = value.items()
        return getattr(entities, name)(**arguments)
    return value

def plain(result):
    if hasattr(result, "result"):
        result = result.result()
    if hasattr(result, "_to_dict"):
        return result._to_dict()
    if isinstance(result, (str, type(None))):
        return result
    if hasattr(result, "__next__") or isinstance(result, list):
        return [item.name for item in result]
    return vars(result)

for line in sys.stdin:
    token, workspace, group, method, arguments = json.loads(line)
    try:
        place = getattr(client(token, workspace), group) if group else sdk
        operation = getattr(place, method)
        positional = [given(value) for value in arguments.pop("", [])]
        answer = {"result": plain(operation(*positional, **arguments))}
    except HttpResponseError as error:
        code = error.error.code if error.error else ""
        answer = {"status": error.status_code, "code": code, "message": str(error.message)}
    except Exception as error:
        answer = {"status": None, "code": type(error).__name__, "message": str(error)}
    print(json.dumps(answer, default=str), file=out, flush=True)
"""


class AzureError(Exception):
    """Ein Fehler, wie ihn das SDK meldet; `status` fehlt, wenn es gar nicht erst fragte."""

    def __init__(self, answer: dict) -> None:
        super().__init__(f"{answer['code']}: {answer['message']}")
        self.status, self.code, self.message = answer["status"], answer["code"], answer["message"]


class Azure:
    """Die Nachbildung und ein SDK, das mit ihr spricht, beide als Prozess."""

    def __init__(self, port: int, folder: Path) -> None:
        self.url, self.folder = f"https://127.0.0.1:{port}", folder
        self.access = json.loads(module("access", folder, environment=f"python:{ENVIRONMENT}"))
        self.tokens = self.access["tokens"]
        self.env = self.access["client"] | {
            "ARM_CLOUD_METADATA_URL": f"{self.url}/metadata/endpoints",
            "AZUREML_CURRENT_CLOUD": "LokaleCloud",
        }
        self.trusted = ssl.create_default_context(cafile=self.access["client"]["SSL_CERT_FILE"])
        self.http = httpx.Client(verify=self.trusted, timeout=30)

    def __enter__(self) -> Self:
        """Startet die Nachbildung und dann das SDK: Es fragt schon beim Import nach der Cloud."""
        port = self.url.rpartition(":")[2]
        with mock.patch.dict(os.environ, self.access["client"]):
            self.service = process.serve(
                [f"python:{ENVIRONMENT}", "-m", "examples.local_cloud.azure", "--port", port],
                f"{self.url}/health/ready",
                timeout=60,
                env=self.access["server"],
            )
        with (self.folder / "sdk.log").open("w") as log:
            self._child = subprocess.Popen(
                process._command([f"python:{ENVIRONMENT}", "-c", LOOP, SUBSCRIPTION]),
                cwd=process.ROOT,
                env=process._environment(self.env),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                encoding="utf-8",
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._child.__exit__(None, None, None)  # schließt die Eingabe; daran endet der Prozess
        self.service.stop()
        self.http.close()

    def call(self, role: str, call: str, *positional: object, **arguments: object):
        """Ein Aufruf wie `online_endpoints.get` mit dem Token der Rolle; ohne sie, wie er ist.

        Ohne Punkt ist er eine Funktion des SDK selbst, etwa `load_environment`.
        """
        group, _, method = call.rpartition(".")
        workspace = arguments.pop("workspace", "price")
        given = {"": positional} | arguments
        token = self.tokens.get(role, role)
        self._child.stdin.write(json.dumps([token, workspace, group, method, given]) + "\n")
        self._child.stdin.flush()
        answer = json.loads(self._child.stdout.readline())
        if "result" not in answer:
            raise AzureError(answer)
        return answer["result"]

    def file(self, name: str, /, **changes: object) -> dict:
        """Eine YAML-Datei aus dem zusammengestellten Ordner, mit Änderungen."""
        kinds = {"endpoint": "load_online_endpoint", "environment": "load_environment"}
        kind = kinds.get(name, "load_online_deployment")
        return {kind: [str(self.folder / f"{name}.yml"), changes]}

    def register(self) -> None:
        """Stellt den Ordner zusammen und meldet Modelle und Umgebung an."""
        module("assemble", self.folder)
        for name in ("sklearn", "onnx"):
            model = {"name": f"price-{name}", "version": "1", "path": str(self.folder / name)}
            self.call("deployer", "models.create_or_update", {"Model": model})
        self.call("deployer", "environments.create_or_update", self.file("environment"))

    def deploy(self, *names: str) -> None:
        """Legt den Endpunkt an und darin die Deployments; das erste bekommt allen Verkehr."""
        self.call("deployer", "online_endpoints.begin_create_or_update", self.file("endpoint"))
        for name in names:
            self.call("deployer", "online_deployments.begin_create_or_update", self.file(name))
        self.traffic({names[0]: 100})

    def traffic(self, live: dict[str, int], mirror: dict[str, int] | None = None) -> dict:
        """Verteilt den Verkehr und nennt den Endpunkt danach."""
        changed = self.file("endpoint", traffic=live, mirror_traffic=mirror or {})
        return self.call("deployer", "online_endpoints.begin_create_or_update", changed)

    def key(self, which: str = "primary") -> str:
        """Ein Schlüssel des Endpunkts."""
        keys = self.call("keeper", "online_endpoints.get_keys", name="price")
        return keys[f"{which}_key"]

    def ask(
        self, content: object, key: str, deployment: str = "", path: str = "score"
    ) -> httpx.Response:
        """Stellt dem Endpunkt eine Frage."""
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        headers |= {"azureml-model-deployment": deployment} if deployment else {}
        # json.dumps schreibt auch NaN; httpx verweigerte es schon beim Absenden.
        content = content if isinstance(content, bytes) else json.dumps(content).encode()
        url = f"{self.url}/endpoints/price/{path}"
        return self.http.post(url, content=content, headers=headers)


def module(name: str, *arguments: object, environment: str = "python") -> str:
    """Führt ein Modul des Beispiels aus."""
    command = [environment, "-m", f"examples.azure_ml_endpoint.{name}", *arguments]
    return process.output(command)
