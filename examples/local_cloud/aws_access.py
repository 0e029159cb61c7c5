"""Wer bei AWS fragt und ob er darf: Signatur prüfen, Policies anwenden.

moto kennt Rollen, Schlüssel und Policies, prüft Aufrufe aber nicht gegen `Resource` und
`Condition`. Hier gilt beides, und zwar wie bei AWS: Ohne Erlaubnis verboten, und ein
ausdrückliches Verbot sticht jede Erlaubnis.
"""

from __future__ import annotations

import hmac
import json
import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from urllib.parse import parse_qs, quote, urlencode

from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from moto.core import DEFAULT_ACCOUNT_ID as ACCOUNT
from moto.iam.access_control import CreateAccessKeyFailure, create_access_key
from moto.iam.exceptions import NotFoundException
from moto.iam.models import iam_backends

from examples.local_cloud.service import Refusal, Request

SCOPE = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>[^/]+)/\d+/(?P<region>[^/]+)/(?P<service>[^/]+)/"
    r"aws4_request, ?SignedHeaders=(?P<signed>[^,]+), ?Signature=(?P<signature>\w+)"
)
# Das Präfix in Policies ist meist der Name, mit dem signiert wird.
PREFIXES = {"monitoring": "cloudwatch"}
ARN_PARTS = {"EndpointConfig": "endpoint-config", "Endpoint": "endpoint", "Model": "model"}
# Bedingungen, deren Wert die Nachbildung kennt.
CONDITIONS = {"iam:PassedToService", "sagemaker:ModelApprovalStatus"}
RUNTIME = {
    "invocations": "InvokeEndpoint",
    "async-invocations": "InvokeEndpointAsync",
    "invocations-response-stream": "InvokeEndpointWithResponseStream",
}
# Diese Dienste antworten in XML und nennen manche Fehler anders.
XML = {"s3", "iam", "sts"}
# Status, Fehlerwort und Wortlaut, wie AWS ihn schreibt.
ERRORS = json.loads(Path(__file__).with_name("aws_errors.json").read_text(encoding="utf-8"))


def refusal(name: str, /, **values: object) -> Refusal:
    """Eine Absage im Wortlaut von AWS."""
    status, code, message = ERRORS[name]
    return Refusal(status, message.format(**values), code)


@dataclass
class Call:
    """Ein Aufruf von AWS: Dienst, Aktion, Region und was darin steht."""

    service: str
    region: str
    action: str
    content: dict

    @property
    def name(self) -> str:
        """Die Aktion, wie eine Policy sie nennt, etwa `sagemaker:CreateModel`."""
        return f"{PREFIXES.get(self.service, self.service)}:{self.action}"


def read(request: Request) -> Call:
    """Liest, was ein SDK will; ohne Signatur `Refusal` mit 403, ohne JSON mit 400."""
    scope = SCOPE.match(request.headers.get("authorization", ""))
    if scope is None:
        raise refusal("no_signature")
    service, content = scope["service"], {}
    target = request.headers.get("x-amz-target", "")
    operation = re.fullmatch(r"/service/\w+/operation/(\w+)", request.path)
    if target:
        action, content = target.rpartition(".")[2], request.json() if request.body else {}
    elif operation:
        action = operation[1]
    elif service == "s3":
        action = s3_action(request)
    elif service == "sagemaker":
        name, _, kind = request.path.removeprefix("/endpoints/").partition("/")
        action = RUNTIME.get(kind, f"{request.method} {request.path}")
        content = {"EndpointName": name}
    else:
        found = re.search(rb"(?:^|&)Action=(\w+)", request.body)
        action = found[1].decode() if found else f"{request.method} {request.path}"
    return Call(service, scope["region"], action, content)


def s3_action(request: Request) -> str:
    """Bei S3 steht die Aktion in Methode und Adresse, nicht in einem Namen."""
    key = request.path.strip("/").partition("/")[2]
    if request.method == "POST" and "delete" in request.query:
        return "DeleteObject"
    verbs = {"GET": "Get", "HEAD": "Get", "PUT": "Put", "DELETE": "Delete", "POST": "Put"}
    if key:
        return f"{verbs[request.method]}Object"
    if request.method in ("GET", "HEAD"):
        return "ListBucket" if request.path.strip("/") else "ListAllMyBuckets"
    return {"PUT": "CreateBucket", "DELETE": "DeleteBucket"}[request.method]


def resource(call: Call, request: Request) -> str:
    """Die Adresse (ARN), auf die sich der Aufruf bezieht; `*`, wenn es keine einzelne ist."""
    place = f"{call.region}:{ACCOUNT}"
    if call.service == "s3":
        return f"arn:aws:s3:::{request.path.strip('/')}"
    if call.service == "logs" and "logGroupName" in call.content:
        return f"arn:aws:logs:{place}:log-group:{call.content['logGroupName']}:*"
    if call.service == "application-autoscaling" and "ResourceId" in call.content:
        target = f"scalable-target/{call.content['ResourceId']}"
        return f"arn:aws:application-autoscaling:{place}:{target}"
    if call.service != "sagemaker" or call.action.startswith("List"):
        return "*"
    if "ModelPackageGroup" in call.action:
        return (
            f"arn:aws:sagemaker:{place}:model-package-group/{call.content['ModelPackageGroupName']}"
        )
    if "ModelPackage" in call.action:
        given = call.content.get("ModelPackageArn") or call.content.get("ModelPackageName")
        return (
            given
            or f"arn:aws:sagemaker:{place}:model-package/{call.content['ModelPackageGroupName']}/1"
        )
    for name, part in ARN_PARTS.items():
        if name in call.action and f"{name}Name" in call.content:
            return f"arn:aws:sagemaker:{place}:{part}/{call.content[f'{name}Name'].lower()}"
    return "*"


class Access:
    """Kennt den Schlüssel des Kontoinhabers; alle anderen Schlüssel vergibt IAM."""

    def __init__(self, key: str, secret: str) -> None:
        self._key, self._secret = key, secret

    def check(self, call: Call, request: Request, address: str) -> str:
        """Gibt zurück, wer fragt; mit falschem Schlüssel oder ohne Recht `Refusal`."""
        scope = SCOPE.match(request.headers["authorization"])
        if hmac.compare_digest(scope["key"], self._key):
            check_signature(request, address, Credentials(self._key, self._secret))
            return "root"
        # moto sucht den Header nach seinem Namen bei AWS.
        token = request.headers.get("x-amz-security-token")
        headers = {"X-Amz-Security-Token": token} if token else {}
        try:
            holder = create_access_key(ACCOUNT, "aws", scope["key"], headers)
        except CreateAccessKeyFailure:
            raise unknown_key(call.service) from None
        check_signature(request, address, holder.create_credentials())
        policies = documents(holder.collect_policies())
        status = call.content.get("ModelApprovalStatus")
        context = {"sagemaker:ModelApprovalStatus": status} if status else {}
        wanted = [(call.name, resource(call, request), context)]
        if call.name == "sagemaker:CreateModel":
            service = {"iam:PassedToService": "sagemaker.amazonaws.com"}
            wanted.append(("iam:PassRole", call.content.get("ExecutionRoleArn", "*"), service))
        for action, target, context in wanted:
            if not allowed(policies, action, target, context):
                error = refusal("denied", who=holder.arn, action=action, target=target)
                if call.service in XML:
                    error.status, error.code = 403, "AccessDenied"
                raise error
        return holder.arn.split(":")[-1]


def unknown_key(service: str) -> Refusal:
    """Die Absage für einen Schlüssel, den niemand vergeben hat."""
    if service == "s3":
        return refusal("unknown_s3_key")
    error = refusal("unknown_key")
    error.code = "InvalidClientTokenId" if service in XML else error.code
    return error


def check_signature(request: Request, address: str, credentials: Credentials) -> None:
    """Rechnet die Signatur nach; passt sie nicht, so ist der geheime Schlüssel falsch."""
    scope = SCOPE.match(request.headers["authorization"])
    url = address + quote(request.path, safe="/~")
    if request.query:
        url += f"?{urlencode(request.query, quote_via=quote)}"
    signed = {name: request.headers[name] for name in scope["signed"].split(";")}
    again = AWSRequest(request.method, url, headers=signed, data=request.body)
    again.context["timestamp"] = request.headers["x-amz-date"]
    kind = S3SigV4Auth if scope["service"] == "s3" else SigV4Auth
    signer = kind(credentials, scope["service"], scope["region"])
    text = signer.string_to_sign(again, signer.canonical_request(again))
    if not hmac.compare_digest(signer.signature(text, again), scope["signature"]):
        error = refusal("bad_signature")
        error.code = "SignatureDoesNotMatch" if scope["service"] in XML else error.code
        raise error


def documents(policies: list) -> list[dict]:
    """Die Policies als JSON, gleich in welcher Form moto sie aufhebt."""
    found = []
    for policy in policies:
        text = policy if isinstance(policy, str) else getattr(policy, "document", None)
        text = text or policy["policy_document"]
        found.append(json.loads(text))
    return found


def trusted(arn: str, kind: str, name: str) -> bool:
    """Sagt, ob es die Rolle gibt und ob sie diesem Dienst oder Konto vertraut."""
    try:
        role = iam_backends[ACCOUNT]["aws"].get_role_by_arn(arn)
    except NotFoundException:
        return False
    effects = {
        statement["Effect"]
        for statement in as_list(json.loads(role.assume_role_policy_document)["Statement"])
        if name in as_list(statement.get("Principal", {}).get(kind, [])) and holds(statement, {})
    }
    return effects == {"Allow"}


def check_trust(request: Request, who: str) -> None:
    """Eine Rolle bekommt nur, wem sie vertraut; moto gäbe sie jedem, auch wenn sie fehlt."""
    asked = {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
    if any(name.startswith("Policy") for name in asked):
        raise Refusal(501, "Nicht nachgebildet: sts:AssumeRole mit Policy", "NotImplemented")
    arn = asked.get("RoleArn", "")
    if not trusted(arn, "AWS", f"arn:aws:iam::{ACCOUNT}:root"):
        raise refusal("not_trusted", who=who, target=arn)


def role_allows(arn: str, action: str, target: str) -> bool:
    """Sagt, ob die Rolle das darf und ob SageMaker sie annehmen darf."""
    if not trusted(arn, "Service", "sagemaker.amazonaws.com"):
        return False
    backend = iam_backends[ACCOUNT]["aws"]
    role = backend.get_role_by_arn(arn)
    policies = [backend.get_role_policy(role.name, name)[1] for name in role.policies]
    policies += backend.list_attached_role_policies(role.name)[0]
    return allowed(documents(policies), action, target, {})


def allowed(policies: list[dict], action: str, target: str, context: dict) -> bool:
    """Wendet Policies an, auch `NotAction` und `NotResource`; Bedingungen siehe `holds`."""
    effects = {
        statement["Effect"]
        for policy in policies
        for statement in as_list(policy["Statement"])
        if covers(statement, "Action", action, ignore_case=True)
        and covers(statement, "Resource", target)
        and holds(statement, context)
    }
    return effects == {"Allow"}


def covers(statement: dict, name: str, value: str, ignore_case: bool = False) -> bool:
    """`Action` meint, was da steht, `NotAction` alles andere; ebenso bei `Resource`."""
    if name in statement:
        return matches(as_list(statement[name]), value, ignore_case)
    return not matches(as_list(statement.get(f"Not{name}", ["*"])), value, ignore_case)


def matches(patterns: list[str], value: str, ignore_case: bool = False) -> bool:
    """Vergleicht mit Mustern aus `*` und `?`; eckige Klammern sind bei AWS nur Zeichen."""
    if ignore_case:
        patterns, value = [pattern.lower() for pattern in patterns], value.lower()
    return any(fnmatchcase(value, pattern.replace("[", "[[]")) for pattern in patterns)


def holds(statement: dict, context: dict) -> bool:
    """Eine Bedingung, die hier niemand kennt, erlaubt nichts und verbietet alles."""
    return all(
        context.get(key) in as_list(wanted)
        if operator == "StringEquals" and key in CONDITIONS
        else statement["Effect"] == "Deny"
        for operator, pairs in statement.get("Condition", {}).items()
        for key, wanted in pairs.items()
    )


def as_list(value: object) -> list:
    """Policies schreiben einen Wert auch ohne Liste."""
    return value if isinstance(value, list) else [value]
