"""Nachbildung des Hugging Face Hubs: REST über echten Git-Repositorys, LFS und Space-Runner.

Starten: python -m examples.local_cloud.hub --port 9000
Wer was darf, steht als JSON in LOCAL_HUB_TOKENS: je Schlüssel, was `whoami` dazu sagt.
"""

import base64
import binascii
import json
import os
import re
import subprocess
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path

from examples.local_cloud.cards import WORDS, check
from examples.local_cloud.repositories import (
    POINTER,
    Entry,
    GitError,
    LargeFiles,
    Repository,
    environment,
)
from examples.local_cloud.service import App, Refusal, Request, Response, route, run
from examples.local_cloud.spaces import Space

KINDS = {"models": "model", "spaces": "space"}
NAME = re.compile(r"(?!\.\.?$)[\w.-]{1,96}")
LARGE_BYTES = 10_000_000
REPOSITORY = "/(?:(?P<kind>spaces|datasets)/)?{owner}/{name}"
GIT = REPOSITORY + "/(?P<service>info/refs|git-upload-pack|git-receive-pack)"


class Hub(App):
    """Der Hub mit Modellen und Spaces; Datensätze, Diskussionen und Zweige fehlen."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._tokens: dict[str, dict] = json.loads(os.environ.get("LOCAL_HUB_TOKENS", "{}"))
        self._large = LargeFiles(folder / "lfs")
        self._repositories: dict[tuple[str, str], Repository] = {}
        self._private: set[tuple[str, str]] = set()
        self._spaces: dict[str, Space] = {}

    def refused(self, refusal: Refusal) -> Response:
        """Die Absage, wie `huggingface_hub` sie liest."""
        headers = {"X-Error-Code": refusal.code} if refusal.code else {}
        if refusal.status == HTTPStatus.UNAUTHORIZED:
            headers["WWW-Authenticate"] = "Basic"  # sonst schickt git den Schlüssel nicht
        return Response({"error": refusal.message}, refusal.status, headers)

    # Wer fragt, und was ist erlaubt?

    def _caller(self, request: Request) -> dict | None:
        scheme, _, value = request.headers.get("authorization", "").partition(" ")
        if not value:
            return None
        if scheme == "Basic":
            try:
                value = base64.b64decode(value).decode().partition(":")[2]
            except (binascii.Error, UnicodeDecodeError):
                value = ""
        if value not in self._tokens:
            raise Refusal(401, WORDS["unauthorized"])
        return self._tokens[value]

    def _may(self, caller: dict | None, kind: str, name: str, permission: str) -> bool:
        if permission == "repo.content.read" and (kind, name) not in self._private:
            return True
        owner = name.split("/")[0]
        return caller is not None and any(
            permission in scope["permissions"]
            and scope["entity"] in ({"type": kind, "name": name}, {"type": "user", "name": owner})
            for scope in caller["scoped"]
        )

    def _find(self, request: Request, permission: str = "repo.content.read") -> Repository:
        caller = self._caller(request)
        kind, name = self._key(request)
        known = (kind, name) in self._repositories
        if not known or not self._may(caller, kind, name, "repo.content.read"):
            # Wie auf dem Hub: Ob es das Repository gibt, erfährt nur, wer es lesen darf.
            raise Refusal(404 if caller else 401, WORDS["repository"], "RepoNotFound")
        if not self._may(caller, kind, name, permission):
            raise Refusal(403 if caller else 401, f"Dem Schlüssel fehlt das Recht {permission}.")
        return self._repositories[kind, name]

    def _key(self, request: Request) -> tuple[str, str]:
        args = request.args
        kind = args.get("kind") or "models"
        if kind not in KINDS:
            raise Refusal(501, f"Nicht nachgebildet: {request.method} {request.path}")
        return KINDS[kind], f"{args['owner']}/{args['name']}"

    def _space(self, request: Request, permission: str = "repo.write") -> Space:
        request.args["kind"] = "spaces"
        self._find(request, permission)
        return self._spaces[self._key(request)[1]]

    # Konto, Karten, Repositorys

    @route("GET", "/api/whoami-v2")
    def whoami(self, request: Request) -> dict:
        """Zu wem der Schlüssel gehört und was er darf."""
        caller = self._caller(request)
        if caller is None:
            raise Refusal(401, WORDS["unauthorized"])
        scopes = {"canReadGatedRepos": False, "global": [], "scoped": caller["scoped"]}
        token = {"displayName": "local", "role": "fineGrained", "fineGrained": scopes}
        return {
            **{"type": "user", "id": caller["name"], "name": caller["name"], "orgs": []},
            **{"fullname": caller["name"], "isPro": caller["isPro"]},
            "auth": {"type": "access_token", "accessToken": token},
        }

    @route("POST", "/api/validate-yaml")
    def validate(self, request: Request) -> Response:
        """Prüft den Kopf eines README."""
        asked = request.json()
        kind = asked.get("repoType") or "model"
        if kind not in KINDS.values():
            raise Refusal(501, f"Nicht nachgebildet: Karten der Art {kind}")
        _, errors, warnings = check(str(asked.get("content", "")), kind)
        if errors and "text/plain" in request.headers.get("accept", ""):
            return Response("\n".join(errors).encode(), 400, media_type="text/plain")
        found = {"errors": errors, "warnings": warnings}
        content = {name: [{"message": text} for text in texts] for name, texts in found.items()}
        return Response(content, 400 if errors else 200)

    @route("POST", "/api/repos/create")
    def create(self, request: Request) -> Response:
        """Legt ein Repository an; ein Space, der rechnet, verlangt ein bezahltes Konto."""
        asked, caller = request.json(), self._caller(request)
        kind, sdk = asked.get("type") or "model", asked.get("sdk")
        owner = asked.get("organization") or (caller or {}).get("name", "")
        name = f"{owner}/{asked.get('name')}"
        if not self._may(caller, kind, name, "repo.write"):
            raise Refusal(403 if caller else 401, f"Der Schlüssel darf bei {owner} nichts anlegen.")
        if kind not in KINDS.values() or sdk == "docker":
            raise Refusal(501, f"Nicht nachgebildet: Repositorys der Art {sdk or kind}")
        for part in (owner, asked.get("name")):
            if not NAME.fullmatch(str(part)):
                raise Refusal(400, f"Ungültiger Name: {part}")
        url = f"{self.address}/{_prefix(kind)}{name}"
        if (kind, name) in self._repositories:
            error = WORDS["exists"].format(kind=kind, name=name)
            return Response({"error": error, "url": url}, 409)
        if kind == "space" and sdk not in ("gradio", "static"):
            raise Refusal(400, '"sdk" must be one of [gradio, docker, static]')
        if sdk == "gradio" and not caller["isPro"]:
            raise Refusal(402, WORDS["paid"])
        path = self.folder / f"{kind}s" / f"{name}.git"
        repository = Repository.create(path, kind, self._large)
        if asked.get("private") or asked.get("visibility") == "private":
            self._private.add((kind, name))
        self._repositories[kind, name] = repository
        if kind == "space":
            self._spaces[name] = space = Space(name, repository, self.start, self.address)
            for field, values in (("secrets", space.secrets), ("variables", space.variables)):
                values |= {item["key"]: item["value"] for item in asked.get(field) or []}
        return Response({"name": name, "id": name, "url": url})

    @route("DELETE", "/api/repos/delete")
    def delete(self, request: Request) -> dict:
        """Löscht ein Repository; die Anwendung eines Spaces endet damit."""
        asked = request.json()
        kind, owner = asked.get("type") or "model", asked.get("organization")
        owner = owner or (self._caller(request) or {}).get("name", "")
        request.args = {"kind": f"{kind}s", "owner": owner, "name": asked.get("name")}
        repository = self._find(request, "repo.write")
        key = self._key(request)
        if space := self._spaces.pop(key[1], None) if kind == "space" else None:
            space.pause()
        del self._repositories[key]
        self._private.discard(key)
        repository.delete()
        return {}

    @route("GET", "/api/(?P<kind>models|spaces)")
    def listing(self, request: Request) -> list[dict]:
        """Alle Repositorys eines Kontos, die der Fragende sehen darf."""
        caller, kind = self._caller(request), KINDS.get(request.args["kind"])
        author = request.query.get("author", "")
        return [
            {"_id": name, "id": name, "author": author, "private": (kind, name) in self._private}
            for owned, name in self._repositories
            if owned == kind and name.startswith(f"{author}/")
            if self._may(caller, owned, name, "repo.content.read")
        ]

    # Inhalt

    @route("GET", "/api/{kind}/{owner}/{name}")
    @route("GET", "/api/{kind}/{owner}/{name}/revision/{revision}")
    def info(self, request: Request) -> dict:
        """Beschreibt ein Repository, wie `repo_info` es liest."""
        repository = self._find(request)
        kind, name = self._key(request)
        commit, files = self._files(request, repository)
        readme = files.get("README.md")
        text = repository.read(readme).decode("utf-8", "replace") if readme else ""
        card = check(text, kind)[0]
        found = {
            **{"_id": name, "id": name, "author": name.split("/")[0], "sha": commit},
            **{"private": (kind, name) in self._private, "disabled": False, "gated": False},
            **{"downloads": 0, "likes": 0, "tags": card.get("tags") or [], "cardData": card},
            "siblings": [{"rfilename": path} for path in files],
        }
        if kind == "space":
            space = self._spaces[name]
            found |= {"sdk": card.get("sdk"), "host": space.url, "runtime": _runtime(space)}
        else:
            found |= {"modelId": name, "library_name": card.get("library_name")}
        return found

    def _files(self, request: Request, repository: Repository) -> tuple[str, dict[str, Entry]]:
        revision = request.args.get("revision", "main")
        try:
            commit = repository.resolve(revision)
        except GitError:
            raise Refusal(404, f"Unbekannter Stand: {revision}", "RevisionNotFound") from None
        return commit, repository.files(commit)

    @route("GET", "/api/{kind}/{owner}/{name}/tree/{revision}")
    def tree(self, request: Request) -> list[dict]:
        """Alle Dateien mit Größe; für LFS-Dateien auch ihr SHA-256."""
        _, files = self._files(request, self._find(request))
        return [
            {"type": "file", "path": entry.path, "oid": entry.blob, "size": entry.size}
            | (
                {"lfs": {"oid": entry.oid, "size": entry.size, "pointerSize": 130}}
                if entry.lfs
                else {}
            )
            for entry in files.values()
        ]

    @route("GET", REPOSITORY + "/resolve/{revision}/{path:path}")
    def resolve(self, request: Request) -> Response:
        """Der Inhalt einer Datei, auch wenn im Repository nur ihr Zeiger steht."""
        repository = self._find(request)
        commit, files = self._files(request, repository)
        entry = files.get(request.args["path"])
        if entry is None:
            raise Refusal(404, WORDS["entry"], "EntryNotFound")
        headers = {"X-Repo-Commit": commit, "ETag": f'"{entry.oid}"'}
        return Response(repository.read(entry), 200, headers, "application/octet-stream")

    @route("POST", "/api/{kind}/{owner}/{name}/preupload/{revision}")
    def preupload(self, request: Request) -> dict:
        """Sagt je Datei, ob sie als LFS kommt, und was es von ihr schon gibt."""
        repository = self._find(request, "repo.write")
        present = repository.files("main")
        return {
            "files": [
                {
                    "path": file["path"],
                    "uploadMode": "lfs"
                    if file["size"] > LARGE_BYTES or repository.wants_lfs(file["path"])
                    else "regular",
                    "shouldIgnore": False,
                    "oid": present[file["path"]].oid if file["path"] in present else None,
                }
                for file in request.json()["files"]
            ]
        }

    @route("POST", "/api/{kind}/{owner}/{name}/commit/{revision}")
    def commit(self, request: Request) -> dict:
        """Schreibt einen Commit aus Zeilen von JSON: Kopf, Dateien, Zeiger, Löschungen."""
        repository = self._find(request, "repo.write")
        kind, name = self._key(request)
        if request.args["revision"] != "main" or request.query.get("create_pr"):
            raise Refusal(501, "Nicht nachgebildet: Commits auf andere Zweige und Pull-Requests")
        added, deleted, summary = self._operations(request.body, repository)
        if "README.md" in added:
            errors = check(added["README.md"].decode("utf-8", "replace"), kind)[1]
            if errors:
                raise Refusal(400, "\n".join(errors))
        try:
            commit = repository.commit(added, deleted, summary)
        except GitError as error:
            raise Refusal(400, str(error)) from None
        if kind == "space":
            self._spaces[name].rebuild()
        url = f"{self.address}/{_prefix(kind)}{name}/commit/{commit}"
        return {"success": True, "commitOid": commit, "commitUrl": url, "hookOutput": ""}

    def _operations(
        self, body: bytes, repository: Repository
    ) -> tuple[dict[str, bytes], list[str], str]:
        added, deleted, summary = {}, [], None
        for line in body.splitlines():
            operation = Request("POST", "", {}, {}, line).json()
            value = operation["value"]
            match operation["key"]:
                case "header":
                    summary, parent = value["summary"], value.get("parentCommit")
                    if parent and parent != repository.resolve("main"):
                        raise Refusal(412, WORDS["outdated"])
                case "file":
                    added[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    if not self._large.path(value["oid"]).exists():
                        raise Refusal(400, f"Nie hochgeladen: {value['oid']}")
                    added[value["path"]] = POINTER.format(**value).encode()
                case "deletedFile":
                    deleted.append(value["path"])
                case "deletedFolder":
                    inside = f"{value['path'].rstrip('/')}/"
                    deleted += [p for p in repository.files("main") if p.startswith(inside)]
                case other:
                    raise Refusal(501, f"Nicht nachgebildet: {other} in einem Commit")
        if summary is None:
            raise Refusal(400, "Der Commit hat keinen Kopf.")
        return added, deleted, summary

    @route("GET", "/api/{kind}/{owner}/{name}/commits/{revision}")
    def commits(self, request: Request) -> list[dict]:
        """Die Geschichte eines Repositorys, das Neueste zuerst."""
        repository = self._find(request)
        commit, _ = self._files(request, repository)
        return [
            {"id": oid, "date": date, "title": title, "message": "", "authors": [{"user": author}]}
            for oid, date, author, title in repository.history(commit)
        ]

    @route("POST", "/api/{kind}/{owner}/{name}/tag/{revision}")
    def tag(self, request: Request) -> dict:
        """Gibt einem Commit einen Namen, der bleibt."""
        repository = self._find(request, "repo.write")
        commit, _ = self._files(request, repository)
        try:
            repository.tag(str(request.json().get("tag")), commit)
        except GitError as error:
            raise Refusal(409 if "already exists" in str(error) else 400, str(error)) from None
        return {}

    # LFS

    @route("POST", REPOSITORY + r"\.git/info/lfs/objects/batch")
    def batch(self, request: Request) -> Response:
        """Sagt je großer Datei, wohin sie kommt; was da ist, wird nicht noch einmal geschickt."""
        asked = request.json()
        upload = asked.get("operation") == "upload"
        self._find(request, "repo.write" if upload else "repo.content.read")
        objects = []
        for item in asked["objects"]:
            here = self._large.path(item["oid"]).exists()
            address = {"href": f"{self.address}/lfs/{item['oid']}", "header": {}}
            needed = {"actions": {asked["operation"]: address}} if here != upload else {}
            objects.append(item | {"authenticated": True} | needed)
        content = {"transfer": "basic", "objects": objects}
        return Response(content, media_type="application/vnd.git-lfs+json")

    @route("PUT", "/lfs/{oid}")
    def store(self, request: Request) -> dict:
        """Nimmt eine große Datei an, wenn ihr Inhalt zum Hash passt."""
        if not re.fullmatch("[0-9a-f]{64}", request.args["oid"]):
            raise Refusal(400, "Das ist kein SHA-256.")
        if not self._large.store(request.args["oid"], request.body):
            raise Refusal(422, "Der Inhalt passt nicht zu seinem SHA-256.")
        return {}

    @route("GET", "/lfs/{oid}")
    def load(self, request: Request) -> Response:
        """Gibt eine große Datei zurück."""
        path = self._large.path(request.args["oid"])
        if not re.fullmatch("[0-9a-f]{64}", request.args["oid"]) or not path.exists():
            raise Refusal(404, "Diese Datei gibt es nicht.")
        return Response(path.read_bytes(), media_type="application/octet-stream")

    # Spaces

    @route("GET", "/api/spaces/{owner}/{name}/runtime")
    def runtime(self, request: Request) -> dict:
        """Zustand und Hardware eines Spaces."""
        return _runtime(self._space(request, "repo.content.read"))

    @route("POST", "/api/spaces/{owner}/{name}/restart")
    def restart(self, request: Request) -> dict:
        """Startet einen Space neu."""
        space = self._space(request)
        space.rebuild()
        return _runtime(space)

    @route("POST", "/api/spaces/{owner}/{name}/pause")
    def pause(self, request: Request) -> dict:
        """Hält einen Space an; wecken kann ihn nur `restart`."""
        space = self._space(request)
        space.pause()
        return _runtime(space)

    @route("POST", "/api/spaces/{owner}/{name}/{which}")
    @route("GET", "/api/spaces/{owner}/{name}/{which}")
    @route("DELETE", "/api/spaces/{owner}/{name}/{which}")
    def settings(self, request: Request) -> dict:
        """Variablen und Secrets; der Wert eines Secrets kommt nie zurück."""
        which = request.args["which"]
        if which not in ("secrets", "variables"):
            raise Refusal(501, f"Nicht nachgebildet: {request.method} {request.path}")
        space = self._space(request)
        values = getattr(space, which)
        if request.method != "GET":
            asked = request.json()
            if request.method == "POST":
                values[asked["key"]] = str(asked["value"])
            else:
                values.pop(asked["key"], None)
            if space.stage != "NO_APP_FILE":
                space.rebuild()  # die Anwendung liest ihre Umgebung nur beim Start
        if which == "secrets":
            return {key: {"description": None} for key in values}
        return {key: {"value": value} for key, value in values.items()}

    @route("GET", "/api/spaces/{owner}/{name}/logs/{which}")
    def logs(self, request: Request) -> Response:
        """Das Protokoll des Baus oder der Anwendung als Strom von Ereignissen."""
        lines = self._space(request).log(request.args["which"]).splitlines(keepends=True)
        events = [json.dumps({"data": line, "timestamp": _now()}) for line in lines]
        content = "".join(f"data: {event}\n\n" for event in events)
        return Response(content.encode(), media_type="text/event-stream")

    # `git clone` und `git push`

    @route("GET", GIT)
    @route("POST", GIT)
    def git(self, request: Request) -> Response:
        """Reicht an `git http-backend` weiter; ein Push auf einen Space baut ihn neu."""
        args = request.args
        args["name"] = args["name"].removesuffix(".git")
        # Im Pfad steht, was geschieht, im Parameter nur, was ein Client ankündigt: Es zählt beides.
        push = "git-receive-pack" in (args["service"], request.query.get("service"))
        repository = self._find(request, "repo.write" if push else "repo.content.read")
        before = repository.resolve("main")
        response = self._backend(request, repository)
        kind, name = self._key(request)
        if kind == "space" and repository.resolve("main") != before:
            self._spaces[name].rebuild()
        return response

    def _backend(self, request: Request, repository: Repository) -> Response:
        headers = request.headers
        query = "&".join(f"{name}={value}" for name, value in request.query.items())
        env = environment() | {
            **{"GIT_PROJECT_ROOT": str(repository.path.parent), "GIT_HTTP_EXPORT_ALL": "1"},
            **{"PATH_INFO": f"/{repository.path.name}/{request.args['service']}"},
            **{"REQUEST_METHOD": request.method, "QUERY_STRING": query, "REMOTE_USER": "hub"},
            **{"CONTENT_TYPE": headers.get("content-type", "")},
            **{"CONTENT_LENGTH": str(len(request.body))},
            **{"HTTP_CONTENT_ENCODING": headers.get("content-encoding", "")},
            **{"GIT_PROTOCOL": headers.get("git-protocol", "")},
        }
        command = ["git", "http-backend"]
        done = subprocess.run(command, input=request.body, env=env, capture_output=True)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        found = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
        status = int(found.pop("Status", "200")[:3])
        return Response(content, status, media_type=found.pop("Content-Type", "text/plain"))


def _prefix(kind: str) -> str:
    return "spaces/" if kind == "space" else ""


def _runtime(space: Space) -> dict:
    return {
        **{"stage": space.stage, "errorMessage": space.error, "gcTimeout": 172_800},
        "hardware": {"current": "cpu-basic", "requested": "cpu-basic"},
        "replicas": {"current": 1, "requested": 1},
        "domains": [{"domain": space.url, "stage": "READY"}],
    }


def _now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


if __name__ == "__main__":
    run(Hub)
