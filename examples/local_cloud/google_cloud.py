"""Was jede Plattform bei Google braucht: Konten, Rollen, Token, Objektspeicher, Registry.

Den Speicher beantwortet `gcp-storage-emulator`; davor steht dieselbe Prüfung der Rechte wie vor
allem anderen. Ein Recht hat, wer eine Rolle hat, in der es steht, oder der Inhaber.
"""

from __future__ import annotations

import functools
import json
import os
import re
import secrets
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote, urlencode

from gcp_storage_emulator.server import create_server

from examples.local_cloud.service import (
    HOST,
    App,
    Refusal,
    Request,
    Response,
    free_port,
    route,
    say,
)

# So heißen sie bei Google; hier stehen nur die, mit denen das Kapitel zu tun hat.
PERMISSIONS = frozenset(
    json.loads(Path(__file__).with_name("google_permissions.json").read_text("utf-8"))
)
# Status, Fehlerwort und Wortlaut, wie Google ihn schreibt.
ERRORS = json.loads(Path(__file__).with_name("google_errors.json").read_text("utf-8"))
OWNER = "owner"
WORDS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ALREADY_EXISTS",
    429: "RESOURCE_EXHAUSTED",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
}
PROJECT = "/v1/projects/{project}"
LOCATION = f"{PROJECT}/locations/{{location}}"
# Objekte: hochladen, herunterladen und alles Übrige haben bei Google verschiedene Adressen.
OBJECT_RIGHTS = {"GET": "get", "DELETE": "delete", "POST": "create", "PUT": "create"}


def refusal(name: str, /, **values: object) -> Refusal:
    """Eine Absage im Wortlaut von Google."""
    status, word, message = ERRORS[name]
    return Refusal(status, message.format(**values), word)


def needs(permission: str) -> Callable:
    """Beantwortet einen Aufruf nur, wenn der Fragende dieses Recht hat."""
    assert permission in PERMISSIONS, permission

    def wrap(function: Callable) -> Callable:
        @functools.wraps(function)
        def checked(self: GoogleCloud, request: Request) -> object:
            self.require(request, permission)
            return function(self, request)

        return checked

    return wrap


def now() -> str:
    """Die Zeit, wie Google sie schreibt."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class GoogleCloud(App):
    """Ein Projekt bei Google; es beginnt mit einem Inhaber und seinem Token."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        token = os.environ.get("LOCAL_GOOGLE_TOKEN")
        if not token:
            sys.exit("Es fehlt LOCAL_GOOGLE_TOKEN: das Token des Inhabers.")
        self._tokens: dict[str, tuple[str, float]] = {token: (OWNER, float("inf"))}
        self._accounts: dict[str, dict] = {}
        self._roles: dict[str, dict] = {}
        self._policy: dict = {"version": 1, "bindings": []}
        self._repositories: dict[str, dict] = {}
        self._storage_port = free_port()
        self._storage = create_server(HOST, self._storage_port, in_memory=True)
        # Sonst hielte der Speicher einen Dienst am Leben, der seinen Port nicht bekommt.
        self._storage._api.daemon = True
        self._storage.start()

    @property
    def storage_address(self) -> str:
        """Der Speicher ohne Prüfung der Rechte: für die Plattform selbst."""
        return f"http://{HOST}:{self._storage_port}"

    def stop(self) -> None:
        """Beendet auch den Speicher."""
        super().stop()
        self._storage.stop()

    def refused(self, refusal: Refusal) -> Response:
        """Die Absage, wie Google sie schreibt."""
        word = refusal.code if refusal.code.isupper() else WORDS.get(refusal.status, "INTERNAL")
        error = {"code": refusal.status, "message": refusal.message, "status": word}
        return Response({"error": error}, refusal.status)

    # --- Wer fragt, und darf er das?

    def authorize(self, request: Request) -> None:
        """Ohne gültiges Token geht nichts."""
        if not self._holder(request):
            raise refusal("no_token")

    def require(self, request: Request, permission: str) -> None:
        """Lehnt mit 403 ab, wenn keine Rolle dieses Recht gibt."""
        who = self._holder(request)
        call = f"{permission} ({who.partition('@')[0]})"
        if who != OWNER and permission not in self._granted(who):
            say(f"{call} verweigert")
            service = permission.split(".")[0]
            target = f"//{service}.googleapis.com{request.path.removeprefix('/v1')}"
            raise refusal("denied", permission=permission, target=target)
        say(call)

    def _holder(self, request: Request) -> str:
        """Wem das Token gehört; leer, wenn es nicht gilt."""
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        who, until = self._tokens.get(token, ("", 0))
        return who if time.time() < until else ""

    def _granted(self, who: str) -> set[str]:
        names = {
            binding["role"].rpartition("/")[2]
            for binding in self._policy["bindings"]
            if f"serviceAccount:{who}" in binding["members"] and who in self._accounts
        }
        return {
            permission
            for name in names & set(self._roles)
            for permission in self._roles[name].get("includedPermissions", [])
        }

    # --- IAM

    @route("POST", f"{PROJECT}/roles")
    @needs("iam.roles.create")
    def create_role(self, request: Request) -> dict:
        """Legt eine eigene Rolle an."""
        content = request.json()
        role, name = dict(content["role"]), content["roleId"]
        if not re.fullmatch(r"[\w.]{3,64}", name):
            raise refusal("bad_role_name", name=name)
        if name in self._roles:
            raise refusal("role_exists", name=name)
        self._check_permissions(role)
        role["name"] = f"projects/{request.args['project']}/roles/{name}"
        self._roles[name] = role
        return role

    @route("PATCH", f"{PROJECT}/roles/{{role}}")
    @needs("iam.roles.update")
    def update_role(self, request: Request) -> dict:
        """Ändert die Rechte einer Rolle."""
        role, change = self._find(self._roles, request.args["role"], "role"), request.json()
        self._check_permissions(change)
        role.update(change)
        return role

    @route("GET", f"{PROJECT}/roles")
    @needs("iam.roles.list")
    def list_roles(self, request: Request) -> dict:
        """Nennt die eigenen Rollen des Projekts."""
        return {"roles": list(self._roles.values())}

    @route("DELETE", f"{PROJECT}/roles/{{role}}")
    @needs("iam.roles.delete")
    def delete_role(self, request: Request) -> dict:
        """Entfernt eine Rolle."""
        return self._remove(self._roles, request.args["role"], "role")

    def _check_permissions(self, role: dict) -> None:
        for permission in role.get("includedPermissions", []):
            if permission not in PERMISSIONS:
                raise refusal("bad_permission", permission=permission)

    @route("POST", f"{PROJECT}/serviceAccounts")
    @needs("iam.serviceAccounts.create")
    def create_account(self, request: Request) -> dict:
        """Legt ein Dienstkonto an."""
        name, project = request.json()["accountId"], request.args["project"]
        email = f"{name}@{project}.iam.gserviceaccount.com"
        if email in self._accounts:
            raise refusal("account_exists", name=name, project=project)
        self._accounts[email] = {
            "name": f"projects/{project}/serviceAccounts/{email}",
            "email": email,
        }
        return self._accounts[email]

    @route("GET", f"{PROJECT}/serviceAccounts")
    @needs("iam.serviceAccounts.list")
    def list_accounts(self, request: Request) -> dict:
        """Nennt alle Dienstkonten."""
        return {"accounts": list(self._accounts.values())}

    @route("DELETE", f"{PROJECT}/serviceAccounts/{{email}}")
    @needs("iam.serviceAccounts.delete")
    def delete_account(self, request: Request) -> dict:
        """Entfernt ein Dienstkonto; seine Token gelten sofort nicht mehr."""
        email = request.args["email"]
        self._remove(self._accounts, email, "service account")
        self._tokens = {token: held for token, held in self._tokens.items() if held[0] != email}
        return {}

    @route("POST", r"/v1/projects/-/serviceAccounts/(?P<email>[^:/]+):generateAccessToken")
    @needs("iam.serviceAccounts.getAccessToken")
    def generate_token(self, request: Request) -> dict:
        """Gibt ein befristetes Token für ein Dienstkonto aus."""
        email = request.args["email"]
        self._find(self._accounts, email, "service account")
        seconds = int(request.json().get("lifetime", "3600s").removesuffix("s"))
        token = secrets.token_urlsafe(32)
        self._tokens[token] = (email, time.time() + seconds)
        expires = (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {"accessToken": token, "expireTime": expires}

    @route("POST", r"/v1/projects/(?P<project>[^/:]+):getIamPolicy")
    @needs("resourcemanager.projects.getIamPolicy")
    def get_policy(self, request: Request) -> dict:
        """Sagt, wer welche Rolle hat."""
        return self._policy

    @route("POST", r"/v1/projects/(?P<project>[^/:]+):setIamPolicy")
    @needs("resourcemanager.projects.setIamPolicy")
    def set_policy(self, request: Request) -> dict:
        """Vergibt Rollen."""
        policy = request.json()["policy"]
        for binding in policy.get("bindings", []):
            # Wer eine Bedingung überginge, erlaubte mehr, als dasteht.
            if "condition" in binding:
                raise Refusal(501, "Nicht nachgebildet: `setIamPolicy` mit `condition`")
            if binding["role"].startswith("roles/"):
                raise Refusal(501, f"Nicht nachgebildet: die fertige Rolle {binding['role']}")
        self._policy = policy
        return policy

    # --- Artifact Registry

    @route("POST", f"{LOCATION}/repositories")
    @needs("artifactregistry.repositories.create")
    def create_repository(self, request: Request) -> dict:
        """Legt ein Repository für Images an."""
        name = f"{request.path.removeprefix('/v1/')}/{request.query['repositoryId']}"
        if name in self._repositories:
            raise refusal("repository_exists")
        self._repositories[name] = {"name": name, "format": "DOCKER"}
        return {"name": f"{name}/operations/create", "done": True}

    @route("GET", f"{LOCATION}/repositories")
    @needs("artifactregistry.repositories.list")
    def list_repositories(self, request: Request) -> dict:
        """Nennt alle Repositorys."""
        return {"repositories": list(self._repositories.values())}

    @route("DELETE", f"{LOCATION}/repositories/{{repository}}")
    @needs("artifactregistry.repositories.delete")
    def delete_repository(self, request: Request) -> dict:
        """Entfernt ein Repository samt Images."""
        self._remove(self._repositories, request.path.removeprefix("/v1/"), "repository")
        return {"name": "operations/delete", "done": True}

    # --- Cloud Storage

    @route("GET", r"/storage/v1/b")
    @needs("storage.buckets.list")
    def list_buckets(self, request: Request) -> Response:
        """Nennt die Buckets des Projekts, nicht die der Plattform."""
        response = self.ask_storage(request)
        found = json.loads(response.content)
        mine = [item for item in found.get("items", []) if not item["name"].startswith(TENANT)]
        return Response(found | {"items": mine}, response.status)

    @route("POST", r"/storage/v1/b")
    @needs("storage.buckets.create")
    def create_bucket(self, request: Request) -> Response:
        """Legt einen Bucket an."""
        return self.ask_storage(request)

    @route("GET", r"/storage/v1/b/{bucket}")
    @needs("storage.buckets.get")
    def get_bucket(self, request: Request) -> Response:
        """Beschreibt einen Bucket."""
        return self.ask_storage(request)

    @route("DELETE", r"/storage/v1/b/{bucket}")
    @needs("storage.buckets.delete")
    def delete_bucket(self, request: Request) -> Response:
        """Entfernt einen leeren Bucket."""
        return self.ask_storage(request)

    @route("GET", r"/storage/v1/b/{bucket}/o")
    @needs("storage.objects.list")
    def list_objects(self, request: Request) -> Response:
        """Nennt die Objekte eines Buckets."""
        return self.ask_storage(request)

    @route("POST", r"/upload/storage/v1/b/{bucket}/o")
    @route("PUT", r"/upload/storage/v1/b/{bucket}/o")
    @route("GET", r"/storage/v1/b/{bucket}/o/{name:path}")
    @route("GET", r"/download/storage/v1/b/{bucket}/o/{name:path}")
    @route("DELETE", r"/storage/v1/b/{bucket}/o/{name:path}")
    def one_object(self, request: Request) -> Response:
        """Schreibt, liest oder entfernt ein Objekt."""
        self.require(request, f"storage.objects.{OBJECT_RIGHTS[request.method]}")
        return self.ask_storage(request)

    def ask_storage(self, request: Request) -> Response:
        """Reicht einen Aufruf an den Speicher weiter."""
        if request.args.get("bucket", "").startswith(TENANT):
            raise Refusal(403, "Dieser Bucket gehört der Plattform.")
        skipped = ("authorization", "content-length", "transfer-encoding", "accept-encoding")
        # Mit dem Header `Host`, denn daraus baut der Speicher die Adressen in seinen Antworten.
        headers = {n: v for n, v in request.headers.items() if n not in skipped}
        path = quote(request.path, safe="/")
        if request.query:
            path += f"?{urlencode(request.query)}"
        return self.storage_call(request.method, path, request.body, headers)

    def storage_call(
        self, method: str, path: str, body: bytes = b"", headers: dict | None = None
    ) -> Response:
        """Ein Aufruf des Speichers, ohne Prüfung der Rechte."""
        question = urllib.request.Request(
            self.storage_address + path, body or None, headers or {}, method=method
        )
        try:
            answer = urllib.request.urlopen(question, timeout=60)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            kept = {n: v for n, v in answer.headers.items() if n.lower() in KEPT}
            kind = answer.headers.get("Content-Type") or "application/json"
            return Response(answer.read(), answer.status, kept, kind)

    def _find(self, known: dict, name: str, kind: str) -> dict:
        if name not in known:
            raise refusal("unknown", kind=kind, name=name)
        return known[name]

    def _remove(self, known: dict, name: str, kind: str) -> dict:
        self._find(known, name, kind)
        del known[name]
        return {}


# In solche Buckets kopiert Google Modelle; wem das Projekt gehört, der sieht sie nicht.
TENANT = "caip-tenant-"
KEPT = {"location", "x-goog-hash", "x-goog-generation", "range", "content-range", "etag"}
