"""SageMaker auf dem eigenen Rechner, gefragt von boto3: Absagen wie bei AWS, und kein Rest."""

import io
import json
import tarfile
import time

import httpx
import psutil
import pytest

import process
from aws import Aws, AwsError, deploy, encoded, settled, variant
from contract import require_environment
from examples.price_model.schema import EXAMPLE

QUESTION = {"EndpointName": "price", "ContentType": "application/json"}
SLOW = """
import os, time

def model_fn(model_dir):
    return None

def transform_fn(model, body, content_type, accept):
    if body == "stirb":
        os._exit(1)
    if body == "langsam":
        time.sleep(2)
    return "fertig"
"""


@pytest.fixture(scope="module")
def account(aws, tmp_path_factory) -> dict:
    """Ein Konto mit dem laufenden Endpunkt `price`."""
    return deploy(aws, "service", tmp_path_factory.mktemp("archive"))


@pytest.fixture(scope="module")
def client(aws, account) -> dict:
    return aws.assume(account["roles"]["client"])


@pytest.fixture(scope="module")
def handlers(aws, account) -> str:
    """Ein Modell für Tests, die keinen Preis brauchen: Sein Container startet schneller."""
    add_model(aws, account, "price-slow", "price-handlers", archive(inference=SLOW))
    return "price-slow"


def refused(aws: Aws, *call: object, **arguments: object) -> AwsError:
    """Der Fehler, mit dem ein Aufruf abgelehnt wird."""
    with pytest.raises(AwsError) as error:
        aws.call(*call, **arguments)
    return error.value


def ask(aws: Aws, key: dict | None = None, **changes: object) -> dict:
    call = QUESTION | {"Body": json.dumps(EXAMPLE)} | changes
    return aws.call("sagemaker-runtime", "invoke_endpoint", key, **call)


def add_model(aws: Aws, account: dict, name: str, image: str, content: bytes) -> None:
    """Legt Modell und Konfiguration gleichen Namens an."""
    key = f"price/{name}.tar.gz"
    aws.call("s3", "put_object", Bucket=account["bucket"], Key=key, Body=encoded(content))
    container = {
        "Image": account["images"][image],
        "ModelDataUrl": f"s3://{account['bucket']}/{key}",
    }
    role = account["roles"]["endpoint"]
    model = {"ModelName": name, "ExecutionRoleArn": role, "PrimaryContainer": container}
    aws.call("sagemaker", "create_model", **model)
    variants = [variant("only", name)]
    config = {"EndpointConfigName": name, "ProductionVariants": variants}
    aws.call("sagemaker", "create_endpoint_config", **config)


def archive(**files: str) -> bytes:
    """model.tar.gz mit dem Code, den ein Test braucht."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(f"code/{name}.py")
            info.size = len(text.encode())
            tar.addfile(info, io.BytesIO(text.encode()))
    return buffer.getvalue()


CALLS = {"sts": "get_caller_identity", "s3": "list_buckets", "sagemaker": "list_models"}


@pytest.mark.parametrize("service", CALLS)
def test_wrong_secret_is_refused(aws, service):
    key = {
        "aws_access_key_id": aws.root["AWS_ACCESS_KEY_ID"],
        "aws_secret_access_key": "falsch",
    }
    error = refused(aws, service, CALLS[service], key)
    assert error.status == 403 and "Signature" in error.code


@pytest.mark.parametrize("service", CALLS)
def test_unknown_key_is_refused(aws, service):
    key = {"aws_access_key_id": "AKIAUNKNOWN", "aws_secret_access_key": "egal"}
    error = refused(aws, service, CALLS[service], key)
    assert error.status == 403
    assert error.code in (
        "InvalidClientTokenId",
        "InvalidAccessKeyId",
        "UnrecognizedClientException",
    )


@pytest.mark.parametrize(
    ("service", "operation", "arguments", "name"),
    [
        (
            "sagemaker",
            "create_inference_component",
            {"InferenceComponentName": "a", "EndpointName": "b"},
            "sagemaker:CreateInferenceComponent",
        ),
        ("dynamodb", "list_tables", {}, "dynamodb:ListTables"),
        (
            "sagemaker-runtime",
            "invoke_endpoint_async",
            {"EndpointName": "price", "InputLocation": "s3://a/b"},
            "sagemaker:InvokeEndpointAsync",
        ),
        (
            "iam",
            "simulate_principal_policy",
            {"PolicySourceArn": "arn:aws:iam::123456789012:role/a", "ActionNames": ["a:b"]},
            "iam:SimulatePrincipalPolicy",
        ),
    ],
)
def test_unknown_call_is_refused_by_name(aws, service, operation, arguments, name):
    error = refused(aws, service, operation, **arguments)
    assert error.status == 501
    assert error.message == f"Nicht nachgebildet: {name}"


@pytest.mark.parametrize(
    "body", ["kein JSON", "[1]", "[" * 100_000, "\ud800".encode(errors="surrogatepass")]
)
def test_call_without_an_object_is_the_fault_of_the_caller(aws, body):
    scope = "Credential=wer/20261129/eu-central-1/sagemaker/aws4_request"
    headers = {
        "Authorization": f"AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=0",
        "X-Amz-Target": "SageMaker.ListModels",
    }
    answer = httpx.post(aws.url, headers=headers, content=body)
    assert (answer.status_code, answer.json()["__type"]) == (400, "ValidationException")
    assert "JSON" in answer.json()["message"]


def test_answer_names_the_variant(aws, account, client):
    answer = ask(aws, client)
    assert answer["InvokedProductionVariant"] == "service"
    assert json.loads(answer["Body"])["model_version"] == "1.0.0"


def test_missing_things_are_named(aws, account):
    missing = refused(
        aws, "sagemaker-runtime", "invoke_endpoint", EndpointName="nirgends", Body="{}"
    )
    assert missing.code == "ValidationError" and "nirgends" in missing.message
    for operation, arguments in {
        "describe_endpoint": {"EndpointName": "nirgends"},
        "delete_endpoint": {"EndpointName": "nirgends"},
        "create_endpoint": {"EndpointName": "neu", "EndpointConfigName": "nirgends"},
        "update_endpoint": {"EndpointName": "price", "EndpointConfigName": "nirgends"},
        "create_endpoint_config": {
            "EndpointConfigName": "neu",
            "ProductionVariants": [variant("a", "nirgends")],
        },
        "delete_model_package": {"ModelPackageName": "nirgends"},
    }.items():
        error = refused(aws, "sagemaker", operation, **arguments)
        assert (error.status, error.code) == (400, "ValidationException"), operation
        assert "nirgends" in error.message


@pytest.mark.parametrize(
    ("operation", "extra"),
    [
        ("create_endpoint_config", {"AsyncInferenceConfig": {"OutputConfig": {}}}),
        ("create_endpoint_config", {"ServerlessConfig": {"MemorySizeInMB": 2048}}),
        ("create_endpoint", {"DeploymentConfig": {"BlueGreenUpdatePolicy": {}}}),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_setting_without_effect_is_refused(aws, account, operation, extra):
    (name,) = extra
    given = {"EndpointConfigName": "neu"}
    if operation == "create_endpoint":
        given |= {"EndpointName": "neu"} | extra
    elif name == "ServerlessConfig":
        extra[name]["MaxConcurrency"] = 1
        given["ProductionVariants"] = [{"VariantName": "a", "ModelName": "price-service"} | extra]
    else:
        extra[name]["OutputConfig"] = {"S3OutputPath": "s3://price/out"}
        given |= {"ProductionVariants": [variant("service")]} | extra
    if name == "DeploymentConfig":
        policy = {
            "TrafficRoutingConfiguration": {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0}
        }
        extra[name]["BlueGreenUpdatePolicy"] = policy
    error = refused(aws, "sagemaker", operation, **given)
    assert error.status == 501 and error.message.endswith(f"mit {name}")


def test_same_name_twice_is_refused(aws, account):
    model = aws.call("sagemaker", "describe_model", ModelName="price-service")
    wanted = {name: model[name] for name in ("ModelName", "ExecutionRoleArn", "PrimaryContainer")}
    for operation, arguments in {
        "create_model": wanted,
        "create_endpoint_config": {
            "EndpointConfigName": "price-1",
            "ProductionVariants": [variant("service")],
        },
        "create_endpoint": {"EndpointName": "price", "EndpointConfigName": "price-1"},
    }.items():
        error = refused(aws, "sagemaker", operation, **arguments)
        assert error.message.startswith("Cannot create already existing"), operation


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"Image": "nirgends:1"}, "Requested image nirgends:1 not found."),
        ({"ModelDataUrl": "s3://price-models-123456789012/nichts"}, "Could not access model data"),
        ({"ModelDataUrl": "s3://fremd/price/a.tar.gz"}, "Could not access model data"),
    ],
)
def test_model_needs_image_and_data_its_role_may_read(aws, account, change, message):
    model = aws.call("sagemaker", "describe_model", ModelName="price-service")
    error = refused(
        aws,
        "sagemaker",
        "create_model",
        ModelName="price-other",
        ExecutionRoleArn=model["ExecutionRoleArn"],
        PrimaryContainer=model["PrimaryContainer"] | change,
    )
    assert error.message.startswith(message)


def test_role_that_sagemaker_may_not_take_is_refused(aws, account):
    model = aws.call("sagemaker", "describe_model", ModelName="price-service")
    error = refused(
        aws,
        "sagemaker",
        "create_model",
        ModelName="price-other",
        ExecutionRoleArn=account["roles"]["client"],
        PrimaryContainer=model["PrimaryContainer"],
    )
    assert "does not have BatchGetImage permission" in error.message


# Die Plattform ohne Netz: ein Prozess für drei Tests, denn moto lädt lange.
INSIDE = """
import json, pathlib, sys
from types import SimpleNamespace
from moto.iam.models import iam_backends
from examples.local_cloud import aws_access
from examples.local_cloud.sagemaker import SageMaker
from examples.local_cloud.service import Refusal, Request

backend, allowed = iam_backends[aws_access.ACCOUNT]["aws"], []
policy = {"Effect": "Allow", "Action": "ecr:*", "Resource": "*"}
document = json.dumps({"Version": "2012-10-17", "Statement": policy})
for number, principal in enumerate(json.loads(sys.argv[1])):
    trust = {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}
    name, trusted = f"role-{number}", json.dumps({"Statement": trust})
    role = backend.create_role(name, trusted, "/", None, "", {}, "3600")
    backend.put_role_policy(name, "p", document)
    allowed.append(aws_access.role_allows(role.arn, "ecr:BatchGetImage", "x"))

try:
    answer = aws_access.check_trust(
        Request("POST", "/", {}, {}, b"RoleArn=a&Policy=%7B%7D"), "ada")
except Refusal as refusal:
    answer = [refusal.status, refusal.message]

app, seen = SageMaker(pathlib.Path(sys.argv[2])), {}
model = SimpleNamespace(primary_container={"Image": "r/price-service:1"}, containers=[])
app._backend = lambda region: SimpleNamespace(_models={"m": model})
app.start = lambda command, env: seen.update(env)
app._start("eu-central-1", {"ModelName": "m"})
print(json.dumps({"allowed": allowed, "answer": answer, "seen": seen}))
"""


@pytest.fixture(scope="module")
def inside(tmp_path_factory) -> dict:
    """Was `INSIDE` fand, und der Ordner der Plattform."""
    require_environment("local_cloud")
    trusted = {"Service": "sagemaker.amazonaws.com"}
    # Dasselbe Recht nützt nichts, wenn die Rolle SageMaker nicht vertraut.
    others = [{"Service": "lambda.amazonaws.com"}, {"AWS": "arn:aws:iam::123456789012:root"}]
    principals, folder = json.dumps([trusted, *others]), tmp_path_factory.mktemp("inside")
    command = ["python:local_cloud", "-W", "ignore", "-c", INSIDE, principals, folder]
    env = {"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "geheim"}
    return json.loads(process.output(command, env=env)) | {"folder": str(folder)}


def test_right_of_a_role_counts_only_for_whom_it_trusts(inside):
    assert inside["allowed"] == [True, False, False]


def test_narrower_session_is_refused_because_it_would_get_more(inside):
    assert inside["answer"] == [501, "Nicht nachgebildet: sts:AssumeRole mit Policy"]


def test_container_sees_no_key_of_the_account(inside):
    assert inside["seen"]["SAGEMAKER_BASE_DIR"].startswith(inside["folder"])
    assert not [name for name in inside["seen"] if name.startswith("AWS_")]


def test_refusal_of_the_container_arrives_as_model_error(aws, account, client):
    with pytest.raises(AwsError) as error:
        ask(aws, client, Body="{")
    assert (error.value.code, error.value.status, error.value.original) == ("ModelError", 424, 400)
    with pytest.raises(AwsError) as error:
        ask(aws, client, ContentType="text/csv", Body="0.7,Ideal")
    assert error.value.original == 422


def test_variants_get_their_weights(aws, account, client, handlers):
    variants = [variant("a", handlers, 1), variant("b", handlers, 0)]
    config = {"EndpointConfigName": "price-two", "ProductionVariants": variants}
    aws.call("sagemaker", "create_endpoint_config", **config)
    update = {"EndpointName": "price", "EndpointConfigName": "price-two"}
    aws.call("sagemaker", "update_endpoint", **update)
    assert settled(aws)["EndpointConfigName"] == "price-two"
    assert {ask(aws, client)["InvokedProductionVariant"] for _ in range(20)} == {"a"}
    assert ask(aws, client, TargetVariant="b")["InvokedProductionVariant"] == "b"
    with pytest.raises(AwsError, match="Variant c of endpoint price not found"):
        ask(aws, client, TargetVariant="c")

    def weigh(**weights: float) -> None:
        wanted = [{"VariantName": n, "DesiredWeight": w} for n, w in weights.items()]
        aws.call(
            "sagemaker",
            "update_endpoint_weights_and_capacities",
            EndpointName="price",
            DesiredWeightsAndCapacities=wanted,
        )

    weigh(b=3)
    asked = [ask(aws, client)["InvokedProductionVariant"] for _ in range(100)]
    assert 40 < asked.count("b") < 99  # erwartet 75
    weigh(a=0)
    assert {ask(aws, client)["InvokedProductionVariant"] for _ in range(20)} == {"b"}
    found = aws.call("sagemaker", "describe_endpoint", EndpointName="price")["ProductionVariants"]
    assert [(v["CurrentWeight"], v["CurrentInstanceCount"]) for v in found] == [(0, 1), (3, 1)]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("price-no-archive", b"kein Archiv", "Failed to extract model data archive"),
        ("price-outside", "../../outside", "Failed to extract model data archive"),
        ("price-crash", archive(inference="raise RuntimeError('kaputt')"), "ping health check"),
    ],
)
def test_broken_model_leaves_the_old_one_in_service(aws, account, client, name, content, reason):
    if isinstance(content, str):
        content = archive(**{content: "geschrieben"})
    add_model(aws, account, name, "price-handlers", content)
    before = aws.call("sagemaker", "describe_endpoint", EndpointName="price")
    update = {"EndpointName": "price", "EndpointConfigName": name}
    aws.call("sagemaker", "update_endpoint", **update)
    ask(aws, client)
    endpoint = settled(aws)
    assert endpoint["EndpointStatus"] == "InService"
    assert endpoint["EndpointConfigName"] == before["EndpointConfigName"]
    assert reason in endpoint["FailureReason"]
    ask(aws, client)


def test_logs_of_a_failed_container_can_be_read(aws, account):
    group = "/aws/sagemaker/Endpoints/price"
    events = aws.call("logs", "filter_log_events", logGroupName=group)["events"]
    assert any(event["message"] == "RuntimeError: kaputt" for event in events)


def test_running_answer_arrives_although_the_endpoint_is_deleted(aws, account, handlers):
    update = {"EndpointName": "price", "EndpointConfigName": handlers}
    aws.call("sagemaker", "update_endpoint", **update)
    assert settled(aws)["EndpointConfigName"] == handlers
    with Aws(int(aws.url.rsplit(":", 1)[1]), aws.root) as other:
        call = QUESTION | {"Body": "langsam"}
        other.send("sagemaker-runtime", "invoke_endpoint", **call)
        wait_for_line(aws, "sagemaker:InvokeEndpoint")
        aws.call("sagemaker", "delete_endpoint", EndpointName="price")
        assert other.receive()["Body"] == "fertig"
    with pytest.raises(AwsError, match="Endpoint price of account 123456789012 not found"):
        ask(aws)


def wait_for_line(aws: Aws, text: str) -> None:
    """Wartet, bis die letzte Anfrage im Protokoll `text` enthält."""
    deadline = time.monotonic() + 60
    while text not in aws.service.log(1):
        assert time.monotonic() < deadline, f"Nicht im Protokoll: {text}"
        time.sleep(0.01)


def test_container_that_dies_is_reported(aws, account, handlers):
    config = {"EndpointName": "price", "EndpointConfigName": handlers}
    aws.call("sagemaker", "create_endpoint", **config)
    assert settled(aws)["EndpointStatus"] == "InService"
    with pytest.raises(AwsError) as error:
        ask(aws, Body="stirb")
    assert (error.value.code, error.value.status) == ("ServiceUnavailable", 503)


def test_explicit_deny_beats_every_allow(aws, account, client):
    deny = {"Effect": "Deny", "Action": "sagemaker:Invoke*", "Resource": "*"}
    policy = {"RoleName": "price-client", "PolicyName": "deny"}
    document = json.dumps({"Version": "2012-10-17", "Statement": deny})
    aws.call("iam", "put_role_policy", PolicyDocument=document, **policy)
    with pytest.raises(AwsError, match="AccessDeniedException.*sagemaker:InvokeEndpoint"):
        ask(aws, client)
    aws.call("iam", "delete_role_policy", **policy)


OTHER = "arn:aws:sagemaker:eu-central-1:123456789012:endpoint/other"
REGION_IS = {"StringEquals": {"aws:RequestedRegion": "eu-central-1"}}


@pytest.mark.parametrize(
    "deny",
    [
        {"NotAction": "sagemaker:Describe*", "Resource": "*"},
        {"Action": "sagemaker:*", "NotResource": OTHER},
        {"Action": "sagemaker:*", "Resource": "*", "Condition": REGION_IS},
    ],
)
def test_deny_in_any_form_is_obeyed(aws, account, client, deny):
    policy = {"RoleName": "price-client", "PolicyName": "deny"}
    document = {"Version": "2012-10-17", "Statement": [{"Effect": "Deny"} | deny]}
    aws.call("iam", "put_role_policy", PolicyDocument=json.dumps(document), **policy)
    with pytest.raises(AwsError, match="not authorized to perform: sagemaker:InvokeEndpoint"):
        ask(aws, client)
    aws.call("iam", "delete_role_policy", **policy)


def test_condition_keeps_the_deployer_from_approving(aws, account):
    deny = {"Effect": "Deny", "Action": "sagemaker:CreateModelPackage", "Resource": "*"}
    deny["Condition"] = {"StringEquals": {"sagemaker:ModelApprovalStatus": "Approved"}}
    policy = {"RoleName": "price-deployer", "PolicyName": "deny"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [deny]})
    aws.call("iam", "put_role_policy", PolicyDocument=document, **policy)
    key = aws.assume(account["roles"]["deployer"])
    call = ("sagemaker", "create_model_package", key)
    package = {"ModelPackageGroupName": "price", "ModelApprovalStatus": "Approved"}
    assert refused(aws, *call, **package).code == "AccessDeniedException"
    aws.call(*call, **package | {"ModelApprovalStatus": "PendingManualApproval"})
    aws.call("iam", "delete_role_policy", **policy)


@pytest.mark.parametrize("role", ["endpoint", "nirgends"])
def test_role_goes_only_to_whom_it_trusts(aws, account, role):
    arn = account["roles"]["client"].replace("price-client", f"price-{role}")
    with pytest.raises(AwsError, match="AccessDenied.*sts:AssumeRole"):
        aws.assume(arn)


def test_variant_without_weight_gets_the_default(aws, account, client, handlers):
    only = variant("only", handlers)
    del only["InitialVariantWeight"]
    config = {"EndpointConfigName": "price-default", "ProductionVariants": [only]}
    aws.call("sagemaker", "create_endpoint_config", **config)
    update = {"EndpointName": "price", "EndpointConfigName": "price-default"}
    aws.call("sagemaker", "update_endpoint", **update)
    assert settled(aws)["EndpointConfigName"] == "price-default"
    assert ask(aws, client)["InvokedProductionVariant"] == "only"


def test_rollout_that_is_not_executed_is_refused(aws, account):
    update = {"EndpointName": "price", "EndpointConfigName": "price-1"}
    more = {"RetainAllVariantProperties": True}
    error = refused(aws, "sagemaker", "update_endpoint", **update, **more)
    assert error.status == 501 and "RetainAllVariantProperties" in error.message


def test_number_of_a_version_is_not_given_twice(aws, account):
    group = {"ModelPackageGroupName": "price"}
    create = ("sagemaker", "create_model_package")
    first, second = (aws.call(*create, **group)["ModelPackageArn"] for _ in range(2))
    aws.call("sagemaker", "delete_model_package", ModelPackageName=first)
    assert refused(aws, *create, **group).status == 501
    aws.call("sagemaker", "delete_model_package", ModelPackageName=second)


def test_logs_outlive_the_endpoint(aws, account, handlers):
    endpoint = {"EndpointName": "price-logged"}
    aws.call("sagemaker", "create_endpoint", EndpointConfigName=handlers, **endpoint)
    deadline = time.monotonic() + 120
    while aws.call("sagemaker", "describe_endpoint", **endpoint)["EndpointStatus"] == "Creating":
        assert time.monotonic() < deadline
        time.sleep(0.2)
    found = aws.call("sagemaker", "describe_endpoint", **endpoint)
    assert found["EndpointStatus"] == "InService"
    aws.call("sagemaker", "delete_endpoint", **endpoint)
    group = "/aws/sagemaker/Endpoints/price-logged"
    assert aws.call("logs", "filter_log_events", logGroupName=group)["events"]


def test_condition_nobody_knows_allows_nothing(aws, account, client):
    for condition, allowed in (({"Bool": {"aws:ViaAWSService": "false"}}, False), ({}, True)):
        statement = {"Effect": "Allow", "Action": "sagemaker:ListModels", "Resource": "*"}
        statement |= {"Condition": condition} if condition else {}
        document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        policy = {"RoleName": "price-client", "PolicyName": "list"}
        aws.call("iam", "put_role_policy", PolicyDocument=document, **policy)
        if allowed:
            assert aws.call("sagemaker", "list_models", client)["Models"]
        else:
            assert (
                "sagemaker:ListModels" in refused(aws, "sagemaker", "list_models", client).message
            )
        aws.call("iam", "delete_role_policy", **policy)


def test_key_of_the_account_is_required():
    require_environment("local_cloud")
    command = ["python:local_cloud", "-m", "examples.local_cloud.sagemaker", "--port", "0"]
    with pytest.raises(process.ProcessError, match="Es fehlt 'AWS_ACCESS_KEY_ID'") as error:
        process.output(command)
    assert "Traceback" not in str(error.value)


def test_no_container_outlives_the_platform(aws, account):
    """Der letzte Test: Danach gibt es die Plattform nicht mehr."""
    family = psutil.Process(aws.service._guard.pid).children(recursive=True)
    containers = [p for p in family if "examples.sagemaker_endpoint.toolkit" in p.cmdline()]
    assert containers
    (platform,) = [
        p for p in family if p.cmdline()[1:3] == ["-m", "examples.local_cloud.sagemaker"]
    ]
    # Nicht `service.stop`: Dessen Wächter beendete auch, was der Plattform entgeht.
    platform.terminate()
    _, alive = psutil.wait_procs(family, timeout=20)
    assert not alive
