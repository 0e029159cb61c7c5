"""Der Endpunkt und was um ihn liegt: Archiv, Container, Handler, Policies, Konto, SDK v3."""

import json
import tarfile
from pathlib import Path

import httpx
import pytest

import process
from aws import AwsError, variant
from contract import free_port, require_environment
from examples.price_model.predict import load_metadata
from examples.price_model.schema import EXAMPLE
from examples.sagemaker_endpoint import package

POLICIES = Path(package.__file__).parent / "policies"
EXAMPLE_MODULE = "examples.sagemaker_endpoint"
# Was das Auto-Scaling nur in der echten Cloud braucht.
ONLY_IN_THE_CLOUD = {
    "cloudwatch:PutMetricAlarm",
    "cloudwatch:DeleteAlarms",
    "cloudwatch:DescribeAlarms",
    "sagemaker:DescribeEndpointConfig",
    "iam:CreateServiceLinkedRole",
}
PLACE = "arn:aws:sagemaker:eu-central-1:123456789012"


def run(module: str, *arguments: object, env: dict | None = None) -> str:
    """Führt ein Modul des Beispiels in seiner Umgebung aus."""
    require_environment("local_cloud")
    command = ["python:local_cloud", "-m", f"{EXAMPLE_MODULE}.{module}", *arguments]
    return process.output(command, env=env)


def refused(module: str, *arguments: object, env: dict | None = None) -> str:
    """Die Meldung, mit der ein Modul abbricht; nie ein Traceback."""
    with pytest.raises(process.ProcessError) as error:
        run(module, *arguments, env=env)
    assert "Traceback" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("kind", package.CONTENT)
def test_same_model_gives_the_same_archive(tmp_path, kind):
    first, second = tmp_path / "a.tar.gz", tmp_path / "b.tar.gz"
    names = package.pack(kind, first)
    package.pack(kind, second)
    assert first.read_bytes() == second.read_bytes()
    with tarfile.open(first) as archive:
        assert archive.getnames() == names
        assert {member.mode for member in archive} == {0o644}


def test_archive_without_model_is_refused_and_not_begun(tmp_path, monkeypatch):
    monkeypatch.setattr(package, "load_metadata", lambda: load_metadata(tmp_path))
    monkeypatch.setattr("sys.argv", ["package", "service", str(tmp_path / "a.tar.gz")])
    with pytest.raises(SystemExit, match="Zuerst ausführen: make model"):
        package.main()
    assert not (tmp_path / "a.tar.gz").exists()


def test_old_archive_stays_when_a_file_is_missing(tmp_path, monkeypatch):
    target = tmp_path / "a.tar.gz"
    target.write_bytes(b"gestern")
    content = [*package.CONTENT["service"], package.ARTIFACTS / "fehlt.onnx"]
    monkeypatch.setitem(package.CONTENT, "service", content)
    monkeypatch.setattr("sys.argv", ["package", "service", str(target)])
    with pytest.raises(SystemExit, match="nicht packen"):
        package.main()
    assert list(tmp_path.iterdir()) == [target] and target.read_bytes() == b"gestern"


@pytest.mark.parametrize(
    "arguments", [[], ["alles", "a.tar.gz"], ["service"], ["service", "nirgends/a.tar.gz"]]
)
def test_packing_says_what_is_wrong(monkeypatch, arguments):
    monkeypatch.setattr("sys.argv", ["package", *arguments])
    with pytest.raises(SystemExit, match=r"Aufruf: |nicht packen"):
        package.main()


def test_handlers_bring_all_they_import(tmp_path):
    package.pack("handlers", tmp_path / "a.tar.gz")
    with tarfile.open(tmp_path / "a.tar.gz") as archive:
        archive.extractall(tmp_path / "model", filter="data")
    # Ein Python, das das Projekt nicht sieht: Es gibt nur, was im Archiv liegt.
    code = "import sys; sys.path[:] = [p for p in sys.path if p and 'site-packages' in p"
    code += " or p.endswith(('.zip', 'python3.11', 'python3.12', 'python3.13', 'lib-dynload'))]"
    code += f"\nsys.path.insert(0, {str(tmp_path / 'model' / 'code')!r})\nimport inference"
    code += f"\nmodel = inference.model_fn({str(tmp_path / 'model')!r})"
    code += "\nprint(inference.__file__, inference.load_model.__module__)"
    code += f"\nquestion = inference.input_fn({json.dumps(EXAMPLE)!r}, 'application/json')"
    code += "\nprint(inference.predict_fn(question, model))"
    require_environment("local_cloud")
    said = process.output(["python:local_cloud", "-c", code])
    assert "'price_usd': 2987.87" in said


@pytest.mark.parametrize(("module", "argument"), [("container", "train"), ("toolkit", "")])
def test_container_wants_exactly_serve(module, argument):
    assert f"{EXAMPLE_MODULE}.{module} serve" in refused(module, argument)


@pytest.fixture
def empty_model(tmp_path) -> dict[str, str]:
    (tmp_path / "model").mkdir()
    return {"SAGEMAKER_BASE_DIR": str(tmp_path), "SAGEMAKER_BIND_TO_PORT": str(free_port())}


def test_container_without_model_lives_but_is_not_ready(empty_model):
    require_environment("local_cloud")
    url = f"http://127.0.0.1:{empty_model['SAGEMAKER_BIND_TO_PORT']}"
    command = ["python:local_cloud", "-m", f"{EXAMPLE_MODULE}.container", "serve"]
    service = process.serve(command, f"{url}/health/live", timeout=60, env=empty_model)
    try:
        answer = httpx.get(f"{url}/ping")
        assert answer.status_code == 503
        assert "make model" in answer.json()["detail"][0]["reason"]
        assert httpx.post(f"{url}/invocations", json=EXAMPLE).status_code == 503
    finally:
        service.stop()


def test_toolkit_without_handlers_ends(empty_model):
    with pytest.raises(process.ProcessError, match="NotImplementedError"):
        run("toolkit", "serve", env=empty_model)


def test_toolkit_runs_the_handlers(tmp_path):
    require_environment("local_cloud")
    package.pack("handlers", tmp_path / "a.tar.gz")
    with tarfile.open(tmp_path / "a.tar.gz") as archive:
        archive.extractall(tmp_path / "model", filter="data")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    env = {"SAGEMAKER_BASE_DIR": str(tmp_path), "SAGEMAKER_BIND_TO_PORT": str(port)}
    command = ["python:local_cloud", "-m", f"{EXAMPLE_MODULE}.toolkit", "serve"]
    service = process.serve(command, f"{url}/ping", timeout=60, env=env)
    try:
        csv = httpx.post(f"{url}/invocations", content="0.7", headers={"Content-Type": "text/csv"})
        assert csv.status_code == 415 and "application/json" in csv.text
        broken = {"Content-Type": "application/json"}
        assert httpx.post(f"{url}/invocations", content="{", headers=broken).status_code == 400
        prices = httpx.post(f"{url}/invocations", json=[EXAMPLE]).json()
        assert prices == [{"price_usd": 2987.87, "model_version": "1.0.0"}]
    finally:
        service.stop()


def test_policies_pass_the_checker():
    files = sorted(POLICIES.glob("*.json"))
    said = run("check_policies", *files).splitlines()
    assert said == [f"{path.name}: in Ordnung" for path in files]
    assert len(files) == 3


def test_checker_finds_what_is_wrong(tmp_path):
    text = (POLICIES / "client.json").read_text(encoding="utf-8")
    wrong = {
        "UNKNOWN_ACTION": text.replace("InvokeEndpoint", "InvokeEndpunkt"),
        "RESOURCE_MISMATCH": text.replace("endpoint/price", "model/price"),
        "WILDCARD_ACTION": text.replace("sagemaker:InvokeEndpoint", "sagemaker:*"),
        "RESOURCE_STAR": text.replace("arn:aws:sagemaker:eu-central-1:*:endpoint/price", "*"),
        "MALFORMED_JSON": text.replace("{", "", 1),
    }
    files = [tmp_path / f"{finding}.json" for finding in wrong]
    for path, content in zip(files, wrong.values(), strict=True):
        path.write_text(content, encoding="utf-8")
    said = refused("check_policies", *files, tmp_path / "fehlt.json").splitlines()[1:]
    *found, missing = said
    for finding, line in zip(wrong, found, strict=True):
        assert line.startswith(f"{finding}.json: ") and f" {finding}" in line
    assert missing.startswith("fehlt.json: nicht lesbar")


@pytest.fixture(scope="module")
def account(aws) -> dict:
    return aws.account("create")


def flow(account: dict, archive: dict) -> dict[str, tuple]:
    """Was Ausliefern braucht: je Aktion ein Aufruf, in der Reihenfolge des Kapitels."""
    bucket, key = account["bucket"], "price/service.tar.gz"
    service = {"Image": account["images"]["price-service"], "ModelDataUrl": f"s3://{bucket}/{key}"}
    formats = ("SupportedContentTypes", "SupportedResponseMIMETypes")
    package = {
        "ModelPackageGroupName": "price",
        "InferenceSpecification": {"Containers": [service]}
        | {name: ["application/json"] for name in formats},
    }
    target = {
        "ServiceNamespace": "sagemaker",
        "ResourceId": "endpoint/price/variant/service",
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
    }
    metric = {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"}
    scaling = {"TargetValue": 600, "PredefinedMetricSpecification": metric}
    group = "/aws/sagemaker/Endpoints/price"
    role = account["roles"]["endpoint"]
    model = {"ModelName": "price-1", "PrimaryContainer": service, "ExecutionRoleArn": role}
    weights = [{"VariantName": "service", "DesiredWeight": 1}]
    endpoint, config = {"EndpointName": "price"}, {"EndpointConfigName": "price-1"}
    sm, policy = "sagemaker", {"PolicyName": "p", "PolicyType": "TargetTrackingScaling"}
    policy |= {"TargetTrackingScalingPolicyConfiguration": scaling}
    variants = {"ProductionVariants": [variant("service", "price-1")]}
    return {
        "s3:PutObject": ("s3", "put_object", {"Bucket": bucket, "Key": key, "Body": archive}),
        "sagemaker:CreateModel": (sm, "create_model", model),
        "iam:PassRole": (sm, "create_model", model | {"ModelName": "price-2"}),
        "sagemaker:CreateModelPackage": (sm, "create_model_package", package),
        "sagemaker:DescribeModelPackage": (
            sm,
            "describe_model_package",
            {"ModelPackageName": f"{PLACE}:model-package/price/1"},
        ),
        "sagemaker:CreateEndpointConfig": (sm, "create_endpoint_config", config | variants),
        "sagemaker:CreateEndpoint": (sm, "create_endpoint", endpoint | config),
        "sagemaker:DescribeEndpoint": (sm, "describe_endpoint", endpoint),
        "sagemaker:InvokeEndpoint": ("sagemaker-runtime", "invoke_endpoint", endpoint | QUESTION),
        "sagemaker:UpdateEndpoint": (sm, "update_endpoint", endpoint | config),
        "sagemaker:UpdateEndpointWeightsAndCapacities": (
            sm,
            "update_endpoint_weights_and_capacities",
            endpoint | {"DesiredWeightsAndCapacities": weights},
        ),
        "application-autoscaling:RegisterScalableTarget": (
            "application-autoscaling",
            "register_scalable_target",
            target | {"MinCapacity": 1, "MaxCapacity": 4},
        ),
        "application-autoscaling:PutScalingPolicy": (
            "application-autoscaling",
            "put_scaling_policy",
            target | policy,
        ),
        "logs:FilterLogEvents": ("logs", "filter_log_events", {"logGroupName": group}),
        "application-autoscaling:DeregisterScalableTarget": (
            "application-autoscaling",
            "deregister_scalable_target",
            target,
        ),
        "sagemaker:DeleteEndpoint": (sm, "delete_endpoint", endpoint),
        "sagemaker:DeleteEndpointConfig": (sm, "delete_endpoint_config", config),
        "sagemaker:DeleteModel": (sm, "delete_model", {"ModelName": "price-1"}),
        "s3:DeleteObject": ("s3", "delete_object", {"Bucket": bucket, "Key": key}),
    }


QUESTION = {"ContentType": "application/json", "Body": json.dumps(EXAMPLE)}
DEPLOYER = json.loads((POLICIES / "deployer.json").read_text(encoding="utf-8"))
GRANTED = {
    action
    for statement in DEPLOYER["Statement"]
    for action in (
        statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
    )
}


def test_deployer_may_do_what_deploying_needs_and_nothing_else(aws, account):
    calls = flow(account, {"base64": ""})
    assert set(calls) == GRANTED - ONLY_IN_THE_CLOUD
    key = aws.assume(account["roles"]["deployer"])
    for action, (service, operation, arguments) in calls.items():
        try:
            aws.call(service, operation, key, **arguments)
        except AwsError as error:
            # Ob der Endpunkt läuft, prüfen andere Tests; hier zählt nur das Recht.
            assert "AccessDenied" not in error.code, action
    # Das zweite Modell gab es nur für `iam:PassRole`; der Ablauf löscht es nicht.
    aws.call("sagemaker", "delete_model", ModelName="price-2")


@pytest.mark.parametrize("missing", sorted(GRANTED - ONLY_IN_THE_CLOUD))
def test_every_right_of_the_deployer_is_needed(aws, account, missing):
    policy = json.loads(json.dumps(DEPLOYER))
    for statement in policy["Statement"]:
        actions = statement["Action"]
        actions = actions if isinstance(actions, list) else [actions]
        statement["Action"] = [action for action in actions if action != missing]
    policy["Statement"] = [statement for statement in policy["Statement"] if statement["Action"]]
    role = {"RoleName": "price-deployer", "PolicyName": "least"}
    aws.call("iam", "put_role_policy", PolicyDocument=json.dumps(policy), **role)
    try:
        key = aws.assume(account["roles"]["deployer"])
        service, operation, arguments = flow(account, {"base64": ""})[missing]
        with pytest.raises(AwsError) as error:
            aws.call(service, operation, key, **arguments)
    finally:
        aws.call("iam", "put_role_policy", PolicyDocument=json.dumps(DEPLOYER), **role)
    assert "AccessDenied" in error.value.code
    assert f"not authorized to perform: {missing}" in error.value.message


@pytest.mark.parametrize(
    ("role", "service", "operation", "arguments", "action"),
    [
        (
            "deployer",
            "sagemaker",
            "update_model_package",
            {
                "ModelPackageArn": f"{PLACE}:model-package/price/1",
                "ModelApprovalStatus": "Approved",
            },
            "sagemaker:UpdateModelPackage",
        ),
        (
            "deployer",
            "sagemaker",
            "delete_endpoint",
            {"EndpointName": "fremd"},
            "sagemaker:DeleteEndpoint",
        ),
        (
            "client",
            "sagemaker",
            "delete_endpoint",
            {"EndpointName": "price"},
            "sagemaker:DeleteEndpoint",
        ),
        (
            "client",
            "sagemaker-runtime",
            "invoke_endpoint",
            {"EndpointName": "price-2"} | QUESTION,
            "sagemaker:InvokeEndpoint",
        ),
        (
            "client",
            "s3",
            "get_object",
            {"Bucket": "price-models-123456789012", "Key": "price/a"},
            "s3:GetObject",
        ),
    ],
)
def test_roles_may_not_more_than_their_task(
    aws, account, role, service, operation, arguments, action
):
    key = aws.assume(account["roles"][role])
    with pytest.raises(AwsError, match=f"AccessDenied.*{action}"):
        aws.call(service, operation, key, **arguments)


def test_role_is_given_only_to_sagemaker_and_only_this_one(aws, account):
    key = aws.assume(account["roles"]["deployer"])
    image = {"Image": account["images"]["price-service"]}
    other = {"ModelName": "price-x", "PrimaryContainer": image}
    with pytest.raises(AwsError, match="iam:PassRole on resource: .*role/price-deployer"):
        role = account["roles"]["deployer"]
        aws.call("sagemaker", "create_model", key, ExecutionRoleArn=role, **other)


def test_account_that_exists_is_not_created_twice(aws, account):
    said = refused("account", "create", env=aws.env)
    assert "AWS hat abgelehnt" in said and "BucketAlreadyOwnedByYou" in said


def test_without_the_address_everything_goes_to_aws():
    require_environment("local_cloud")
    code = "import json, boto3; names = ['sts', 'sagemaker', 'sagemaker-runtime', 's3']"
    code += "\nprint(json.dumps([boto3.client(name).meta.endpoint_url for name in names]))"
    unused = {"AWS_ACCESS_KEY_ID": "unused", "AWS_SECRET_ACCESS_KEY": "unused"}
    region = {"AWS_DEFAULT_REGION": "eu-central-1", "AWS_ENDPOINT_URL": ""}
    urls = json.loads(process.output(["python:local_cloud", "-c", code], env=unused | region))
    assert all(url.startswith("https://") and "amazonaws.com" in url for url in urls), urls
    assert all("eu-central-1" in url for url in urls)
    # Dieselbe Bibliothek prüft jeden Aufruf gegen die Beschreibung der API, bevor er abgeht.
    code = "import sys, boto3, importlib; errors = importlib.import_module(sys.argv[1])"
    code += "\ntry: boto3.client('sagemaker').create_model(Name='x')"
    code += "\nexcept errors.exceptions.ParamValidationError: print('abgelehnt')"
    command = ["python:local_cloud", "-c", code, "botocore"]
    assert process.output(command, env=unused | region).strip() == "abgelehnt"


def test_sdk_v3_answers_in_its_own_process(aws, account):
    require_environment("sagemaker_v3")
    command = ["python:sagemaker_v3", "-m", f"{EXAMPLE_MODULE}.builder", account["bucket"]]
    said = process.output([*command, json.dumps([EXAMPLE])], timeout=300, env=aws.env)
    assert json.loads(said)["predictions"] == [{"price_usd": 2987.87, "model_version": "1.0.0"}]


def test_sdk_v3_is_not_asked_nonsense():
    require_environment("sagemaker_v3")
    command = ["python:sagemaker_v3", "-m", f"{EXAMPLE_MODULE}.builder", "bucket"]
    with pytest.raises(process.ProcessError, match="Keine gültige Frage: 0.carat") as error:
        process.output([*command, '[{"carat": -1}]'])
    assert "Traceback" not in str(error.value)


def test_nothing_is_left_after_deleting(aws, account):
    """Der letzte Test: Danach ist das Konto leer."""
    created = aws.account("inventory")
    assert created["buckets"] == [account["bucket"]]
    assert len(created["roles"]) == 3 and len(created["repositories"]) == 2
    aws.call("s3", "put_object", Bucket=account["bucket"], Key="price/x", Body={"base64": ""})
    formats = ("SupportedContentTypes", "SupportedResponseMIMETypes")
    container = {"Image": account["images"]["price-service"]}
    specification = {"Containers": [container]} | {name: ["text/csv"] for name in formats}
    package = {"ModelPackageGroupName": "price", "InferenceSpecification": specification}
    aws.call("sagemaker", "create_model_package", **package)
    # Was jemand vergaß, fällt im Verzeichnis auf.
    role = account["roles"]["endpoint"]
    model = {"ModelName": "price-forgotten", "PrimaryContainer": container}
    aws.call("sagemaker", "create_model", ExecutionRoleArn=role, **model)
    # Was nur ähnlich heißt, gehört jemand anderem.
    place = {"LocationConstraint": "eu-central-1"}
    aws.call("s3", "create_bucket", Bucket="pricelists", CreateBucketConfiguration=place)
    aws.account("delete")
    left = {kind: names for kind, names in aws.account("inventory").items() if names}
    assert left == {"models": ["price-forgotten"], "buckets": ["pricelists"]}
    aws.call("s3", "delete_bucket", Bucket="pricelists")
    aws.call("sagemaker", "delete_model", ModelName="price-forgotten")
    assert not any(aws.account("inventory").values())
