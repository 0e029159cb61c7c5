"""AWS auf dem eigenen Rechner: moto beantwortet die Aufrufe, hier laufen die Endpunkte.

moto verwaltet Rollen, Speicher, Modelle und Endpunkte, führt aber keinen Endpunkt aus. Diese
Nachbildung holt dazu model.tar.gz aus dem Speicher, startet den Prozess des Images, wartet auf
/ping und verteilt Anfragen nach Gewicht.

Starten: python -m examples.local_cloud.sagemaker --port …
AWS_ACCESS_KEY_ID und AWS_SECRET_ACCESS_KEY sind dabei der Schlüssel des Kontoinhabers.
"""

from __future__ import annotations

import io
import json
import os
import random
import re
import sys
import tarfile
import tempfile
import threading
import time
import traceback
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, urlencode
from xml.sax.saxutils import escape

from moto.backends import get_backend
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.sagemaker.models import FakeEndpoint
from moto.sagemaker.responses import SageMakerResponse
from werkzeug.test import Client

from examples.local_cloud import aws_access
from examples.local_cloud.aws_access import ACCOUNT, XML, Access, Call, refusal
from examples.local_cloud.service import (
    App,
    Child,
    Refusal,
    Request,
    Response,
    free_port,
    route,
    run,
    say,
)

# Statt ein Image zu ziehen, startet die Nachbildung den Prozess, den es starten würde.
IMAGES = {
    "price-service": ["-m", "examples.sagemaker_endpoint.container", "serve"],
    "price-handlers": ["-m", "examples.sagemaker_endpoint.toolkit", "serve"],
}
SERVICES = {"sts", "iam", "s3", "ecr", "sagemaker", "application-autoscaling", "logs"}
INVOKE_SECONDS = 60
# Was hier ausgeführt wird; alles andere hätte still keine Wirkung.
ENDPOINT = {"EndpointName", "EndpointConfigName"}
CONFIG = {"EndpointConfigName", "ProductionVariants", "Tags"}
VARIANT = {
    "VariantName",
    "ModelName",
    "InstanceType",
    "InitialInstanceCount",
    "InitialVariantWeight",
    "ContainerStartupHealthCheckTimeoutInSeconds",
}


@dataclass
class Variant:
    """Ein laufender Container: der Prozess und sein Port."""

    child: Child
    port: int
    shipped: int = 0  # so viele Zeilen seines Protokolls liegen schon bei CloudWatch


@dataclass
class Hosting:
    """Was hinter einem Endpunkt läuft."""

    variants: dict[str, Variant] = field(default_factory=dict)


class SageMaker(App):
    """SageMaker und was es an AWS braucht."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        try:
            key, secret = os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
        except KeyError as missing:
            sys.exit(f"Es fehlt {missing}: der Schlüssel, mit dem das Konto beginnt.")
        self._access = Access(key, secret)
        self._moto = Client(DomainDispatcherApplication(create_backend_app), use_cookies=False)
        self._hosted: dict[tuple[str, str], Hosting] = {}
        self._lock = threading.RLock()

    @route("GET", "/{rest:path}")
    @route("HEAD", "/{rest:path}")
    @route("PUT", "/{rest:path}")
    @route("POST", "/{rest:path}")
    @route("DELETE", "/{rest:path}")
    def call(self, request: Request) -> Response:
        """Prüft, wer fragt, und reicht den Aufruf weiter: an diese Klasse oder an moto."""
        service = "sagemaker"
        try:
            call = aws_access.read(request)
            service = call.service
            if service not in SERVICES:
                raise self._unknown(call)
            who = self._access.check(call, request, self.address)
            say(f"{call.name} ({who})")
            if call.name == "sts:AssumeRole":
                aws_access.check_trust(request, who)
            if service == "logs":
                self._ship_logs(call.region)
            own = (
                getattr(self, f"on_{snake(call.action)}", None) if service == "sagemaker" else None
            )
            response = own(call, request) if own else self._ask_moto(call, request)
        except Refusal as refused:
            return aws_error(service, refused)
        except Exception:  # das SDK soll einen Fehler lesen können, die Ursache steht hier
            traceback.print_exc()
            message = "In der Nachbildung ist ein Fehler aufgetreten."
            return aws_error(service, Refusal(500, message, "InternalFailure"))
        return response

    # --- Aufrufe, die moto nicht oder nicht wie AWS beantwortet

    def on_create_model(self, call: Call, request: Request) -> Response:
        """Prüft wie AWS, ob die Rolle Image und Modell holen darf und ob es beide gibt."""
        name = call.content["ModelName"]
        self._refuse_twice(self._backend(call.region)._models, "model", name, call)
        container = call.content.get("PrimaryContainer") or call.content["Containers"][0]
        if package := container.pop("ModelPackageName", None):
            container |= self._approved(package, call.region)
            call.content["PrimaryContainer"] = container
            request.body = json.dumps(call.content).encode()
        role = call.content.get("ExecutionRoleArn", "")
        self._check_image(container.get("Image", ""), role, call.region)
        if url := container.get("ModelDataUrl"):
            self._model_data(url, role, call.region)
        return self._ask_moto(call, request)

    def on_create_endpoint_config(self, call: Call, request: Request) -> Response:
        """Lehnt einen vergebenen Namen ab; moto überschreibt die Konfiguration."""
        name = call.content["EndpointConfigName"]
        configs = self._backend(call.region).endpoint_configs
        self._refuse_twice(configs, "endpoint_configuration", name, call)
        only(call, call.content, CONFIG)
        for variant in call.content.get("ProductionVariants", []):
            only(call, variant, VARIANT)
            variant.setdefault("InitialVariantWeight", 1)  # moto kennt keine Vorgabe
        request.body = json.dumps(call.content).encode()
        return self._ask_moto(call, request)

    def on_create_endpoint(self, call: Call, request: Request) -> Response:
        """Legt den Endpunkt an; die Container starten danach, wie bei AWS."""
        name = call.content["EndpointName"]
        self._refuse_twice(self._backend(call.region).endpoints, "endpoint", name, call)
        only(call, call.content, ENDPOINT | {"Tags"})
        response = self._ask_moto(call, request)
        if response.status == 200:
            endpoint = self._backend(call.region).endpoints[name]
            endpoint.endpoint_status = "Creating"
            self._deploy_later(call.region, endpoint, call.content["EndpointConfigName"])
        return response

    def on_update_endpoint(self, call: Call, request: Request) -> Response:
        """Startet die neuen Container neben den alten und schaltet um, wenn alle bereit sind."""
        backend = self._backend(call.region)
        endpoint = self._find(backend.endpoints, call.content["EndpointName"], "endpoint", call)
        only(call, call.content, ENDPOINT)
        wanted = call.content["EndpointConfigName"]
        self._find(backend.endpoint_configs, wanted, "endpoint_configuration", call)
        if endpoint.endpoint_status != "InService":
            raise refusal("in_progress", arn=endpoint.arn)
        endpoint.endpoint_status = "Updating"
        self._deploy_later(call.region, endpoint, wanted)
        return Response({"EndpointArn": endpoint.arn}, media_type=JSON)

    def on_update_endpoint_weights_and_capacities(self, call: Call, request: Request) -> Response:
        """Behält, was der Aufruf nicht nennt; moto löschte Gewicht oder Zahl der Instanzen."""
        endpoint = self._backend(call.region).endpoints.get(call.content["EndpointName"])
        before = [dict(variant) for variant in endpoint.production_variants] if endpoint else []
        response = self._ask_moto(call, request)
        for old, variant in zip(
            before, endpoint.production_variants if endpoint else [], strict=True
        ):
            for key in [key for key, value in variant.items() if value is None]:
                if key in old:
                    variant[key] = old[key]
                else:
                    del variant[key]
        return response

    def on_delete_endpoint(self, call: Call, request: Request) -> Response:
        """Beendet die Container; laufende Anfragen bekommen noch ihre Antwort."""
        response = self._ask_moto(call, request)
        if response.status == 200:
            with self._lock:
                hosting = self._hosted.pop((call.region, call.content["EndpointName"]), Hosting())
            # Das Protokoll überlebt den Endpunkt.
            self._ship(call.region, call.content["EndpointName"], hosting.variants)
            stop_all(hosting.variants.values())
        return response

    def on_create_model_package(self, call: Call, request: Request) -> Response:
        """Lehnt ab, wo moto nach dem Löschen einer älteren Version eine Nummer zweimal vergibt."""
        group = call.content.get("ModelPackageGroupName")
        packages = self._backend(call.region).model_packages.values()
        known = [p for p in packages if group and p.model_package_group_name == group]
        if any(p.model_package_version > len(known) for p in known):
            message = f"Nicht nachgebildet: {call.name} nach dem Löschen einer älteren Version"
            raise Refusal(501, message, "NotImplemented")
        return self._ask_moto(call, request)

    def on_delete_model_package(self, call: Call, request: Request) -> Response:
        """Entfernt eine Version aus der Registry; moto kennt den Aufruf nicht."""
        packages = self._backend(call.region).model_packages
        self._find(packages, call.content["ModelPackageName"], "model_package", call)
        del packages[call.content["ModelPackageName"]]
        return Response({}, media_type=JSON)

    def on_delete_model_package_group(self, call: Call, request: Request) -> Response:
        """Entfernt eine leere Gruppe; moto kennt den Aufruf nicht."""
        backend, name = self._backend(call.region), call.content["ModelPackageGroupName"]
        group = self._find(backend.model_package_groups, name, "model_package_group", call)
        if any(p.model_package_group_name == name for p in backend.model_packages.values()):
            raise refusal("not_empty", arn=group.arn)
        del backend.model_package_groups[name]
        return Response({}, media_type=JSON)

    def on_invoke_endpoint(self, call: Call, request: Request) -> Response:
        """Wählt eine Variante nach Gewicht und reicht die Anfrage an ihren Container."""
        name = call.content["EndpointName"]
        endpoint = self._backend(call.region).endpoints.get(name)
        with self._lock:
            hosting = self._hosted.get((call.region, name))
        if endpoint is None or hosting is None:
            raise refusal("no_endpoint", name=name, account=ACCOUNT)
        target = request.headers.get("x-amzn-sagemaker-target-variant") or choose(endpoint)
        if target not in hosting.variants:
            raise refusal("no_variant", target=target, name=name)
        return forward(request, hosting.variants[target].port, target)

    # --- Container

    def _deploy_later(self, region: str, endpoint: FakeEndpoint, config_name: str) -> None:
        threading.Thread(
            target=self._deploy, args=(region, endpoint, config_name), daemon=True
        ).start()

    def _deploy(self, region: str, endpoint: FakeEndpoint, config_name: str) -> None:
        """Startet alle Varianten; scheitert eine, bleibt in Betrieb, was vorher lief."""
        variants: dict[str, Variant] = {}
        key = (region, endpoint.endpoint_name)
        try:
            config = self._backend(region).endpoint_configs[config_name]
            for wanted in config.production_variants:
                variants[wanted["VariantName"]] = self._start(region, wanted)
            for wanted in config.production_variants:
                self._wait(variants[wanted["VariantName"]], wanted)
        except Exception as error:  # auch ein eigener Fehler; sonst hieße es für immer `Updating`
            self._ship(region, endpoint.endpoint_name, variants)
            stop_all(variants.values())
            endpoint.failure_reason = getattr(error, "message", repr(error))
            endpoint.endpoint_status = "InService" if key in self._hosted else "Failed"
            return
        with self._lock:
            if self._backend(region).endpoints.get(endpoint.endpoint_name) is not endpoint:
                return stop_all(variants.values())  # inzwischen gelöscht
            old = self._hosted.get(key, Hosting())
            self._hosted[key] = Hosting(variants)
            endpoint.endpoint_config_name = config_name
            endpoint.production_variants = endpoint._process_production_variants(
                config.production_variants
            )
            endpoint.failure_reason = None
            endpoint.endpoint_status = "InService"
        self._ship(region, endpoint.endpoint_name, old.variants)
        stop_all(old.variants.values())

    def _start(self, region: str, wanted: dict) -> Variant:
        model = self._backend(region)._models[wanted["ModelName"]]
        container = model.primary_container or model.containers[0]
        base = Path(tempfile.mkdtemp(dir=self.folder, prefix="opt-ml-"))
        (base / "model").mkdir()
        if url := container.get("ModelDataUrl"):
            data = self._model_data(url, model.execution_role_arn, region)
            try:
                with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
                    archive.extractall(base / "model", filter="data")
            except (tarfile.TarError, OSError, EOFError):
                raise refusal("bad_archive", url=url) from None
        port = free_port()
        # Wie im echten Container: ohne die Schlüssel dessen, der ihn gestartet hat.
        env = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        env |= {"SAGEMAKER_BASE_DIR": str(base), "SAGEMAKER_BIND_TO_PORT": str(port)}
        env |= {"PYTHONUNBUFFERED": "1"} | (container.get("Environment") or {})
        command = [sys.executable, *IMAGES[repository(container["Image"])]]
        return Variant(self.start(command, env), port)

    def _wait(self, variant: Variant, wanted: dict) -> None:
        limit = wanted.get("ContainerStartupHealthCheckTimeoutInSeconds", 60)
        if not variant.child.answers(f"http://127.0.0.1:{variant.port}/ping", limit):
            raise refusal("no_ping", variant=wanted["VariantName"])

    def _ship_logs(self, region: str) -> None:
        for (place, name), hosting in list(self._hosted.items()):
            if place == region:
                self._ship(region, name, hosting.variants)

    def _ship(self, region: str, endpoint: str, variants: dict[str, Variant]) -> None:
        """Bringt neue Zeilen der Container dorthin, wo AWS sie ablegt: CloudWatch Logs."""
        group = {"logGroupName": f"/aws/sagemaker/Endpoints/{endpoint}"}
        for name, variant in variants.items():
            lines = [line for line in variant.child.log().splitlines() if line.strip()]
            new, variant.shipped = lines[variant.shipped :], len(lines)
            stream = group | {"logStreamName": f"{name}/{variant.port}"}
            now = int(time.time() * 1000)
            events = [{"timestamp": now, "message": line} for line in new]
            if events:
                self._logs(region, "CreateLogGroup", group)
                self._logs(region, "CreateLogStream", stream)
                self._logs(region, "PutLogEvents", stream | {"logEvents": events})

    def _logs(self, region: str, action: str, content: dict) -> None:
        """Ein eigener Aufruf an moto; dass es Gruppe und Strom schon gibt, ist kein Fehler."""
        self._moto.post(
            "/",
            base_url=self.address,
            data=json.dumps(content),
            headers=signed("logs", region) | {"X-Amz-Target": f"Logs_20140328.{action}"},
            content_type=JSON,
        )

    # --- Was AWS prüft, bevor es etwas anlegt

    def _refuse_twice(self, known: dict, kind: str, name: str, call: Call) -> None:
        if name in known:
            arn = f"arn:aws:sagemaker:{call.region}:{ACCOUNT}:{kind.replace('_', '-')}/{name}"
            raise refusal("exists", kind=kind.replace("_", " "), arn=arn)

    def _find(self, known: dict, name: str, kind: str, call: Call) -> object:
        if name not in known:
            raise refusal("missing", kind=kind.replace("_", " "), name=name)
        return known[name]

    def _approved(self, arn: str, region: str) -> dict:
        """Image und Modell einer Version aus der Registry, wenn sie freigegeben ist."""
        package = self._backend(region).model_packages.get(arn)
        if package is None:
            raise refusal("no_package", arn=arn)
        if package.model_approval_status != "Approved":
            raise refusal("not_approved", arn=arn, status=package.model_approval_status)
        (container,) = package.inference_specification["Containers"]
        return {
            name: container[name]
            for name in ("Image", "ModelDataUrl", "Environment")
            if name in container
        }

    def _check_image(self, image: str, role: str, region: str) -> None:
        name, _, tag = image.rpartition("/")[2].partition(":")
        repositories = get_backend("ecr")[ACCOUNT][region].repositories
        tags = {t for i in getattr(repositories.get(name), "images", []) for t in i.image_tags}
        if (tag or "latest") not in tags or name not in IMAGES:
            raise refusal("no_image", image=image)
        arn = f"arn:aws:ecr:{region}:{ACCOUNT}:repository/{name}"
        if not aws_access.role_allows(role, "ecr:BatchGetImage", arn):
            raise refusal("image_denied", role=role, image=image)

    def _model_data(self, url: str, role: str, region: str) -> bytes:
        """Holt model.tar.gz mit den Rechten der Rolle."""
        found = re.fullmatch(r"s3://([^/]+)/(.+)", url)
        bucket, key = found.groups() if found else ("", "")
        permitted = aws_access.role_allows(role, "s3:GetObject", f"arn:aws:s3:::{bucket}/{key}")
        response = self._moto.get(
            f"/{bucket}/{quote(key)}", base_url=self.address, headers=signed("s3", region)
        )
        if not permitted or response.status_code != 200:
            raise refusal("no_model_data", url=url, role=role, region=region)
        return response.data

    def _backend(self, region: str):
        return get_backend("sagemaker")[ACCOUNT][region]

    def _unknown(self, call: Call) -> Refusal:
        return Refusal(501, f"Nicht nachgebildet: {call.name}", "NotImplemented")

    def _ask_moto(self, call: Call, request: Request) -> Response:
        """Reicht den Aufruf an moto weiter und dessen Antwort zurück."""
        if call.service == "sagemaker" and not hasattr(SageMakerResponse, snake(call.action)):
            raise self._unknown(call)
        path = quote(request.path, safe="/~")
        if request.query:
            path += f"?{urlencode(request.query, quote_via=quote)}"
        # Die Länge stimmt nicht mehr, wenn diese Nachbildung den Inhalt ergänzt hat.
        headers = {
            n: v
            for n, v in request.headers.items()
            if n not in ("content-length", "transfer-encoding")
        }
        try:
            answer = self._moto.open(
                path,
                method=request.method,
                base_url=self.address,
                headers=headers,
                data=request.body,
            )
        except NotImplementedError:
            raise self._unknown(call) from None
        content = answer.data
        if (
            call.action.startswith("Describe")
            and call.service == "sagemaker"
            and answer.status_code == 200
        ):
            # moto nennt leere Angaben, AWS lässt sie weg; das SDK v3 besteht darauf.
            content = {n: v for n, v in json.loads(content).items() if v not in ({}, [])}
        kept = {
            n: v
            for n, v in answer.headers.items()
            if n.lower() not in ("content-length", "content-type", "connection", "date", "server")
        }
        return Response(content, answer.status_code, kept, answer.content_type or JSON)


JSON = "application/x-amz-json-1.1"


def only(call: Call, given: dict, known: set[str]) -> None:
    """Lehnt ab, was `given` über das Bekannte hinaus verlangt."""
    if extra := sorted(set(given) - known):
        message = f"Nicht nachgebildet: {call.name} mit {', '.join(extra)}"
        raise Refusal(501, message, "NotImplemented")


def snake(name: str) -> str:
    """Aus `CreateModel` wird `create_model`: So nennt moto seine Methoden."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def repository(image: str) -> str:
    """Der Name des Repositorys ohne Registry und Tag."""
    return image.rpartition("/")[2].partition(":")[0]


def signed(service: str, region: str) -> dict[str, str]:
    """Genügt moto: Es liest aus der Signatur nur, welcher Dienst gemeint ist."""
    scope = f"none/20260101/{region}/{service}/aws4_request"
    return {"Authorization": f"AWS4-HMAC-SHA256 Credential={scope}"}


def stop_all(variants) -> None:
    """Beendet Container im Hintergrund; auf das Ende wartet niemand."""
    for variant in list(variants):
        threading.Thread(target=variant.child.stop).start()


def choose(endpoint: FakeEndpoint) -> str:
    """Lost eine Variante nach Gewicht aus; ohne Angabe fehlt bei moto die Null."""
    weights = {v["VariantName"]: v.get("CurrentWeight", 0) for v in endpoint.production_variants}
    if not any(weights.values()):
        raise refusal("no_weight")
    return random.choices(list(weights), list(weights.values()))[0]


def forward(request: Request, port: int, variant: str) -> Response:
    """Stellt dem Container die Anfrage; lehnt er sie ab, wird daraus ein `ModelError`."""
    headers = {
        "Content-Type": request.headers.get("content-type", "application/octet-stream"),
        "Accept": request.headers.get("accept", "*/*"),
    }
    url = f"http://127.0.0.1:{port}/invocations"
    question = urllib.request.Request(url, request.body, headers)
    try:
        with urllib.request.urlopen(question, timeout=INVOKE_SECONDS) as answer:
            kind = answer.headers.get("Content-Type", "application/octet-stream")
            return Response(
                answer.read(), 200, {"x-Amzn-Invoked-Production-Variant": variant}, kind
            )
    except urllib.error.HTTPError as error:
        original = error.read().decode(errors="replace")
        side = "client" if error.code < 500 else "server"
        told = refusal("from_model", side=side, status=error.code, original=original)
        content = {"ErrorCode": f"{side.upper()}_ERROR_FROM_MODEL", "Message": told.message}
        content |= {"OriginalStatusCode": error.code, "OriginalMessage": original}
        return Response(content, told.status, {"x-amzn-ErrorType": told.code})
    except OSError:  # der Container ist weg oder schweigt
        return aws_error("sagemaker", refusal("no_answer", variant=variant))


def aws_error(service: str, refused: Refusal) -> Response:
    """Die Absage in der Form des Dienstes: XML bei S3, IAM und STS, sonst JSON."""
    code = refused.code or "ValidationException"  # ein Feld fehlt oder ist kein JSON
    if service in XML:
        inner = f"<Code>{code}</Code><Message>{escape(refused.message)}</Message>"
        body = f"<Error>{inner}</Error>"
        if service != "s3":
            body = f"<ErrorResponse><Error><Type>Sender</Type>{inner}</Error></ErrorResponse>"
        return Response(body.encode(), refused.status, media_type="text/xml")
    content = {"__type": code, "message": refused.message, "Message": refused.message}
    return Response(content, refused.status, {"x-amzn-ErrorType": code}, JSON)


if __name__ == "__main__":
    run(SageMaker)
