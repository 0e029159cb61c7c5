"""Azure auf dem eigenen Rechner, gefragt vom SDK: Absagen wie dort, und kein Rest."""

import json
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import pytest

import process
from azure_ml import SUBSCRIPTION, Azure, AzureError, module
from contract import require_environment
from examples.local_cloud import azure as azure_cloud
from examples.local_cloud import blobs
from examples.local_cloud.azure_access import Principal
from examples.local_cloud.service import Refusal, Request
from examples.price_model.schema import EXAMPLE

GROUP = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/price"
WORKSPACE = f"{GROUP}/providers/Microsoft.MachineLearningServices/workspaces/price"
QUESTION = {"data": EXAMPLE}
SLOW = """
import os, time

def init():
    pass

def run(data):
    print("asked:", data, flush=True)
    if "die" in data:
        os._exit(1)
    time.sleep(float(data))
    return "fertig"
"""


@pytest.fixture(scope="module")
def endpoint(azure) -> Azure:
    """Der Endpunkt `price` mit zwei Deployments: alter Server, eigener Container."""
    azure.register()
    azure.deploy("green", "container")
    return azure


def refused(azure: Azure, *call: object, **arguments: object) -> AzureError:
    """Der Fehler, mit dem ein Aufruf abgelehnt wird."""
    with pytest.raises(AzureError) as error:
        azure.call(*call, **arguments)
    return error.value


def raw(azure: Azure, method: str, path: str, role: str = "owner", **options) -> httpx.Response:
    """Ein Aufruf am SDK vorbei."""
    headers = {"Authorization": f"Bearer {azure.tokens.get(role, role)}"}
    return azure.http.request(method, f"{azure.url}{path}", headers=headers, **options)


def scored(azure: Azure, deployment: str) -> int:
    """Wie viele Fragen das Deployment beantwortet hat, nach seinem eigenen Protokoll."""
    arguments = {"name": deployment, "endpoint_name": "price", "lines": 10_000}
    log = azure.call("deployer", "online_deployments.get_logs", **arguments)
    return log.count("azmlinfsrv - POST /score 200")


def settled(azure: Azure, deployment: str) -> int:
    """Zählt wie `scored`, sobald eine Sekunde lang keine Antwort mehr folgt."""
    count, deadline = -1, time.monotonic() + 60
    while (now := scored(azure, deployment)) != count:
        assert time.monotonic() < deadline, f"Es kommen immer noch Antworten: {now}"
        count = now
        time.sleep(1)
    return count


def slow_deployment(azure: Azure, name: str, folder: Path, **changes: object) -> dict:
    """Ein Deployment, das so lange rechnet, wie die Frage sagt."""
    (folder / "slow").mkdir(exist_ok=True)
    (folder / "slow" / "score.py").write_text(SLOW, encoding="utf-8")
    code = {"code_configuration.code": str(folder / "slow")}
    return azure.file("green", name=name, **code, **changes)


def test_wrong_token_is_refused(azure):
    error = refused(azure, "falsch", "workspaces.get", "price")
    assert (error.status, error.code) == (401, "InvalidAuthenticationToken")
    assert azure.http.get(f"{azure.url}{WORKSPACE}").status_code == 401


def test_unknown_call_is_refused_by_name(azure):
    error = refused(azure, "owner", "jobs.get", "training")
    assert (error.status, error.code) == (501, "NotImplemented")
    assert f"Nicht nachgebildet: GET {WORKSPACE}/jobs/training" in error.message
    answer = raw(azure, "POST", f"{WORKSPACE}/computes/cpu/start")
    assert answer.status_code == 501 and "computes/cpu/start" in answer.text


def test_silent_connection_blocks_nobody(azure):
    with socket.create_connection(("127.0.0.1", int(azure.url.rpartition(":")[2]))):
        answer = httpx.get(f"{azure.url}/health/ready", verify=azure.trusted, timeout=10)
    assert answer.status_code == 200


def test_role_decides_what_is_allowed(azure):
    error = refused(azure, "client", "workspaces.get", "price")
    assert (error.status, error.code) == (403, "AuthorizationFailed")
    assert "'Microsoft.MachineLearningServices/workspaces/read'" in error.message
    azure.call("deployer", "workspaces.get", "price")


def test_not_actions_take_away_what_actions_allow():
    role = {"Actions": ["Microsoft.Storage/*"], "NotActions": ["microsoft.storage/*/DELETE"]}
    person = Principal("a", role)
    assert person.may("Microsoft.Storage/accounts/read")
    assert not person.may("Microsoft.Storage/accounts/delete")
    assert not person.may("Microsoft.Insights/components/read")


CONTAINER = """
import json, os, pathlib, sys
from unittest import mock
from examples.local_cloud import azure

app = azure.Azure(pathlib.Path(sys.argv[1]))
app._asset = lambda path: {"properties": json.loads(path.partition("=")[2])}
app._blobs = mock.Mock()
app.start = lambda command, env, cwd: print(json.dumps(env))
made = {"image": "r/price-api:1", "inferenceConfig": {"readinessRoute": {"path": "/"}}}
model = {"modelUri": "store/paths/x"}
environment = f"a/b/c={json.dumps(made)}"
app._start({"model": f"m/versions/1={json.dumps(model)}", "environmentId": environment})
"""


def test_container_sees_no_token_of_the_platform(tmp_path):
    require_environment("local_cloud")
    env = {"LOCAL_AZURE_TOKENS": "{}", "LOCAL_AZURE_CERTIFICATE": "geheim", "PYTHONPATH": "."}
    said = process.output(["python:local_cloud", "-c", CONTAINER, tmp_path], env=env)
    seen = json.loads(said)
    assert seen["AZUREML_MODEL_DIR"].startswith(str(tmp_path))
    assert (
        not [name for name in seen if name.startswith("LOCAL_AZURE")] and "PYTHONPATH" not in seen
    )


def test_broken_content_is_refused(azure):
    path = f"{WORKSPACE}/onlineEndpoints/other"
    for content, status in ((b"{", 400), (b"[]", 400), (b"{}", 400)):
        answer = raw(azure, "PUT", path, content=content)
        assert answer.status_code == status and answer.json()["error"]["message"]
    assert raw(azure, "GET", path).status_code == 404


def test_storage_wants_its_signature(azure):
    store = f"{azure.url}/storage/pricestore.blob.localhost"
    assert azure.http.get(f"{store}/azureml-blobstore/x").status_code == 403
    upload = raw(azure, "POST", f"{WORKSPACE}/codes/c/versions/1/startPendingUpload", json={})
    address = upload.json()["blobReferenceForConsumption"]["credential"]["sasUri"]
    place, signature = address.split("?")
    blob = {"x-ms-blob-type": "BlockBlob"}
    url = f"{place}/a?{signature}"
    assert azure.http.put(url, content=b"Inhalt", headers=blob).status_code == 201
    part = azure.http.get(url, headers={"x-ms-range": "bytes=2-4"})
    assert (part.status_code, part.content) == (206, b"hal")
    assert azure.http.put(f"{url}&comp=block", content=b"x").status_code == 501
    # Die Signatur eines Containers öffnet keinen anderen.
    assert azure.http.get(f"{store}/azureml-blobstore/x?{signature}").status_code == 403


def test_missing_things_are_named(azure, endpoint):
    for call, arguments in {
        "workspaces.get": {"name": "nirgends"},
        "online_endpoints.get": {"name": "nirgends"},
        "online_endpoints.begin_delete": {"name": "nirgends"},
        "online_deployments.get": {"name": "nirgends", "endpoint_name": "price"},
        "online_deployments.begin_delete": {"name": "nirgends", "endpoint_name": "price"},
        "models.get": {"name": "nirgends", "version": "1"},
    }.items():
        error = refused(azure, "owner", call, **arguments)
        assert (error.status, error.code) == (404, "ResourceNotFound"), call
        assert "nirgends" in error.message
    missing = azure.file("green", model="azureml:nirgends:1")
    error = refused(azure, "deployer", "online_deployments.begin_create_or_update", missing)
    assert "nirgends" in error.message
    nowhere = azure.http.post(f"{azure.url}/endpoints/nirgends/score", json={})
    assert nowhere.status_code == 404
    assert azure.ask(QUESTION, azure.key(), "nirgends").status_code == 404


def test_older_operation_does_not_replace_the_newer(endpoint, tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import time; time.sleep(10)")
    place = f"{WORKSPACE}/onlineEndpoints/price/deployments"
    green, ended = raw(endpoint, "GET", f"{place}/green").json(), []
    slow, begun = {"environmentVariables": {"PYTHONPATH": str(tmp_path)}}, []
    for change in (slow, {}):
        body = {"properties": green["properties"] | change, "sku": green.get("sku")}
        answer = raw(endpoint, "PUT", f"{place}/race", json=body)
        begun.append(answer.headers["Azure-AsyncOperation"].removeprefix(endpoint.url))
    deadline = time.monotonic() + 60
    for path in begun:
        while (found := raw(endpoint, "GET", path).json())["status"] == "InProgress":
            assert time.monotonic() < deadline
            time.sleep(0.2)
        ended.append(found)
    assert [operation["status"] for operation in ended] == ["Failed", "Succeeded"]
    assert ended[0]["error"]["code"] == "OperationCanceled"
    raw(endpoint, "DELETE", f"{place}/race")
    while raw(endpoint, "GET", f"{place}/race").status_code != 404:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_wrong_key_is_refused(endpoint):
    for key in ("falsch", endpoint.tokens["owner"], endpoint.key()[:-1]):
        answer = endpoint.ask(QUESTION, key)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "Unauthorized")
    assert endpoint.ask(QUESTION, endpoint.key("secondary")).status_code == 200


def test_new_key_replaces_only_its_own(endpoint):
    primary, secondary = endpoint.key(), endpoint.key("secondary")
    renew = {"name": "price", "key_type": "primary"}
    endpoint.call("keeper", "online_endpoints.begin_regenerate_keys", **renew)
    assert endpoint.ask(QUESTION, primary).status_code == 401
    assert endpoint.key() != primary and endpoint.key("secondary") == secondary
    assert endpoint.ask(QUESTION, endpoint.key()).status_code == 200


def test_answer_names_the_deployment(endpoint):
    answer = endpoint.ask(QUESTION, endpoint.key())
    assert answer.headers["azureml-model-deployment"] == "green"
    assert answer.json() == {"price_usd": 2987.87, "model_version": "1.0.0"}
    own = endpoint.ask(EXAMPLE, endpoint.key(), "container", "predict")
    assert own.headers["azureml-model-deployment"] == "container"
    assert own.json() == answer.json()


@pytest.mark.parametrize(
    ("content", "status", "words"),
    [
        ({"data": EXAMPLE | {"carat": -1}}, 422, "größer als 0"),
        ({"stones": []}, 400, "'data' parameter"),
        (b"{", 400, "could not be decoded as JSON"),
        (b"", 400, "POST body is empty"),
    ],
)
def test_refusal_of_the_model_arrives_as_424(endpoint, content, status, words):
    answer = endpoint.ask(content, endpoint.key())
    assert answer.status_code == 424
    assert answer.headers["ms-azureml-model-error-statuscode"] == str(status)
    assert words in json.dumps(answer.json(), ensure_ascii=False)


def test_description_comes_from_the_deployment(endpoint):
    url = f"{endpoint.url}/endpoints/price/swagger.json"
    headers = {"Authorization": f"Bearer {endpoint.key()}"}
    endpoint.traffic({"green": 100})
    assert "/score" in endpoint.http.get(url, headers=headers).json()["paths"]
    endpoint.traffic({"container": 100})  # der eigene Container hat keine unter dieser Adresse
    missing = endpoint.http.get(url, headers=headers)
    odd = endpoint.http.post(f"{endpoint.url}/endpoints/price/größe a", headers=headers, json={})
    for answer in (missing, odd):
        assert answer.status_code == 424
        assert answer.headers["ms-azureml-model-error-statuscode"] == "404"


def test_traffic_is_split_in_percent_and_can_be_stopped(endpoint):
    key = endpoint.key()
    assert endpoint.traffic({"green": 70, "container": 30})["traffic"] == {
        "green": 70,
        "container": 30,
    }
    answers = [endpoint.ask(QUESTION, key) for _ in range(60)]
    names = [answer.headers["azureml-model-deployment"] for answer in answers]
    assert 24 < names.count("green") < 60  # erwartet 42, und die Folge ist festgelegt
    endpoint.traffic({})
    assert endpoint.ask(QUESTION, key).status_code == 404
    assert endpoint.ask(QUESTION, key, "green").status_code == 200
    endpoint.traffic({"green": 100})


@pytest.mark.parametrize(
    ("live", "mirror", "words"),
    [
        ({"green": 90}, {}, "must be 0 or 100"),
        ({"green": 100}, {"container": 60}, "At most 50 percent"),
        ({"green": 100}, {"green": 10}, "either live or mirrored"),
        ({"nirgends": 100}, {}, "nirgends does not exist"),
        ({"container": 100}, {"green": 10, "nirgends": 10}, "one deployment only"),
    ],
)
def test_impossible_traffic_is_refused(endpoint, live, mirror, words):
    with pytest.raises(AzureError) as error:
        endpoint.traffic(live, mirror)
    assert error.value.status == 400 and words in error.value.message
    answer = endpoint.ask(QUESTION, endpoint.key())
    assert answer.headers["azureml-model-deployment"] == "green"


def test_mirrored_answers_are_computed_and_thrown_away(endpoint):
    key = endpoint.key()
    endpoint.traffic({"container": 100}, {"green": 50})
    before = scored(endpoint, "green")
    for _ in range(40):
        answer = endpoint.ask(EXAMPLE | {"x": 5.8}, key, path="predict")
        assert answer.headers["azureml-model-deployment"] == "container"
    # Den Pfad kennt nur der Container: `green` antwortet mit 404, und niemand merkt es.
    assert answer.status_code == 200 and scored(endpoint, "green") == before
    for _ in range(40):
        assert endpoint.ask(QUESTION, key).status_code == 424  # der Container kennt kein /score
    count = settled(endpoint, "green")
    assert before + 8 <= count < before + 40  # erwartet 20 von 40
    # Wer ein Deployment nennt, wird nicht gespiegelt.
    for _ in range(20):
        endpoint.ask(QUESTION, key, "container")
    assert settled(endpoint, "green") == count
    endpoint.traffic({"green": 100})


def test_deployment_with_traffic_is_not_deleted(endpoint):
    arguments = {"name": "green", "endpoint_name": "price"}
    error = refused(endpoint, "deployer", "online_deployments.begin_delete", **arguments)
    assert error.status == 409 and "live traffic" in error.message


def test_registered_version_is_not_replaced(endpoint, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "metadata.json").write_text("{}")
    model = {"name": "price-onnx", "version": "1", "path": str(tmp_path / "other")}
    error = refused(endpoint, "deployer", "models.create_or_update", {"Model": model})
    assert error.status == 409


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"model": "azureml:price-sklearn:1"}, "ResourceNotReady"),  # ONNX erwartet, joblib da
        ({"instance_count": 99}, "BadArgument"),
    ],
)
def test_broken_deployment_fails_and_keeps_its_log(endpoint, changes, code):
    broken = endpoint.file("green", name="broken", **changes)
    error = refused(endpoint, "deployer", "online_deployments.begin_create_or_update", broken)
    assert error.code == code
    if code == "ResourceNotReady":
        arguments = {"name": "broken", "endpoint_name": "price"}
        found = endpoint.call("deployer", "online_deployments.get", **arguments)
        assert found["provisioning_state"].endswith("FAILED")
        arguments["lines"] = 200
        log = endpoint.call("deployer", "online_deployments.get_logs", **arguments)
        assert "User's init function failed" in log
        with pytest.raises(AzureError, match="broken does not exist or is not ready"):
            endpoint.traffic({"broken": 100})
        arguments.pop("lines")
        endpoint.call("deployer", "online_deployments.begin_delete", **arguments)
    assert endpoint.ask(QUESTION, endpoint.key()).status_code == 200


def test_failed_update_leaves_the_old_one_running(endpoint):
    for changes in ({"model": "azureml:price-sklearn:1"}, {"model": "azureml:nirgends:1"}):
        broken = endpoint.file("green", **changes)
        refused(endpoint, "deployer", "online_deployments.begin_create_or_update", broken)
        answer = endpoint.ask(QUESTION, endpoint.key())
        assert (answer.status_code, answer.headers["azureml-model-deployment"]) == (200, "green")
    endpoint.traffic({"green": 100})


def test_unknown_image_is_refused(endpoint):
    image = {"environment.image": "price.azurecr.io/nirgends:1", "name": "broken"}
    image["environment.version"] = "2"
    broken = endpoint.file("container", **image)
    error = refused(endpoint, "deployer", "online_deployments.begin_create_or_update", broken)
    assert "nirgends:1 could not be pulled" in error.message


def test_token_of_entra_opens_only_what_the_role_allows(endpoint):
    changed = endpoint.file("endpoint", auth_mode="aad_token", traffic={"green": 100})
    endpoint.call("deployer", "online_endpoints.begin_create_or_update", changed)
    assert endpoint.ask(QUESTION, endpoint.tokens["client"]).status_code == 200
    assert endpoint.ask(QUESTION, endpoint.tokens["keeper"]).status_code == 403
    assert endpoint.ask(QUESTION, "falsch").status_code == 401
    endpoint.traffic({"green": 100})


def test_slow_answer_is_given_up(endpoint, tmp_path):
    limits = {"request_settings.request_timeout_ms": 500}
    slow = slow_deployment(endpoint, "slow", tmp_path, **limits)
    endpoint.call("deployer", "online_deployments.begin_create_or_update", slow)
    key = endpoint.key()
    assert endpoint.ask(b"0", key, "slow").json() == "fertig"
    assert endpoint.ask(b"20", key, "slow").status_code == 408


def test_registered_environment_is_not_changed(endpoint):
    path = f"{WORKSPACE}/environments/fest/versions/1"
    first = {"image": "mcr.microsoft.com/azureml/x:1", "condaFile": "python=3.11"}
    changes = ({}, {"description": "neu"}, {"condaFile": "python=3.12"})
    answers = [raw(endpoint, "PUT", path, json={"properties": first | c}) for c in changes]
    assert [answer.status_code for answer in answers] == [201, 200, 409]


def test_fifty_machines_are_the_limit(endpoint):
    path = f"{WORKSPACE}/onlineEndpoints/price/deployments/many"
    nowhere = {"environmentId": f"{WORKSPACE}/environments/nirgends/versions/1"}
    for count, code in ((50, "ResourceNotFound"), (51, "BadArgument")):
        body = {"properties": nowhere, "sku": {"capacity": count}}
        assert raw(endpoint, "PUT", path, json=body).json()["error"]["code"] == code


def test_running_answer_arrives_although_the_endpoint_is_deleted(endpoint, tmp_path):
    slow = slow_deployment(endpoint, "patient", tmp_path)
    endpoint.call("deployer", "online_deployments.begin_create_or_update", slow)
    key, answers = endpoint.key(), []
    # Stirbt der Prozess an einer Frage, sagt es der Endpunkt; der Server startet einen neuen.
    assert endpoint.ask(b"die", key, "patient").status_code == 503
    deadline = time.monotonic() + 60
    while endpoint.ask(b"0", key, "patient").status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    asking = threading.Thread(target=lambda: answers.append(endpoint.ask(b"2", key, "patient")))
    asking.start()
    log = {"name": "patient", "endpoint_name": "price", "lines": 100}
    while "asked: 2" not in endpoint.call("deployer", "online_deployments.get_logs", **log):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    endpoint.call("deployer", "online_endpoints.begin_delete", name="price")
    asking.join()
    assert answers[0].status_code == 200 and answers[0].json() == "fertig"
    assert endpoint.ask(QUESTION, key).status_code == 404
    assert endpoint.call("owner", "online_endpoints.list") == []


def test_nothing_is_left_after_deleting(azure, endpoint):
    everything = raw(azure, "GET", f"{GROUP}/resources").json()["value"]
    assert {item["type"] for item in everything} >= {"Microsoft.Storage/storageAccounts"}
    remove = {"name": "price", "delete_dependent_resources": True, "permanently_delete": True}
    azure.call("owner", "workspaces.begin_delete", **remove)
    assert raw(azure, "GET", f"{GROUP}/resources").json() == {"value": []}
    assert refused(azure, "owner", "workspaces.get", "price").status == 404


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({}, "Es fehlt 'LOCAL_AZURE_CERTIFICATE'"),
        ({"LOCAL_AZURE_CERTIFICATE": "nirgends.pem"}, "Das Zertifikat lässt sich nicht laden"),
    ],
)
def test_certificate_is_required(variables, words):
    require_environment("local_cloud")
    command = ["python:local_cloud", "-m", "examples.local_cloud.azure", "--port", "0"]
    with pytest.raises(process.ProcessError, match=words) as error:
        process.output(command, env=variables)
    assert "Traceback" not in str(error.value)


def test_assembled_folder_holds_only_what_is_needed(tmp_path):
    names = json.loads(module("assemble", tmp_path))
    found = [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()]
    assert sorted(names) == sorted(found)


@pytest.mark.parametrize("name", ["model/../../draussen", "../draussen"])
def test_blob_does_not_leave_its_folder(tmp_path, name):
    store, target = blobs.Blobs(), tmp_path / "models"
    store.create("c")
    store._containers["c"][name] = (b"fremd", {})
    with pytest.raises(Refusal, match="führt aus dem Ordner"):
        store.copy("c", name.partition("/")[0], target)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


class Item(dict):
    """Ein Eintrag, neben dem ein anderer entsteht, sobald jemand ihn ansieht."""

    resources: dict

    def __getitem__(self, name: str) -> object:
        self.resources["/daneben"] = self
        return super().__getitem__(name)


class Key(str):
    """Eine Adresse, neben der eine andere entsteht, sobald jemand sie vergleicht."""

    meanwhile: Callable[[], object]

    def startswith(self, *start: object) -> bool:
        self.meanwhile()
        return super().startswith(*start)

    def endswith(self, end: str) -> bool:
        self.meanwhile()
        return super().endswith(end)


@pytest.fixture
def group(tmp_path) -> azure_cloud.Azure:
    """Die Nachbildung in diesem Prozess, mit angelegtem Workspace."""
    platform = azure_cloud.Azure(tmp_path)
    platform._workspace(asking(f"{GROUP}/resources"), "price")
    return platform


def asking(path: str, **args: str) -> Request:
    return Request("GET", path, {}, {}, b"", args)


def test_listing_survives_what_is_created_meanwhile(group):
    resources = group._resources
    first = Item(next(iter(resources.values())))
    first.resources = resources
    resources[next(iter(resources))] = first
    assert len(group.list_everything(asking(f"{GROUP}/resources"))["value"]) == 4


def test_children_are_listed_while_another_one_is_created(group):
    key = Key(f"{WORKSPACE}/models/price".lower())
    key.meanwhile = lambda: group._put(f"{WORKSPACE}/models/other", {})
    group._resources[key] = {"id": "price"}
    group._resources[f"{WORKSPACE}/codes/price".lower()] = {"id": "code"}
    assert group.list_children(asking(f"{WORKSPACE}/models"))["value"] == [{"id": "price"}]


def test_nothing_is_created_while_the_endpoint_is_looked_up(group):
    def create() -> None:
        if group._lock.acquire(blocking=False):
            group._put(f"{WORKSPACE}/models/other", {})
            group._lock.release()

    def meanwhile() -> None:
        other = threading.Thread(target=create)
        other.start()
        other.join()

    key = Key(f"{WORKSPACE}/onlineEndpoints/first".lower())
    key.meanwhile = meanwhile
    group._resources[key] = {}
    with pytest.raises(Refusal) as refused:
        group._asked(asking("/score", endpoint="fehlt"))
    assert refused.value.status == 404


def test_no_container_outlives_the_platform(azure, tmp_path, monkeypatch):
    """Der letzte Test: Danach gibt es die Plattform nicht mehr."""
    # Der gelöschte Workspace kommt nicht wieder: eine neue Plattform am selben Ort.
    azure.service.stop()
    monkeypatch.setenv("SSL_CERT_FILE", azure.access["client"]["SSL_CERT_FILE"])
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # was getötet wird, räumt nicht auf
    port = azure.url.rpartition(":")[2]
    azure.service = process.serve(
        ["python:local_cloud", "-m", "examples.local_cloud.azure", "--port", port],
        f"{azure.url}/health/ready",
        timeout=60,
        env=azure.access["server"],
    )
    azure.register()
    azure.deploy("container")
    family = psutil.Process(azure.service._guard.pid).children(recursive=True)
    containers = [p for p in family if "examples.fastapi_service.app:app" in p.cmdline()]
    assert containers
    (platform,) = [p for p in family if p.cmdline()[1:3] == ["-m", "examples.local_cloud.azure"]]
    platform.kill()
    _, alive = psutil.wait_procs(family, timeout=30)
    assert not alive
