"""Der Endpunkt und was um ihn liegt: score.py im Inferenzserver, YAML, Rollen, MLflow."""

import json
import os
from pathlib import Path

import httpx
import psutil
import pytest

import process
from azure_ml import AzureError, module
from contract import free_port, require_environment
from examples.azure_ml_endpoint import assemble
from examples.price_model.predict import load_metadata
from examples.price_model.schema import EXAMPLE

HERE = Path(assemble.__file__).parent
ROLES = sorted((HERE / "roles").glob("*.json"))
DEPLOYER = json.loads((HERE / "roles" / "deployer.json").read_text(encoding="utf-8"))
PROVIDER = "Microsoft.MachineLearningServices/workspaces"
PRICE = {"price_usd": 2987.87, "model_version": "1.0.0"}
# Ohne Prüfung in `run`: Der Typ von `inference-schema` lehnt ab, was keine Liste ist.
TYPED = """
from inference_schema.parameter_types.standard_py_parameter_type import StandardPythonParameterType
from inference_schema.schema_decorators import input_schema

def init():
    pass

@input_schema("data", StandardPythonParameterType([1.0]))
def run(data):
    return sum(data)
"""


def run(name: str, *arguments: object) -> str:
    """Führt ein Modul des Beispiels in der Umgebung mit dem SDK aus."""
    require_environment("local_cloud")
    return module(name, *arguments, environment="python:local_cloud")


def refused(name: str, *arguments: object) -> str:
    """Die Meldung, mit der ein Modul abbricht; nie ein Traceback."""
    with pytest.raises(process.ProcessError) as error:
        run(name, *arguments)
    assert "Traceback" not in str(error.value)
    return str(error.value)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Was das SDK hochlädt."""
    target = tmp_path_factory.mktemp("upload")
    assemble.assemble(target)
    return target


def serve(script: Path, model: Path, **env: str) -> tuple[process.Service, str]:
    """Startet den Inferenzserver mit einer Datei und einem Modell."""
    require_environment("azureml_server")
    port = free_port()
    command = ["python:azureml_server", HERE / "server.py", "--entry_script", script]
    command += ["--model_dir", model, "--port", port]
    url = f"http://127.0.0.1:{port}"
    env |= {"AML_APP_ROOT": str(script.parent)}
    return process.serve(command, f"{url}/", timeout=60, env=env), url


@pytest.fixture(scope="module")
def server(folder):
    """Der Inferenzserver mit score.py und dem ONNX-Modell."""
    service, url = serve(folder / "code" / "score.py", folder / "onnx")
    with httpx.Client(base_url=url, timeout=30) as client:
        client.service = service
        yield client
    service.stop()


def test_folder_holds_code_models_and_yaml(folder):
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert {"code/score.py", "onnx/price_model.onnx", "sklearn/price_model.joblib"} <= found
    assert {path.name for path in HERE.glob("*.yml")} <= found
    assert not any(name.endswith("server.py") for name in found)


def test_name_of_the_endpoint_is_put_in(tmp_path):
    assemble.assemble(tmp_path, "price-7f3a")
    assert "\nname: price-7f3a\n" in (tmp_path / "endpoint.yml").read_text("utf-8")
    for name in ("blue", "green", "container"):
        text = (tmp_path / f"{name}.yml").read_text("utf-8")
        assert "\nendpoint_name: price-7f3a\n" in text and f"\nname: {name}\n" in text


def test_folder_without_model_is_refused_and_not_begun(tmp_path, monkeypatch):
    monkeypatch.setattr(assemble, "load_metadata", lambda: load_metadata(tmp_path))
    monkeypatch.setattr("sys.argv", ["assemble", str(tmp_path / "upload")])
    with pytest.raises(SystemExit, match="Zuerst ausführen: make model"):
        assemble.main()
    assert not (tmp_path / "upload").exists()


@pytest.mark.parametrize("name", ["assemble", "access", "check_roles"])
def test_modules_say_how_to_call_them(name):
    assert f"Aufruf: python -m examples.azure_ml_endpoint.{name}" in refused(name)


def test_certificates_need_their_folder(tmp_path):
    assert "nicht schreiben" in refused("access", tmp_path / "nirgends")


def test_keys_and_tokens_are_new_each_time(tmp_path):
    first, second = (json.loads(run("access", tmp_path))["tokens"] for _ in range(2))
    assert set(first) == {"owner", *(path.stem for path in ROLES)}
    assert not set(first.values()) & set(second.values())


def test_server_answers_one_stone_and_a_list(server):
    assert server.post("/score", json={"data": EXAMPLE}).json() == PRICE
    assert server.post("/score", json={"data": [EXAMPLE] * 2}).json() == [PRICE] * 2


@pytest.mark.parametrize(
    ("content", "status", "words"),
    [
        (json.dumps({"data": EXAMPLE | {"carat": -1}}), 422, "größer als 0"),
        (json.dumps({"data": None}), 422, "Erwartet wird ein Stein"),
        (json.dumps({"stone": EXAMPLE}), 400, "'data' parameter"),
        (json.dumps([EXAMPLE]), 400, "JSON dictionary"),
        ("{", 400, "decoded as JSON"),
    ],
)
def test_server_tells_the_fault_of_the_asker(server, content, status, words):
    answer = server.post("/score", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == status
    assert words in json.dumps(answer.json(), ensure_ascii=False)
    assert answer.headers["x-ms-run-function-failed"] == "False"


def test_swagger_describes_the_stone(server):
    definitions = server.get("/swagger.json").json()["definitions"]
    stone = definitions["ServiceInput"]["properties"]["data"]["items"]
    assert set(stone["properties"]) == set(EXAMPLE)
    assert stone["properties"]["carat"]["exclusiveMinimum"] == 0
    assert "Ideal" in stone["properties"]["cut"]["enum"]
    assert server.get("/swagger.json?version=3").json()["openapi"].startswith("3.")


def test_server_listens_on_loopback_only(server):
    family = psutil.Process(server.service._guard.pid).children(recursive=True)
    listening = {
        connection.laddr.ip
        for child in family
        for connection in child.net_connections(kind="tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}


def test_builtin_type_makes_a_wrong_question_the_fault_of_the_model(tmp_path):
    (tmp_path / "score.py").write_text(TYPED, encoding="utf-8")
    service, url = serve(tmp_path / "score.py", tmp_path)
    try:
        assert httpx.post(f"{url}/score", json={"data": [1, 2]}).json() == 3
        assert httpx.post(f"{url}/score", json={}).status_code == 400
        wrong = httpx.post(f"{url}/score", json={"data": "viele"})
        assert (wrong.status_code, wrong.headers["x-ms-run-function-failed"]) == (500, "True")
    finally:
        service.stop()


def test_server_without_model_ends_and_says_why(folder, tmp_path):
    with pytest.raises(process.ProcessError, match="endete beim Start"):
        serve(folder / "code" / "score.py", tmp_path)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("deployment", ["Not a valid integer", '"livenes_probe"', "Unknown field"]),
        ("endpoint", ["'passwort' passed is not in set"]),
    ],
)
def test_sdk_finds_what_is_wrong_in_yaml(azure, name, words):
    call = f"online_{name}s.begin_create_or_update"
    file = {f"load_online_{name}": [str(HERE / f"bad_{name}.yml"), {}]}
    with pytest.raises(AzureError, match="Validation for") as error:
        azure.call("owner", call, file)
    # Abgewiesen hat das SDK, gefragt wurde niemand.
    assert error.value.status is None and all(word in error.value.message for word in words)


def test_deployments_are_valid(azure, folder):
    for name in ("blue", "green", "container"):
        wanted = {"name": name, "endpoint_name": "price", "instance_count": 1}
        loaded = azure.call("owner", "load_online_deployment", str(folder / f"{name}.yml"))
        assert {key: loaded[key] for key in wanted} == wanted


def test_versions_in_conda_are_those_of_the_lock():
    lock = (HERE.parent / "azureml_server" / "requirements.txt").read_text(encoding="utf-8")
    wanted = [
        line.strip(" -") for line in (HERE / "conda.yml").read_text().splitlines() if "==" in line
    ]
    assert len(wanted) >= 6
    assert not [package for package in wanted if package not in lock.splitlines()]


def test_roles_pass_the_checker():
    assert run("check_roles", *ROLES).splitlines() == [f"{p.name}: in Ordnung" for p in ROLES]
    assert len(ROLES) == 3


def test_checker_finds_what_is_wrong(tmp_path):
    text = (HERE / "roles" / "client.json").read_text(encoding="utf-8")
    wrong = {
        "unbekannt": text.replace("score/action", "scoren/action"),
        "Stern": text.replace("score/action", "*/action"),
        "AssignableScopes": text.replace("/resourceGroups/price", ""),
        "IsCustom": text.replace('"IsCustom": true', '"IsCustom": false'),
        "Additional": text.replace("NotActions", "NichtActions"),
        "nicht lesbar": text.replace("{", "", 1),
    }
    files = [tmp_path / f"{name.split()[0]}.json" for name in wrong]
    for path, content in zip(files, wrong.values(), strict=True):
        path.write_text(content, encoding="utf-8")
    said = refused("check_roles", *files, tmp_path / "fehlt.json").splitlines()[1:]
    for finding, line in zip([*wrong, "nicht lesbar"], said, strict=True):
        assert finding in line, line


@pytest.fixture(scope="module")
def registered(azure):
    """Ein Workspace mit Modellen und Umgebung."""
    azure.register()
    return azure


def test_deployer_may_deploy_and_nothing_else(registered):
    azure = registered
    azure.deploy("container", "green")
    arguments = {"name": "green", "endpoint_name": "price"}
    azure.call("deployer", "online_deployments.get_logs", lines=5, **arguments)
    azure.call("deployer", "online_deployments.begin_delete", **arguments)
    azure.call("deployer", "online_endpoints.begin_delete", name="price")
    lines = azure.service.log(100_000).splitlines()
    used = {line.split()[0].lower() for line in lines if line.endswith("(deployer)")}
    # Jede Aktion der Datei wurde gebraucht, und keine fehlte.
    assert used == {action.lower() for action in DEPLOYER["Actions"]}


@pytest.mark.parametrize(
    ("role", "call", "arguments", "action"),
    [
        ("deployer", "online_endpoints.get_keys", {"name": "price"}, "onlineEndpoints/listKeys"),
        ("deployer", "workspaces.begin_delete", {"name": "price"}, "workspaces/delete"),
        ("keeper", "online_endpoints.begin_delete", {"name": "price"}, "onlineEndpoints/delete"),
        ("keeper", "models.get", {"name": "price-onnx", "version": "1"}, "models/versions/read"),
        ("client", "online_endpoints.get", {"name": "price"}, "onlineEndpoints/read"),
        ("client", "online_endpoints.list", {}, "onlineEndpoints/read"),
    ],
)
def test_roles_may_not_more_than_their_task(registered, role, call, arguments, action):
    file = registered.file("endpoint")
    registered.call("owner", "online_endpoints.begin_create_or_update", file)
    if call == "workspaces.begin_delete":
        arguments = arguments | {"delete_dependent_resources": False}
    with pytest.raises(AzureError, match=action) as error:
        registered.call(role, call, **arguments)
    assert (error.value.status, error.value.code) == (403, "AuthorizationFailed")


def test_without_the_variables_everything_goes_to_azure():
    require_environment("local_cloud")
    code = "import sys; from importlib.metadata import version; version(sys.argv[1])"
    code += "\nfrom azure.ai.ml import MLClient"
    code += "\nclient = MLClient(object(), 'a', 'price', 'price', enable_telemetry=False)"
    code += "\nfrom azure.ai.ml._azure_environments import _get_base_url_from_metadata as base"
    code += "\nprint(base(), client.resource_group_name)"
    command = ["python:local_cloud", "-c", code, "azure-ai-ml"]
    unset = {"ARM_CLOUD_METADATA_URL", "AZUREML_CURRENT_CLOUD"} & set(os.environ)
    assert not unset
    assert process.output(command).split() == ["https://management.azure.com", "price"]


def test_mlflow_knows_types_but_no_limits(tmp_path):
    require_environment("azureml_server")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    name = "examples.azure_ml_endpoint.mlflow_model"
    command = ["python:azureml_server", "-m", name, tmp_path / "model", "--port", port]
    service = process.serve(command, f"{url}/ping", timeout=90)

    def ask(**changes: object) -> httpx.Response:
        row = list((EXAMPLE | changes).values())
        table = {"dataframe_split": {"columns": list(EXAMPLE), "data": [row]}}
        return httpx.post(f"{url}/invocations", json=table, timeout=30)

    try:
        (price,) = ask().json()["predictions"]
        assert price == pytest.approx(PRICE["price_usd"], abs=0.05)
        assert ask(carat=-0.7).status_code == 200
        assert ask(carat="viel").status_code == 400
    finally:
        service.stop()
    assert (tmp_path / "model" / "MLmodel").exists()


def test_mlflow_says_what_is_wrong(tmp_path):
    require_environment("azureml_server")
    (tmp_path / "file").write_text("")
    name = "examples.azure_ml_endpoint.mlflow_model"
    command = ["python:azureml_server", "-m", name, tmp_path / "file" / "model", "--port", "8198"]
    with pytest.raises(process.ProcessError, match="nicht speichern") as error:
        process.output(command)
    assert "Traceback" not in str(error.value)
