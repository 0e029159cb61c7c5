"""Was im Konto da sein muss, bevor jemand ausliefert: Speicher, Registry und drei Rollen.

Aufruf: python -m examples.sagemaker_endpoint.account create|delete|inventory
Zugangsdaten und Region kommen aus der Umgebung, mit AWS_ENDPOINT_URL geht alles an die
Nachbildung. `inventory` nennt als JSON alles, was das Kapitel angelegt hat und was noch da ist.
"""

import contextlib
import hashlib
import json
import os
import sys
from pathlib import Path

import boto3
from botocore.exceptions import BotoCoreError, ClientError

POLICIES = Path(__file__).parent / "policies"
REPOSITORIES = ("price-service", "price-handlers")
TAG = "1.0.0"
ROLES = ("endpoint", "deployer", "client")
LOGS = "/aws/sagemaker/Endpoints/price"
DOCKER = "application/vnd.docker"


def create() -> dict:
    """Legt alles an und gibt zurück, wie es heißt."""
    account = boto3.client("sts").get_caller_identity()["Account"]
    s3, ecr, bucket = boto3.client("s3"), boto3.client("ecr"), f"price-models-{account}"
    region = s3.meta.region_name
    # us-east-1 ist die Vorgabe von S3; wer sie ausdrücklich nennt, wird abgelehnt.
    place = {"CreateBucketConfiguration": {"LocationConstraint": region}}
    s3.create_bucket(Bucket=bucket, **({} if region == "us-east-1" else place))
    images = {}
    for name in REPOSITORIES:
        repository = ecr.create_repository(repositoryName=name)["repository"]
        images[name] = f"{repository['repositoryUri']}:{TAG}"
        if "AWS_ENDPOINT_URL" in os.environ:
            push_name_only(ecr, name)
    boto3.client("sagemaker").create_model_package_group(ModelPackageGroupName="price")
    return {
        "bucket": bucket,
        "images": images,
        "roles": {name: create_role(name, account) for name in ROLES},
    }


def push_name_only(ecr, name: str) -> None:
    """Statt `docker push`: Die Nachbildung braucht vom Image nur Namen und Tag."""
    digest = f"sha256:{hashlib.sha256(name.encode()).hexdigest()}"
    config = {"mediaType": f"{DOCKER}.container.image.v1+json", "size": 1, "digest": digest}
    kind = f"{DOCKER}.distribution.manifest.v2+json"
    manifest = {"schemaVersion": 2, "mediaType": kind, "config": config, "layers": []}
    ecr.put_image(repositoryName=name, imageTag=TAG, imageManifest=json.dumps(manifest))


def create_role(name: str, account: str) -> str:
    """Eine Rolle mit der Policy aus ihrer Datei, und sonst keinem Recht."""
    iam = boto3.client("iam")
    # Die Rolle des Endpunkts übernimmt SageMaker, die anderen ein Mensch oder eine Pipeline.
    service = {"Service": "sagemaker.amazonaws.com"}
    principal = service if name == "endpoint" else {"AWS": f"arn:aws:iam::{account}:root"}
    trust = {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    role = iam.create_role(RoleName=f"price-{name}", AssumeRolePolicyDocument=document)
    policy = (POLICIES / f"{name}.json").read_text(encoding="utf-8")
    iam.put_role_policy(RoleName=f"price-{name}", PolicyName="least", PolicyDocument=policy)
    return role["Role"]["Arn"]


def delete() -> None:
    """Entfernt, was `create` angelegt hat, und die Protokolle der Endpunkte."""
    account = boto3.client("sts").get_caller_identity()["Account"]
    # Genau diese Namen: Im selben Konto darf auch anderes mit `price` beginnen.
    ours = {
        "model_package_groups": ["price"],
        "buckets": [f"price-models-{account}"],
        "repositories": REPOSITORIES,
        "roles": [f"price-{name}" for name in ROLES],
        "log_groups": [LOGS],
    }
    found = inventory()
    left = {kind: [name for name in found[kind] if name in names] for kind, names in ours.items()}
    sm, s3, ecr, iam, logs = map(boto3.client, ("sagemaker", "s3", "ecr", "iam", "logs"))
    for package in found["model_packages"]:
        if ":model-package/price/" in package:
            sm.delete_model_package(ModelPackageName=package)
    for name in left["model_package_groups"]:
        sm.delete_model_package_group(ModelPackageGroupName=name)
    for bucket in left["buckets"]:
        for item in every(s3, "list_objects_v2", Bucket=bucket):
            s3.delete_object(Bucket=bucket, Key=item["Key"])
        s3.delete_bucket(Bucket=bucket)
    for name in left["repositories"]:
        ecr.delete_repository(repositoryName=name, force=True)
    for name in left["roles"]:
        # Ein abgebrochenes `create` kann die Rolle ohne Policy hinterlassen haben.
        with contextlib.suppress(iam.exceptions.NoSuchEntityException):
            iam.delete_role_policy(RoleName=name, PolicyName="least")
        iam.delete_role(RoleName=name)
    for name in left["log_groups"]:
        logs.delete_log_group(logGroupName=name)


def inventory() -> dict[str, list[str]]:
    """Alles, was nach diesem Kapitel heißt; was davon Geld kostet, steht vorn."""
    sm, scaling = boto3.client("sagemaker"), boto3.client("application-autoscaling")
    targets = every(scaling, "describe_scalable_targets", ServiceNamespace="sagemaker")
    groups = [g["ModelPackageGroupName"] for g in every(sm, "list_model_package_groups")]
    packages = [
        p["ModelPackageArn"]
        for group in groups
        for p in every(sm, "list_model_packages", ModelPackageGroupName=group)
    ]
    found = {
        "endpoints": [e["EndpointName"] for e in every(sm, "list_endpoints")],
        "endpoint_configs": [c["EndpointConfigName"] for c in every(sm, "list_endpoint_configs")],
        "models": [m["ModelName"] for m in every(sm, "list_models")],
        "model_packages": packages,
        "model_package_groups": groups,
        "scalable_targets": [target["ResourceId"] for target in targets],
        "buckets": [b["Name"] for b in boto3.client("s3").list_buckets()["Buckets"]],
        "repositories": [
            r["repositoryName"] for r in every(boto3.client("ecr"), "describe_repositories")
        ],
        "roles": [r["RoleName"] for r in every(boto3.client("iam"), "list_roles")],
        "log_groups": [
            g["logGroupName"]
            for g in every(boto3.client("logs"), "describe_log_groups", logGroupNamePrefix=LOGS)
        ],
    }
    ours = ("price", "endpoint/price", LOGS)
    return {
        kind: [n for n in names if n.rpartition(":model-package/")[2].startswith(ours)]
        for kind, names in found.items()
    }


def every(client, operation: str, **arguments: str) -> list[dict]:
    """Alle Seiten einer Auflistung: Ohne Blättern sähe ein volles Konto leer aus."""
    pages = client.get_paginator(operation).paginate(**arguments)
    return [item for page in pages for item in pages.result_keys[0].search(page) or []]


def main() -> None:
    """Führt einen der drei Befehle aus."""
    commands = {"create": create, "delete": delete, "inventory": inventory}
    if len(sys.argv) != 2 or sys.argv[1] not in commands:
        sys.exit(f"Aufruf: python -m {__spec__.name} {'|'.join(commands)}")
    try:
        result = commands[sys.argv[1]]()
    except (ClientError, BotoCoreError) as error:
        sys.exit(f"AWS hat abgelehnt: {error}")
    if result is not None:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
