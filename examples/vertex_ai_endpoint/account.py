"""Was im Projekt da sein muss, bevor jemand ausliefert: Bucket, Registry, Rollen, Dienstkonten.

Aufruf: python -m examples.vertex_ai_endpoint.account create|delete|inventory PROJEKT
Mit GOOGLE_LOCAL_URL und GOOGLE_LOCAL_TOKEN geht alles an die Nachbildung, sonst gelten die
Zugangsdaten von `gcloud auth application-default login`. `inventory` nennt als JSON alles, was
das Kapitel angelegt hat und was noch da ist.
"""

import functools
import json
import os
import sys
import time
from pathlib import Path

import google.auth
import requests
import yaml
from google.auth.exceptions import GoogleAuthError
from google.auth.transport.requests import AuthorizedSession
from google.oauth2.credentials import Credentials

ROLES = Path(__file__).parent / "roles"
REGION = "europe-west3"
NAMES = ("deployer", "client")
LOCAL = os.environ.get("GOOGLE_LOCAL_URL", "")
SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]


class CloudError(Exception):
    """Google hat einen Aufruf abgelehnt."""


@functools.cache
def session() -> AuthorizedSession:
    """Eine Verbindung mit den Zugangsdaten dessen, dem das Projekt gehört."""
    if LOCAL:
        return AuthorizedSession(Credentials(os.environ["GOOGLE_LOCAL_TOKEN"]))
    return AuthorizedSession(google.auth.default(SCOPES)[0])


def answer(method: str, url: str, **content: object) -> dict:
    """Was Google auf einen Aufruf antwortet; eine Absage wird zu `CloudError`."""
    response = session().request(method, url, **content)
    body = response.json() if response.content else {}
    if not response.ok:
        raise CloudError(body.get("error", {}).get("message", response.reason))
    return body


def call(method: str, service: str, path: str, **content: object) -> dict:
    """Ein Aufruf eines Dienstes; Vorgänge, die dauern, wartet er ab."""
    url = LOCAL or f"https://{service}.googleapis.com"
    body = answer(method, url + path, **content)
    # Solange ein Vorgang läuft, fehlt `done`: JSON lässt bei Google weg, was falsch ist.
    while "/operations/" in str(body.get("name")) and not body.get("done"):
        time.sleep(1)
        body = answer("GET", f"{url}/v1/{body['name']}")
    if body.get("done") and "error" in body:  # auch ein gescheiterter Vorgang ist zu Ende
        raise CloudError(body["error"].get("message", "Der Vorgang ist gescheitert."))
    return body


def create(project: str) -> dict:
    """Legt alles an und gibt zurück, wie es heißt."""
    bucket = f"{project}-price-models"
    call(
        "POST",
        "storage",
        f"/storage/v1/b?project={project}",
        # Sonst hebt Google Gelöschtes sieben Tage auf und berechnet es weiter.
        json={
            "name": bucket,
            "location": REGION,
            "softDeletePolicy": {"retentionDurationSeconds": "0"},
        },
    )
    registry = f"/v1/projects/{project}/locations/{REGION}/repositories?repositoryId=price"
    call("POST", "artifactregistry", registry, json={"format": "DOCKER"})
    accounts = {name: create_account(name, project) for name in NAMES}
    policy = call("POST", "cloudresourcemanager", f"/v1/projects/{project}:getIamPolicy", json={})
    policy["bindings"] = policy.get("bindings", []) + [
        {"role": f"projects/{project}/roles/price_{name}", "members": [f"serviceAccount:{email}"]}
        for name, email in accounts.items()
    ]
    change = {"policy": policy}
    call("POST", "cloudresourcemanager", f"/v1/projects/{project}:setIamPolicy", json=change)
    images = f"{REGION}-docker.pkg.dev/{project}/price"
    return {"bucket": bucket, "images": images, "accounts": accounts}


def create_account(name: str, project: str) -> str:
    """Ein Dienstkonto und seine Rolle aus der Datei."""
    role = yaml.safe_load((ROLES / f"{name}.yaml").read_text(encoding="utf-8"))
    content = {"roleId": f"price_{name}", "role": role}
    call("POST", "iam", f"/v1/projects/{project}/roles", json=content)
    account = {"accountId": f"price-{name}"}
    return call("POST", "iam", f"/v1/projects/{project}/serviceAccounts", json=account)["email"]


def delete(project: str) -> None:
    """Entfernt, was `create` angelegt hat, samt den Dateien im Bucket."""
    # Genau diese Namen: Im selben Projekt darf auch anderes mit `price` beginnen.
    created = {
        "buckets": [f"{project}-price-models"],
        "repositories": ["price"],
        "service_accounts": [f"price-{n}@{project}.iam.gserviceaccount.com" for n in NAMES],
        "roles": [f"price_{name}" for name in NAMES],
    }
    found = inventory(project)
    left = {kind: [n for n in found[kind] if n in names] for kind, names in created.items()}
    policy = call("POST", "cloudresourcemanager", f"/v1/projects/{project}:getIamPolicy", json={})
    ours = {f"projects/{project}/roles/{name}" for name in left["roles"]}
    policy["bindings"] = [b for b in policy.get("bindings", []) if b["role"] not in ours]
    change = {"policy": policy}
    call("POST", "cloudresourcemanager", f"/v1/projects/{project}:setIamPolicy", json=change)
    for email in left["service_accounts"]:
        call("DELETE", "iam", f"/v1/projects/{project}/serviceAccounts/{email}")
    for name in left["roles"]:
        call("DELETE", "iam", f"/v1/projects/{project}/roles/{name}")
    for name in left["repositories"]:
        path = f"/v1/projects/{project}/locations/{REGION}/repositories/{name}"
        call("DELETE", "artifactregistry", path)
    for bucket in left["buckets"]:
        for item in every("storage", f"/storage/v1/b/{bucket}/o", "items"):
            name = requests.utils.quote(item["name"], safe="")
            call("DELETE", "storage", f"/storage/v1/b/{bucket}/o/{name}")
        call("DELETE", "storage", f"/storage/v1/b/{bucket}")


def inventory(project: str) -> dict[str, list[str]]:
    """Alles, was nach diesem Kapitel heißt; was davon Geld kostet, steht vorn."""
    place = f"/v1/projects/{project}/locations/{REGION}"
    vertex, iam = f"{REGION}-aiplatform", f"/v1/projects/{project}"
    kinds = {
        "endpoints": (vertex, f"{place}/endpoints", "endpoints", "displayName"),
        "batch_jobs": (
            vertex,
            f"{place}/batchPredictionJobs",
            "batchPredictionJobs",
            "displayName",
        ),
        "models": (vertex, f"{place}/models", "models", "displayName"),
        "buckets": ("storage", f"/storage/v1/b?project={project}", "items", "name"),
        "repositories": ("artifactregistry", f"{place}/repositories", "repositories", "name"),
        "service_accounts": ("iam", f"{iam}/serviceAccounts", "accounts", "email"),
        "roles": ("iam", f"{iam}/roles", "roles", "name"),
    }
    found = {
        kind: [item[key].rpartition("/")[2] for item in every(service, path, items)]
        for kind, (service, path, items, key) in kinds.items()
    }
    ours = ("price", f"{project}-price-models")
    return {kind: [n for n in names if n.startswith(ours)] for kind, names in found.items()}


def every(service: str, path: str, items: str) -> list[dict]:
    """Alle Seiten einer Auflistung: Ohne Blättern sähe ein volles Projekt leer aus."""
    found, token = [], ""
    while True:
        body = call("GET", service, path, params={"pageToken": token} if token else {})
        found += body.get(items, [])
        token = body.get("nextPageToken", "")
        if not token:
            return found


def main() -> None:
    """Führt einen der drei Befehle aus."""
    commands = {"create": create, "delete": delete, "inventory": inventory}
    if len(sys.argv) != 3 or sys.argv[1] not in commands:
        sys.exit(f"Aufruf: python -m {__spec__.name} {'|'.join(commands)} PROJEKT")
    try:
        result = commands[sys.argv[1]](sys.argv[2])
    except (CloudError, GoogleAuthError, requests.RequestException) as error:
        sys.exit(f"Google hat abgelehnt: {error}")
    if result is not None:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
