"""Agent Platform auf dem eigenen Rechner, gefragt vom SDK: Absagen wie bei Google, kein Rest."""

import json
import time
from pathlib import Path

import httpx
import psutil
import pytest

import process
from contract import require_environment
from examples.price_model.schema import EXAMPLE
from vertex import PLACE, PROJECT, REGION, Vertex, VertexError, deployed

SLOW = """
import os, time
from google.cloud.aiplatform.prediction.predictor import Predictor

class Slow(Predictor):
    def load(self, artifacts_uri, **kwargs):
        if os.environ.get("BROKEN"):
            raise RuntimeError("kaputt")

    def preprocess(self, prediction_input):
        return prediction_input["instances"]

    def predict(self, instances):
        time.sleep(2)
        return instances

    def postprocess(self, results):
        return {"answers" if results == ["anders"] else "predictions": results}
"""
ASK = "Endpoint(name).predict(instances=instances)"
IMAGE = f"{REGION}-docker.pkg.dev/{PROJECT}/price/price-service:1.0.0"


@pytest.fixture(scope="module")
def project(vertex) -> Vertex:
    """Ein Projekt mit dem Endpunkt `price`, hinter dem der eigene Container läuft."""
    deployed(vertex, "service")
    return vertex


@pytest.fixture(scope="module")
def predictors(tmp_path_factory) -> dict[str, str]:
    """Umgebungsvariablen, mit denen der Vorhersageserver die Klasse des Tests nimmt."""
    folder = tmp_path_factory.mktemp("predictors")
    (folder / "slow.py").write_text(SLOW, encoding="utf-8")
    return {"PYTHONPATH": str(folder), "PREDICTOR_MODULE": "slow", "PREDICTOR_CLASS": "Slow"}


def refused(vertex: Vertex, code: str, who: str = "owner", **names: object) -> VertexError:
    """Der Fehler, mit dem ein Aufruf abgelehnt wird."""
    with pytest.raises(VertexError) as error:
        vertex.run(code, who, **names)
    return error.value


def ask(vertex: Vertex, who: str = "client", **changes: object) -> dict:
    stone = EXAMPLE | changes
    return vertex.run("endpoint('price', who).predict(instances=instances)", who, instances=[stone])


def rest(vertex: Vertex, method: str, path: str, token: str = "") -> httpx.Response:
    """Ein Aufruf ohne SDK, mit dem Token des Inhabers oder einem anderen."""
    headers = {"Authorization": f"Bearer {token or vertex.token}"}
    return httpx.request(method, vertex.url + path, headers=headers)


def test_answer_names_model_and_version(project):
    answer = ask(project)
    assert answer["predictions"] == [{"price_usd": 2987.87, "model_version": "1.0.0"}]
    assert answer["model_version_id"] == "1"
    assert answer["model_resource_name"] == f"{PLACE}/models/price"


@pytest.mark.parametrize(
    "path", [f"/v1/{PLACE}/models", "/storage/v1/b", f"/v1/projects/{PROJECT}/roles"]
)
@pytest.mark.parametrize("headers", [{"Authorization": "Bearer falsch"}, {}])
def test_wrong_or_missing_token_is_refused(project, path, headers):
    answer = httpx.get(project.url + path, headers=headers)
    assert answer.status_code == 401
    assert answer.json()["error"]["status"] == "UNAUTHENTICATED"


def test_sdk_tells_a_wrong_token_from_a_missing_right(project):
    assert refused(project, "Model.list()", "falsch").kind == "RefreshError"
    error = refused(project, "Model.list()", "client")
    assert (error.kind, error.status) == ("Forbidden", 403)
    assert "Permission 'aiplatform.models.list' denied" in error.message


def test_token_of_an_account_expires(project):
    email = project.emails["client"]
    path = f"/v1/projects/-/serviceAccounts/{email}:generateAccessToken"
    headers = {"Authorization": f"Bearer {project.token}"}
    given = httpx.post(project.url + path, headers=headers, json={"lifetime": "1s"}).json()
    until = time.monotonic() + 30
    path = f"/v1/{PLACE}/endpoints/price"
    while rest(project, "GET", path, given["accessToken"]).status_code != 401:
        assert time.monotonic() < until
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("method", "path", "call"),
    [
        ("POST", f"/v1/{PLACE}/customJobs", "POST /v1/projects/"),
        # So fragte das alte AI Platform.
        ("POST", "/v1/projects/p/models/price/versions/v1:predict", "versions/v1:predict"),
        ("POST", f"/v1/{PLACE}/endpoints/price:rawPredict", "price:rawPredict"),
        ("POST", "/storage/v1/b/a/o/b/rewriteTo/b/c/o/d", "rewriteTo"),
        ("DELETE", f"/v1/{PLACE}/models/price@1:deleteVersion", "price@1:deleteVersion"),
    ],
)
def test_unknown_call_is_refused_by_name(project, method, path, call):
    answer = rest(project, method, path)
    assert answer.status_code == 501
    error = answer.json()["error"]
    assert error["status"] == "UNIMPLEMENTED"
    assert error["message"].startswith("Nicht nachgebildet: ") and call in error["message"]


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("Model('nirgends')", 404),
        ("Model('price', version='7')", 404),
        ("Endpoint('nirgends').resource_name", 404),
        ("endpoint('price', who).undeploy('7')", 404),
        ("Job.create(model_name='nirgends', **job)", 404),
        ("Model.upload(parent_model='nirgends', **model)", 404),
    ],
)
def test_missing_things_are_named(project, code, status):
    model = {"display_name": "x", "serving_container_image_uri": IMAGE}
    job = {
        "job_display_name": "x",
        "gcs_source": "gs://x/y.jsonl",
        "gcs_destination_prefix": "gs://x/z",
        "machine_type": "e2-standard-2",
    }
    error = refused(project, code, model=model, job=job)
    assert error.status == status
    assert "nirgends" in error.message or "7" in error.message


CONTAINER = """
import json, pathlib, sys
from unittest import mock
from examples.local_cloud.vertex import Vertex

app = Vertex(pathlib.Path(sys.argv[1]))
child = mock.Mock()
app.start = lambda command, env: print(json.dumps(env)) or child
app.launch({"containerSpec": {"imageUri": "r/price-service:1"}, "_copy": "gs://b/m"}, {})
app.stop()
"""


def test_container_sees_no_token_of_the_owner(tmp_path):
    require_environment("local_cloud")
    env = {"LOCAL_GOOGLE_TOKEN": "geheim", "GOOGLE_APPLICATION_CREDENTIALS": "geheim.json"}
    said = process.output(
        ["python:local_cloud", "-W", "ignore", "-c", CONTAINER, tmp_path], env=env
    )
    seen = json.loads(said.splitlines()[-1])
    assert seen["AIP_STORAGE_URI"] == "gs://b/m" and "PATH" in seen
    assert "geheim" not in said


# Die Plattform im selben Prozess, gefragt ohne Netz; `call` gibt Status und Inhalt zurück.
PLATFORM = """
import json, pathlib, sys
from examples.local_cloud.google_cloud import TENANT
from examples.local_cloud.service import Request
from examples.local_cloud.vertex import Vertex

app = Vertex(pathlib.Path(sys.argv[1]))
PLACE = "/v1/projects/p/locations/europe-west3"

def call(method, path, content=b"", token="inhaber", **query):
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    kind = "application/json" if body != content else "application/octet-stream"
    headers = {"authorization": f"Bearer {token}", "content-type": kind, "host": "127.0.0.1"}
    answer = app.answer(Request(method, path, query, headers, body))
    return answer.status, json.loads(answer.body() or b"{}")

try:
    exec(sys.argv[2])
finally:
    app.stop()
"""


def platform(folder: Path, code: str) -> str:
    """Führt Code mit der Plattform aus und gibt die letzte Zeile zurück."""
    require_environment("local_cloud")
    command = ["python:local_cloud", "-W", "ignore", "-c", PLATFORM, folder, code]
    return process.output(command, env={"LOCAL_GOOGLE_TOKEN": "inhaber"}).splitlines()[-1]


def test_token_ends_with_its_account_even_if_the_name_comes_back(tmp_path):
    code = """
call("POST", "/v1/projects/p/roles", {"roleId": "all", "role": {"includedPermissions": [
    "aiplatform.endpoints.list"]}})
def create():
    return call("POST", "/v1/projects/p/serviceAccounts", {"accountId": "a"})[1]["email"]
email = create()
give = f"/v1/projects/-/serviceAccounts/{email}:generateAccessToken"
binding = {"role": "projects/p/roles/all", "members": [f"serviceAccount:{email}"]}
call("POST", "/v1/projects/p:setIamPolicy", {"policy": {"bindings": [binding]}})
old = call("POST", give, {})[1]["accessToken"]
seen = [call("GET", f"{PLACE}/endpoints", token=old)[0]]
call("DELETE", f"/v1/projects/p/serviceAccounts/{email}")
create()
new = call("POST", give, {})[1]["accessToken"]
print(seen + [call("GET", f"{PLACE}/endpoints", token=token)[0] for token in (old, new)])
"""
    assert platform(tmp_path, code) == "[200, 401, 200]"


def test_copy_of_the_platform_is_fixed_and_closed_to_its_users(tmp_path):
    code = """
call("POST", f"{PLACE}/repositories", {}, repositoryId="price")
call("POST", "/storage/v1/b", {"name": "b"})
def put(content):
    call("POST", "/upload/storage/v1/b/b/o", content, uploadType="media", name="m/model.onnx")
put(b"alt")
image = "europe-west3-docker.pkg.dev/p/price/price-service:1"
spec = {"containerSpec": {"imageUri": image}, "artifactUri": "gs://b/m"}
call("POST", f"{PLACE}/models:upload", {"model": spec, "modelId": "price"})
put(b"neu")
bucket, _, folder = app.version(f"{PLACE[4:]}/models/price")["_copy"][5:].partition("/")
listed = call("GET", f"/storage/v1/b/{bucket}/o")[0]
print(app.read("b", "m/model.onnx"), app.read(bucket, f"{folder}/model.onnx"), listed)
"""
    assert platform(tmp_path, code) == "b'neu' b'alt' 403"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"serving_container_image_uri": IMAGE.replace("price-s", "other-s")}, "not found"),
        ({"serving_container_image_uri": IMAGE.replace("/price/", "/other/")}, "not found"),
        ({"serving_container_image_uri": "docker.io/price-service:1"}, "not found"),
        ({"artifact_uri": f"gs://{PROJECT}-price-models/leer"}, "There are no files under"),
        ({"artifact_uri": "gs://fremd/price"}, "not found"),
        ({"model_id": "price"}, "already exists"),
    ],
)
def test_model_needs_image_files_and_a_free_name(project, change, message):
    given = {"display_name": "x", "serving_container_image_uri": IMAGE} | change
    assert message in refused(project, "Model.upload(**given)", "deployer", given=given).message
    assert project.run("len(Model.list())") == 1


def test_unknown_permission_is_not_granted(project):
    headers = {"Authorization": f"Bearer {project.token}"}
    role = {"includedPermissions": ["aiplatform.endpoints.predikt"]}
    url = f"{project.url}/v1/projects/{PROJECT}/roles"
    answer = httpx.post(url, headers=headers, json={"roleId": "typo", "role": role})
    assert answer.status_code == 400
    assert (
        answer.json()["error"]["message"] == "Permission aiplatform.endpoints.predikt is not valid."
    )


@pytest.mark.parametrize("body", [b"{", b"[]", b"{}"])
def test_bad_body_is_no_crash(project, body):
    headers = {"Authorization": f"Bearer {project.token}"}
    url = f"{project.url}/v1/{PLACE}/endpoints/price:deployModel"
    answer = httpx.post(url, headers=headers, content=body)
    assert (answer.status_code, answer.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")


def test_refusal_of_the_container_arrives(project):
    error = refused(project, ASK, "client", name="price", instances=[EXAMPLE | {"carat": -1}])
    assert error.status == 400
    (problem,) = json.loads(error.message[error.message.index("{") :])["detail"]
    assert problem["field"] == "instances.0.carat"


def test_endpoint_without_model_says_so(project):
    project.run("Endpoint.create(display_name='leer', endpoint_id='leer').name")
    error = refused(project, ASK, name="leer", instances=[EXAMPLE])
    assert error.status == 400 and "does not have any deployed models" in error.message
    again = refused(project, "Endpoint.create(display_name='leer', endpoint_id='leer')")
    assert again.status == 409
    project.run("Endpoint('leer').delete()")
    assert project.run("len(Endpoint.list())") == 1


def test_traffic_is_split_and_moved(project):
    second = project.upload("service", parent_model="price")
    assert second.endswith("models/price@2")
    split = project.deploy(second, 20)
    assert sorted(split.values()) == [20, 80]
    versions = {item["version"]: item["id"] for item in live(project)}
    asked = [ask(project)["model_version_id"] for _ in range(100)]
    assert 3 <= asked.count("2") < 50  # erwartet 20
    # Wer noch Fragen bekommt, wird nicht abgezogen; das SDK verteilt sie vorher um.
    url = f"{project.url}/v1/{PLACE}/endpoints/price:undeployModel"
    headers = {"Authorization": f"Bearer {project.token}"}
    busy = httpx.post(url, headers=headers, json={"deployedModelId": versions["2"]})
    assert busy.status_code == 400 and "still has traffic" in busy.text
    short = {"deployedModelId": versions["2"], "trafficSplit": {versions["1"]: 60}}
    assert httpx.post(url, headers=headers, json=short).status_code == 400
    for broken in ({versions["1"]: 60, versions["2"]: 60}, {"7": 100}):
        with pytest.raises(VertexError):
            project.run("Endpoint('price').update(traffic_split=split)", split=broken)
    split = {versions["1"]: 0, versions["2"]: 100}
    project.run("Endpoint('price').update(traffic_split=split) and None", "deployer", split=split)
    assert {ask(project)["model_version_id"] for _ in range(20)} == {"2"}
    project.run("Endpoint('price').undeploy(wanted)", "deployer", wanted=versions["1"])
    assert [item["version"] for item in live(project)] == ["2"]
    assert ask(project)["model_version_id"] == "2"


def live(project: Vertex) -> list[dict]:
    code = "[{'id': m.id, 'version': m.model_version_id} for m in Endpoint('price').list_models()]"
    return project.run(code)


def test_versions_and_aliases(project):
    assert project.run("Model('price').version_id") == "2"
    assert project.run("Model('price@1').version_id") == "1"
    listed = "[v.version_id for v in aiplatform.models.ModelRegistry('price').list_versions()]"
    assert project.run(listed) == ["1", "2"]


def test_version_that_is_not_default_leaves_the_alias(project):
    more = {"is_default_version": False, "version_aliases": ["candidate"]}
    project.upload("service", parent_model="price", **more)
    assert project.run("Model('price').version_id") == "2"
    assert project.run("Model('price@candidate').version_id") == "3"
    assert project.run("list(Model('price@candidate').version_aliases)") == ["candidate"]


def test_update_changes_only_what_its_mask_names(project):
    project.run("Endpoint.create(display_name='maske', endpoint_id='maske').name")
    url = f"{project.url}/v1/{PLACE}/endpoints/maske"
    headers = {"Authorization": f"Bearer {project.token}"}
    stale = {"displayName": "neu", "deployedModels": [{"id": "7", "model": "alt"}]}
    httpx.patch(f"{url}?updateMask=displayName", headers=headers, json=stale)
    found = httpx.get(url, headers=headers).json()
    assert found["displayName"] == "neu" and not found.get("deployedModels")
    project.run("Endpoint('maske').delete()")


def test_plan_of_a_slow_deployment_names_only_what_is_there(project):
    project.run("Endpoint.create(display_name='late', endpoint_id='late').name")
    deploy = "Endpoint('late').deploy(Model(model), machine_type='e2-standard-2') and None"
    project.run(deploy, model=f"{PLACE}/models/price@1")
    url = f"{project.url}/v1/{PLACE}/endpoints/late"
    headers = {"Authorization": f"Bearer {project.token}"}
    (old,) = httpx.get(url, headers=headers).json()["deployedModels"]
    split = {"0": 50, old["id"]: 50}
    plan = {"deployedModel": {"model": f"{PLACE}/models/price@1"}, "trafficSplit": split}
    begun = httpx.post(f"{url}:deployModel", headers=headers, json=plan).json()["name"]
    httpx.post(f"{url}:undeployModel", headers=headers, json={"deployedModelId": old["id"]})
    ended, deadline = {"done": False}, time.monotonic() + 60
    while not ended["done"]:
        assert time.monotonic() < deadline
        ended = httpx.get(f"{project.url}/v1/{begun}", headers=headers, timeout=30).json()
    assert "error" in ended
    project.run("Endpoint('late').delete(force=True)")


@pytest.mark.parametrize(
    "change",
    [
        {"condition": {"expression": "request.time < timestamp('2020-01-01T00:00:00Z')"}},
        {"role": "roles/aiplatform.user"},
    ],
)
def test_binding_that_is_not_understood_is_refused(project, change):
    member = f"serviceAccount:{project.emails['client']}"
    role = f"projects/{PROJECT}/roles/price_client"
    policy = {"bindings": [{"role": role, "members": [member]} | change]}
    headers = {"Authorization": f"Bearer {project.token}"}
    url = f"{project.url}/v1/projects/{PROJECT}:setIamPolicy"
    answer = httpx.post(url, headers=headers, json={"policy": policy})
    assert answer.status_code == 501 and "Nicht nachgebildet" in answer.text


@pytest.mark.parametrize("code", ["Endpoint('price').delete()", "Model('price').delete()"])
def test_what_is_in_use_is_not_deleted(project, code):
    error = refused(project, code, "deployer")
    assert error.status == 400 and "deployed" in error.message


def test_broken_container_leaves_the_old_one_in_service(project, predictors):
    env = predictors | {"BROKEN": "1"}
    broken = project.upload(
        "predictor", model_id="broken", serving_container_environment_variables=env
    )
    with pytest.raises(VertexError, match="(?s)Model server exited unexpectedly.*kaputt"):
        project.deploy(broken, 50)
    assert [item["version"] for item in live(project)] == ["2"]
    assert ask(project)["model_version_id"] == "2"
    project.run("Model('broken').delete()", "deployer")


def test_running_answer_arrives_although_the_model_is_undeployed(project, predictors):
    slow = project.upload(
        "predictor", model_id="slow", serving_container_environment_variables=predictors
    )
    project.run("Endpoint.create(display_name='slow', endpoint_id='slow').name")
    deploy = "Endpoint('slow').deploy(Model(model), machine_type='e2-standard-2')"
    project.run(f"{deploy} and None", model=slow)
    url, headers = (
        f"{project.url}/v1/{PLACE}/endpoints/slow",
        {"Authorization": f"Bearer {project.token}"},
    )
    (model,) = httpx.get(url, headers=headers).json()["deployedModels"]
    error = refused(project, ASK, name="slow", instances=["anders"])
    assert "predictions is missing" in error.message
    asked = project.service.log(100_000).count("aiplatform.endpoints.predict (owner)")
    project.send(ASK, name="slow", instances=["langsam"])
    deadline = time.monotonic() + 60
    while project.service.log(100_000).count("aiplatform.endpoints.predict (owner)") == asked:
        assert time.monotonic() < deadline, "Die Frage kam nicht an."
        time.sleep(0.01)
    gone = httpx.post(
        f"{url}:undeployModel", headers=headers, json={"deployedModelId": model["id"]}
    )
    assert gone.json()["done"]
    assert project.receive()["predictions"] == ["langsam"]
    assert refused(project, ASK, name="slow", instances=["langsam"]).status == 400
    project.run("Endpoint('slow').delete(force=True)")
    project.run("Model('slow').delete()")


JOB = {
    "job_display_name": "price-stock",
    "model_name": f"{PLACE}/models/price@1",
    "gcs_destination_prefix": f"gs://{PROJECT}-price-models/out",
    "machine_type": "e2-standard-2",
}


def batch(project: Vertex, content: str, **more: object) -> dict:
    """Legt die Datei ab, führt den Auftrag aus und gibt sein Ergebnis zurück."""
    put = "bucket.blob('in.jsonl').upload_from_string(content)"
    project.run(put, "deployer", content=content)
    job = JOB | {"gcs_source": f"gs://{PROJECT}-price-models/in.jsonl"} | more
    code = "[j := Job.create(**job), {'state': j.state.name, 'stats': [j.completion_stats."
    code += "successful_count, j.completion_stats.failed_count], 'folder': j.output_info."
    code += "gcs_output_directory}, j.delete()][1]"
    return project.run(code, "deployer", job=job)


def test_batch_answers_line_by_line(project):
    lines = [EXAMPLE, EXAMPLE | {"carat": -1}, EXAMPLE | {"cut": "Fair"}]
    done = batch(project, "\n".join(map(json.dumps, lines)), batch_size=1)
    assert (done["state"], done["stats"]) == ("JOB_STATE_SUCCEEDED", [2, 1])
    read = "bucket.blob(f'out/{folder}/prediction.{kind}-00000-of-00001').download_as_text()"
    folder = done["folder"].rpartition("/")[2]
    results = project.run(read, folder=folder, kind="results").splitlines()
    found = [json.loads(line) for line in results]
    assert [line["instance"]["cut"] for line in found] == ["Ideal", "Fair"]
    assert found[0]["prediction"] == {"price_usd": 2987.87, "model_version": "1.0.0"}
    (error,) = project.run(read, folder=folder, kind="errors_stats").splitlines()
    assert "instances.0.carat" in json.loads(error)["error"]["message"]


def test_one_bad_line_spoils_its_group(project):
    lines = [EXAMPLE] * 3 + [EXAMPLE | {"carat": -1}]
    done = batch(project, "\n".join(map(json.dumps, lines)), batch_size=2)
    assert done["stats"] == [2, 2]


@pytest.mark.parametrize(
    ("content", "change"),
    [("kein JSON", {}), ("", {"gcs_source": f"gs://{PROJECT}-price-models/fehlt.jsonl"})],
)
def test_batch_without_readable_input_fails(project, content, change):
    with pytest.raises(VertexError, match="Failed to parse|not found") as error:
        batch(project, content, **change)
    assert error.value.kind == "RuntimeError"


def test_role_that_is_taken_away_counts_no_more(project):
    headers = {"Authorization": f"Bearer {project.token}"}
    url = f"{project.url}/v1/projects/{PROJECT}/roles/price_client"
    for rights, status in ((["aiplatform.endpoints.get"], 403), (None, 200)):
        rights = rights or ["aiplatform.endpoints.get", "aiplatform.endpoints.predict"]
        httpx.patch(url, headers=headers, json={"includedPermissions": rights}).raise_for_status()
        if status == 200:
            ask(project)
        else:
            with pytest.raises(VertexError, match="aiplatform.endpoints.predict"):
                ask(project)


def test_taken_port_is_said_and_nothing_hangs(project):
    port = project.url.rpartition(":")[2]
    command = ["python:local_cloud", "-m", "examples.local_cloud.vertex", "--port", port]
    with pytest.raises(process.ProcessError, match="lässt sich nicht öffnen") as error:
        process.output(command, timeout=30, env=project.env)
    assert "Traceback" not in str(error.value)


def test_token_of_the_owner_is_required():
    require_environment("local_cloud")
    command = ["python:local_cloud", "-m", "examples.local_cloud.vertex", "--port", "0"]
    with pytest.raises(process.ProcessError, match="Es fehlt LOCAL_GOOGLE_TOKEN") as error:
        process.output(command)
    assert "Traceback" not in str(error.value)


def running(project: Vertex, module: str = "") -> list[psutil.Process]:
    """Prozesse unter der Plattform, die noch laufen."""
    family = psutil.Process(project.service._guard.pid).children(recursive=True)
    family = [child for child in family if child.status() != psutil.STATUS_ZOMBIE]
    return [child for child in family if not module or module in child.cmdline()]


def test_nothing_is_left_when_containers_and_platform_die(project):
    """Der letzte Test: Danach gibt es das Projekt nicht mehr."""
    container = "examples.vertex_ai_endpoint.container"
    for child in running(project, container):
        child.kill()
    url = f"{project.url}/v1/{PLACE}/endpoints/price:predict"
    headers = {"Authorization": f"Bearer {project.token}"}
    answer = httpx.post(url, headers=headers, json={"instances": [EXAMPLE]})
    assert (answer.status_code, answer.json()["error"]["status"]) == (503, "UNAVAILABLE")
    project.deploy(f"{PLACE}/models/price@2")
    assert running(project, container)
    family = running(project)
    for child in running(project, "examples.local_cloud.vertex"):
        child.kill()
    _, alive = psutil.wait_procs(family, timeout=30)
    assert not alive
