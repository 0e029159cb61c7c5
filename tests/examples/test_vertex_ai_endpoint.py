"""Der Endpunkt und was um ihn liegt: Container, Vorhersageserver, Rollen, Projekt, alter Code."""

import json

import httpx
import psutil
import pytest
import yaml

import process
from contract import free_port, require_environment
from examples.price_model.predict import ARTIFACTS
from examples.price_model.schema import EXAMPLE
from vertex import PLACE, PROJECT, Vertex, VertexError

MODULE = "examples.vertex_ai_endpoint"
FOLDER = process.ROOT / "examples" / "vertex_ai_endpoint" / "roles"
ROLES = {path.stem: path for path in sorted(FOLDER.glob("*"))}
GRANTED = {
    name: yaml.safe_load(path.read_text(encoding="utf-8"))["includedPermissions"]
    for name, path in ROLES.items()
}
ANSWER = {"predictions": [{"price_usd": 2987.87, "model_version": "1.0.0"}]}


def run(module: str, *arguments: object, env: dict | None = None) -> str:
    """Führt ein Modul des Beispiels in seiner Umgebung aus."""
    require_environment("local_cloud")
    return process.output(["python:local_cloud", "-m", f"{MODULE}.{module}", *arguments], env=env)


def refused(module: str, *arguments: object, env: dict | None = None) -> str:
    """Die Meldung, mit der ein Modul abbricht; nie ein Traceback."""
    with pytest.raises(process.ProcessError) as error:
        run(module, *arguments, env=env)
    assert "Traceback" not in str(error.value)
    return str(error.value)


@pytest.fixture
def contract_env(tmp_path) -> dict[str, str]:
    """Was die Plattform einem Container mitgibt."""
    return {
        "AIP_HTTP_PORT": str(free_port()),
        "AIP_HEALTH_ROUTE": "/bereit",
        "AIP_PREDICT_ROUTE": "/frage",
        "AIP_STORAGE_URI": str(ARTIFACTS),
        "TMPDIR": str(tmp_path),
    }


def serve(module: str, env: dict, path: str = "/bereit") -> tuple[process.Service, str]:
    require_environment("local_cloud")
    url = f"http://127.0.0.1:{env['AIP_HTTP_PORT']}"
    command = ["python:local_cloud", "-m", f"{MODULE}.{module}"]
    return process.serve(command, f"{url}{path}", timeout=90, env=env), url


def test_container_listens_where_the_platform_says(contract_env):
    service, url = serve("container", contract_env)
    try:
        question = {"instances": [EXAMPLE], "parameters": {"any": 1}}
        assert httpx.post(f"{url}/frage", json=question).json() == ANSWER
        for body, field in (
            ({"instances": EXAMPLE}, "instances"),
            ({"instances": []}, "instances"),
            ({"instance": [EXAMPLE]}, "instances"),
            ({"instances": [EXAMPLE, EXAMPLE | {"carat": -1}]}, "instances.1.carat"),
        ):
            answer = httpx.post(f"{url}/frage", json=body)
            assert answer.status_code == 422, body
            assert answer.json()["detail"][0]["field"] == field
        # Der Dienst selbst ist noch da, mit seiner Form der Frage.
        assert httpx.post(f"{url}/predict", json=EXAMPLE).json() == ANSWER["predictions"][0]
    finally:
        service.stop()


def test_container_without_model_lives_but_is_not_ready(contract_env, tmp_path):
    env = contract_env | {"AIP_STORAGE_URI": str(tmp_path)}
    service, url = serve("container", env, "/health/live")
    try:
        assert httpx.get(f"{url}/bereit").status_code == 503
        assert httpx.post(f"{url}/frage", json={"instances": [EXAMPLE]}).status_code == 503
    finally:
        service.stop()


@pytest.mark.parametrize("missing", ["AIP_HTTP_PORT", "AIP_PREDICT_ROUTE", "AIP_STORAGE_URI"])
def test_container_names_the_variable_it_misses(contract_env, missing):
    del contract_env[missing]
    assert f"Es fehlt '{missing}'" in refused("container", env=contract_env)


def test_predictor_server_needs_its_port():
    assert "Es fehlt AIP_HTTP_PORT" in refused("predictor_server")


def test_roles_pass_the_checker():
    said = run("check_roles", *ROLES.values()).splitlines()
    assert said == ["client.yaml: in Ordnung", "deployer.yaml: in Ordnung"]


def test_checker_finds_what_is_wrong(tmp_path):
    text = ROLES["client"].read_text(encoding="utf-8")
    wrong = {
        "UNKNOWN_PERMISSION": text.replace("predict", "predikt"),
        "WILDCARD_PERMISSION": text.replace("endpoints.predict", "*"),
        "ESCALATING_PERMISSION": f"{text}  - resourcemanager.projects.setIamPolicy\n",
        "DUPLICATE_PERMISSION": f"{text}  - aiplatform.endpoints.predict\n",
        "MISSING_FIELD": text.replace("title:", "# title:"),
        "UNKNOWN_FIELD": text.replace("included", "includet"),
        "UNKNOWN_STAGE": text.replace("stage: GA", "stage: fertig"),
        "MALFORMED_YAML": text.replace("title:", "title: ["),
        "MALFORMED_ROLE": "nur Text",
    }
    files = [tmp_path / f"{finding}.yaml" for finding in wrong]
    for path, content in zip(files, wrong.values(), strict=True):
        path.write_text(content, encoding="utf-8")
    *found, missing = refused("check_roles", *files, tmp_path / "fehlt.yaml").splitlines()[1:]
    for finding, line in zip(wrong, found, strict=True):
        assert line.startswith(f"{finding}.yaml: ") and f"{finding}" in line.split(": ", 1)[1]
    assert missing.startswith("fehlt.yaml: nicht lesbar")
    assert "Aufruf: python -m examples.vertex_ai_endpoint.check_roles" in refused("check_roles")


@pytest.fixture(scope="module")
def project(vertex) -> Vertex:
    """Ein Projekt, in dem der Ablauf des Kapitels einmal ging."""
    vertex.account("create")
    for code in FLOW.values():
        vertex.run(code, "deployer", **NAMES)
    return vertex


# Was Ausliefern braucht: je Recht ein Aufruf, in der Reihenfolge des Kapitels.
FLOW = {
    "storage.objects.create": "bucket.blob('price/1/x').upload_from_string('x')",
    "aiplatform.models.upload": "Model.upload(display_name='price', model_id='price', "
    "serving_container_image_uri=image, artifact_uri=uri).name",
    "aiplatform.models.get": "Model('price').version_id",
    "aiplatform.models.list": "len(aiplatform.models.ModelRegistry('price').list_versions())",
    "aiplatform.endpoints.create": "Endpoint.create(display_name='price', "
    "endpoint_id='price').name",
    "aiplatform.endpoints.get": "Endpoint('price').traffic_split",
}
NAMES = {
    "image": f"europe-west3-docker.pkg.dev/{PROJECT}/price/price-service:1.0.0",
    "uri": f"gs://{PROJECT}-price-models/price/1",
}
# Ohne SDK: Es fragte vorher nach Dingen, die eine Rolle ohne dieses Recht auch nicht sähe.
CALLS = {
    "storage.objects.create": ("POST", f"/upload/storage/v1/b/{PROJECT}-price-models/o"),
    "aiplatform.models.upload": ("POST", "/models:upload"),
    "aiplatform.models.get": ("GET", "/models/price"),
    "aiplatform.models.list": ("GET", "/models/price:listVersions"),
    "aiplatform.models.delete": ("DELETE", "/models/nirgends"),
    "aiplatform.endpoints.create": ("POST", "/endpoints"),
    "aiplatform.endpoints.get": ("GET", "/endpoints/price"),
    "aiplatform.endpoints.deploy": ("POST", "/endpoints/price:deployModel"),
    "aiplatform.endpoints.update": ("PATCH", "/endpoints/price"),
    "aiplatform.endpoints.undeploy": ("POST", "/endpoints/price:undeployModel"),
    "aiplatform.endpoints.delete": ("DELETE", "/endpoints/nirgends"),
    "aiplatform.batchPredictionJobs.create": ("POST", "/batchPredictionJobs"),
    "aiplatform.batchPredictionJobs.get": ("GET", "/batchPredictionJobs/1"),
    "aiplatform.batchPredictionJobs.delete": ("DELETE", "/batchPredictionJobs/1"),
}


def call(project: Vertex, who: str, method: str, path: str) -> httpx.Response:
    """Ein Aufruf mit dem Token eines Dienstkontos."""
    owner = {"Authorization": f"Bearer {project.token}"}
    give = f"/v1/projects/-/serviceAccounts/{project.emails[who]}:generateAccessToken"
    token = httpx.post(project.url + give, headers=owner, json={}).json()["accessToken"]
    path = path if path.startswith(("/upload", "/v1")) else f"/v1/{PLACE}{path}"
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.request(method, project.url + path, headers=headers)


def test_deployer_may_do_what_deploying_needs_and_nothing_else(project):
    assert set(CALLS) == set(GRANTED["deployer"])
    for right, (method, path) in CALLS.items():
        assert call(project, "deployer", method, path).status_code != 403, right


@pytest.mark.parametrize("right", sorted(GRANTED["deployer"]))
def test_every_right_of_the_deployer_is_needed(project, right):
    owner = {"Authorization": f"Bearer {project.token}"}
    url = f"{project.url}/v1/projects/{PROJECT}/roles/price_deployer"
    rest = [name for name in GRANTED["deployer"] if name != right]
    httpx.patch(url, headers=owner, json={"includedPermissions": rest}).raise_for_status()
    try:
        answer = call(project, "deployer", *CALLS[right])
    finally:
        httpx.patch(url, headers=owner, json={"includedPermissions": GRANTED["deployer"]})
    assert answer.status_code == 403
    assert f"Permission '{right}' denied" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("who", "code", "right"),
    [
        ("client", "Endpoint('price').delete()", "aiplatform.endpoints.delete"),
        ("client", "Model('price')", "aiplatform.models.get"),
        ("client", "bucket.blob('price/1/x').download_as_text()", "storage.objects.get"),
        ("deployer", "bucket.blob('price/1/x').delete()", "storage.objects.delete"),
        ("deployer", "Endpoint('price').predict(instances=[1])", "aiplatform.endpoints.predict"),
    ],
)
def test_roles_may_not_more_than_their_task(project, who, code, right):
    with pytest.raises(VertexError, match=f"Permission '{right}' denied"):
        project.run(code, who)


def test_nobody_gives_himself_rights(project):
    for path in (
        f"/v1/projects/{PROJECT}:setIamPolicy",
        f"/v1/projects/{PROJECT}/roles",
        f"/v1/projects/-/serviceAccounts/{project.emails['deployer']}:generateAccessToken",
    ):
        assert call(project, "deployer", "POST", path).status_code == 403


def test_project_that_exists_is_not_created_twice(project):
    env = {"GOOGLE_LOCAL_URL": project.url, "GOOGLE_LOCAL_TOKEN": project.token}
    assert "Google hat abgelehnt: " in refused("account", "create", PROJECT, env=env)
    wrong = env | {"GOOGLE_LOCAL_TOKEN": "falsch"}
    assert "Google hat abgelehnt: " in refused("account", "inventory", PROJECT, env=wrong)
    assert (
        "Aufruf: python -m examples.vertex_ai_endpoint.account create|delete|inventory PROJEKT"
        in refused("account", "create")
    )


SWITCHED = """
import json
from importlib.metadata import version
from google.auth import iam
from google.auth.credentials import AnonymousCredentials
from google.cloud import aiplatform, storage

held = AnonymousCredentials()
aiplatform.init(project="p", location="europe-west3", credentials=held)
config = aiplatform.initializer.global_config
client = config.create_client(aiplatform.utils.EndpointClientWithOverride)
bucket = storage.Client(project="p", credentials=held)
image = aiplatform.helpers.get_prebuilt_prediction_container_uri
try:
    image("sklearn", "1.9")
    newest = "1.9"
except ValueError:
    newest = image("sklearn", "1.6", region="europe-west3")
print(json.dumps([client.api_endpoint, client.transport.kind, iam._IAM_ENDPOINT,
                  bucket._connection.API_BASE_URL, newest, version("google-cloud-aiplatform")]))
"""


def test_without_the_address_everything_goes_to_google():
    """Geprüft mit "google-cloud-aiplatform": So heißt das Paket, um dessen Clients es geht."""
    require_environment("local_cloud")
    said = process.output(["python:local_cloud", "-c", SWITCHED], env={"STORAGE_EMULATOR_HOST": ""})
    host, kind, tokens, bucket, image, version = json.loads(said)
    assert (host, kind) == ("europe-west3-aiplatform.googleapis.com", "grpc")
    assert tokens.startswith("https://iamcredentials.") and bucket.startswith("https://storage.")
    # Fertige Images enden bei scikit-learn 1.6; davon erzählt das Kapitel.
    assert image.endswith("sklearn-cpu.1-6:latest") and version >= "2"


def test_nothing_is_left_after_deleting(project):
    """Der letzte Test: Danach ist das Projekt leer und die Plattform beendet."""
    created = project.account("inventory")
    assert created["models"] == created["endpoints"] == ["price"]
    assert len(created["service_accounts"]) == len(created["roles"]) == 2
    project.account("delete")
    # Was jemand vergaß, fällt im Verzeichnis auf.
    left = {kind: names for kind, names in project.account("inventory").items() if names}
    assert left == {"endpoints": ["price"], "models": ["price"]}
    project.run("[Endpoint('price').delete(), Model('price').delete()] and None")
    assert not any(project.account("inventory").values())
    family = psutil.Process(project.service._guard.pid).children(recursive=True)
    project.service.stop()
    _, alive = psutil.wait_procs(family, timeout=30)
    assert family and not alive


def test_bucket_keeps_nothing_of_what_is_deleted():
    # Der nachgebildete Speicher übergeht das Feld; geprüft wird deshalb der Aufruf.
    code = "from examples.vertex_ai_endpoint import account; calls = []\n"
    code += "account.call = lambda *a, **k: calls.append(k) or {'email': 'x'}\n"
    code += "account.create('p'); print(calls[0]['json'])"
    said = process.output(["python:local_cloud", "-c", code])
    assert "'retentionDurationSeconds': '0'" in said


@pytest.mark.parametrize("waits", [0, 2])
def test_failed_operation_is_a_refusal(waits):
    require_environment("local_cloud")
    code = f"""
from types import SimpleNamespace
from examples.vertex_ai_endpoint import account
running = {{"name": "projects/p/operations/1"}}
ended = running | {{"done": True, "error": {{"code": 8, "message": "Kontingent erschöpft"}}}}
bodies = iter([running] * {waits} + [ended])
def request(*_, **__):
    body = next(bodies)
    return SimpleNamespace(content=b"x", ok=True, json=lambda: body)
account.session = lambda: SimpleNamespace(request=request)
account.time.sleep = lambda _: None
try:
    account.call("POST", "artifactregistry", "/v1/x")
except account.CloudError as error:
    print(error)
"""
    said = process.output(["python:local_cloud", "-c", code], env={"PYTHONPATH": ""})
    assert said == "Kontingent erschöpft\n"


# Ein Projekt mit Fremdem: Nur auf der zweiten Seite steht, was `create` anlegt.
CLEAN_UP = """
import json, sys
from types import SimpleNamespace
from examples.vertex_ai_endpoint import account

FOUND = {
    "b": ("items", "name", ["price-archive"], ["p-price-models"]),
    "o": ("items", "name", ["a/1"], ["a/2"]),
    "repositories": ("repositories", "name", ["price-old"], ["x/price"]),
    "serviceAccounts": ("accounts", "email", ["price-batch@p.iam.gserviceaccount.com"],
                        [f"price-{n}@p.iam.gserviceaccount.com" for n in account.NAMES]),
    "roles": ("roles", "name", ["price_viewer"], ["x/price_deployer", "x/price_client"]),
}
deleted, policies = [], []
policy = {"bindings": [{"role": f"projects/p/roles/{name}", "members": []}
                       for name in ("price_client", "price_viewer", "other")]}

def request(method, url, params=None, json=None):
    body, path = {}, url.partition(".com/")[2].partition("?")[0]
    if method == "DELETE":
        deleted.append(path)
    elif path.endswith(":setIamPolicy"):
        policies.append(json["policy"])
    elif path.endswith(":getIamPolicy"):
        body = policy
    elif path.split("/")[-1] in FOUND:
        items, key, *pages = FOUND[path.split("/")[-1]]
        page = int((params or {}).get("pageToken", 0))
        body = {items: [{key: name} for name in pages[page]]}
        body |= {"nextPageToken": "1"} if page == 0 else {}
    return SimpleNamespace(content=True, ok=True, json=lambda: body)

account.session = lambda: SimpleNamespace(request=request)
account.delete("p")
print(json.dumps([deleted, [b["role"] for p in policies for b in p["bindings"]]]))
"""


def test_only_what_create_made_is_deleted_wherever_it_is_listed():
    require_environment("local_cloud")
    deleted, kept = json.loads(process.output(["python:local_cloud", "-c", CLEAN_UP]))
    accounts = [f"price-{name}@p.iam.gserviceaccount.com" for name in ("deployer", "client")]
    assert deleted == [
        *(f"v1/projects/p/serviceAccounts/{email}" for email in accounts),
        *(f"v1/projects/p/roles/price_{name}" for name in ("deployer", "client")),
        "v1/projects/p/locations/europe-west3/repositories/price",
        *(f"storage/v1/b/p-price-models/o/a%2F{number}" for number in (1, 2)),
        "storage/v1/b/p-price-models",
    ]
    assert kept == ["projects/p/roles/price_viewer", "projects/p/roles/other"]


FETCH = """
from types import SimpleNamespace
from google.cloud import storage
from examples.vertex_ai_endpoint import artifacts

class Blob:
    def __init__(self, name):
        self.name = name

    def download_to_filename(self, path):
        path.write_text(self.name)

NAMES = ["price/1/", "price/1/model.onnx", "price/10/model.onnx", "price/10/other.json"]
listed = lambda bucket, prefix: [Blob(name) for name in NAMES if name.startswith(prefix)]
client = SimpleNamespace(list_blobs=listed)
storage.Client.create_anonymous_client = lambda: client
for uri in ("gs://b/price/1", "gs://b/price/1/"):
    print({path.name: path.read_text() for path in artifacts.fetch(uri).iterdir()})
"""


def test_only_this_version_is_fetched_and_no_folder(tmp_path):
    require_environment("local_cloud")
    env = {"STORAGE_EMULATOR_HOST": "http://127.0.0.1:1", "TMPDIR": str(tmp_path)}
    said = process.output(["python:local_cloud", "-c", FETCH], env=env)
    assert said.splitlines() == ["{'model.onnx': 'price/1/model.onnx'}"] * 2
