"""Die Ablage des Hubs: echte Git-Repositorys ohne Arbeitskopie, große Dateien daneben."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from examples.local_cloud.service import ROOT

# Was ein neues Repository des Hubs in .gitattributes mitbringt, gekürzt.
LFS_ENDINGS = (
    "7z",
    "bin",
    "ckpt",
    "h5",
    "joblib",
    "npy",
    "npz",
    "onnx",
    "parquet",
    "pickle",
    "pkl",
)
LFS_ENDINGS += ("pt", "pth", "safetensors", "zip")
ATTRIBUTES = "".join(f"*.{end} filter=lfs diff=lfs merge=lfs -text\n" for end in LFS_ENDINGS)
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size}\n"
IS_POINTER = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\noid sha256:([0-9a-f]{64})\nsize (\d+)\n"
)
AUTHOR = {
    **{"GIT_AUTHOR_NAME": "hub", "GIT_AUTHOR_EMAIL": "hub@example.org"},
    **{"GIT_COMMITTER_NAME": "hub", "GIT_COMMITTER_EMAIL": "hub@example.org"},
}
ISOLATED = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "TZ": "UTC"}
MAIN = "refs/heads/main"


class GitError(RuntimeError):
    """Git lehnt ab oder kennt den Namen nicht."""


@dataclass
class Entry:
    """Eine Datei in einem Commit; `oid` ist der Hash, unter dem der Hub sie führt."""

    path: str
    blob: str
    size: int
    lfs: bool
    oid: str = ""


def environment() -> dict[str, str]:
    """Umgebung für Git, in der Einstellungen des Rechners nichts ändern."""
    return os.environ | AUTHOR | ISOLATED


class LargeFiles:
    """Speicher für LFS: Dateien unter ihrem SHA-256."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True)

    def path(self, oid: str) -> Path:
        """Wo die Datei liegt oder läge."""
        return self._folder / oid

    def store(self, oid: str, content: bytes) -> bool:
        """Speichert, wenn der Inhalt zum Hash passt."""
        if hashlib.sha256(content).hexdigest() != oid:
            return False
        self.path(oid).write_bytes(content)
        return True


class Repository:
    """Ein Repository; geschrieben wird immer auf `main`."""

    def __init__(self, path: Path, large: LargeFiles) -> None:
        self.path, self._large = path, large
        self._lock = threading.Lock()

    @classmethod
    def create(cls, path: Path, kind: str, large: LargeFiles) -> "Repository":
        """Legt ein Repository mit .gitattributes an; ein Push wird von der Karte geprüft."""
        repository = cls(path, large)
        path.mkdir(parents=True)
        repository._git("init", "--quiet", "--bare", "--initial-branch=main", "--template=")
        repository._git("config", "http.receivepack", "true")
        hook = path / "hooks" / "pre-receive"
        hook.parent.mkdir()
        hook.write_text(
            f'#!/bin/sh\nPYTHONPATH="{ROOT.as_posix()}" exec "{Path(sys.executable).as_posix()}" '
            f"-m examples.local_cloud.cards {kind}\n",
            encoding="utf-8",
            newline="\n",
        )
        hook.chmod(0o755)
        repository.commit({".gitattributes": ATTRIBUTES.encode()}, [], "initial commit")
        return repository

    def _git(self, *arguments: str, content: bytes | None = None, index: str = "") -> bytes:
        done = subprocess.run(
            ["git", "-C", self.path, *arguments],
            input=content,
            capture_output=True,
            env=environment() | ({"GIT_INDEX_FILE": index} if index else {}),
        )
        if done.returncode:
            raise GitError(done.stderr.decode("utf-8", "replace").strip())
        return done.stdout

    def resolve(self, revision: str) -> str:
        """Der volle Hash eines Commits; `GitError`, wenn es ihn nicht gibt."""
        name = f"{revision}^{{commit}}"
        return self._git("rev-parse", "--verify", "--end-of-options", name).decode().strip()

    def files(self, revision: str) -> dict[str, Entry]:
        """Alle Dateien eines Commits; Größe und Hash einer LFS-Datei stehen in ihrem Zeiger."""
        entries = {}
        listing = self._git("ls-tree", "-r", "-l", "-z", revision).decode()
        for line in filter(None, listing.split("\0")):
            meta, path = line.split("\t", 1)
            blob, size = meta.split()[2:]
            entry = Entry(path, blob, int(size), lfs=False, oid=blob)
            pointer = IS_POINTER.fullmatch(self._blob(blob)) if entry.size < 200 else None
            if pointer:
                entry.lfs, entry.oid, entry.size = True, pointer[1].decode(), int(pointer[2])
            entries[path] = entry
        return entries

    def _blob(self, blob: str) -> bytes:
        return self._git("cat-file", "blob", blob)

    def read(self, entry: Entry) -> bytes:
        """Der Inhalt einer Datei, bei LFS der wirkliche."""
        return self._large.path(entry.oid).read_bytes() if entry.lfs else self._blob(entry.blob)

    def wants_lfs(self, path: str) -> bool:
        """Sagt, ob .gitattributes diese Datei zu den großen zählt."""
        attributes = self.files(MAIN).get(".gitattributes")
        lines = self.read(attributes).decode().splitlines() if attributes else []
        patterns = [line.split()[0] for line in lines if "filter=lfs" in line]
        return any(fnmatch(path, p) or fnmatch(Path(path).name, p) for p in patterns)

    def commit(self, added: dict[str, bytes], deleted: list[str], summary: str) -> str:
        """Schreibt einen Commit auf `main` und gibt seinen Hash zurück."""
        with self._lock, tempfile.TemporaryDirectory() as folder:
            index = str(Path(folder) / "index")
            try:
                parents = [self.resolve(MAIN)]
            except GitError:
                parents = []
            self._git("read-tree", *(parents or ["--empty"]), index=index)
            for path in deleted:
                self._git("update-index", "--force-remove", "--", path, index=index)
            for path, content in added.items():
                blob = self._git("hash-object", "-w", "--stdin", content=content).decode().strip()
                entry = f"100644,{blob},{path}"
                self._git("update-index", "--add", "--cacheinfo", entry, index=index)
            tree = self._git("write-tree", index=index).decode().strip()
            older = [option for parent in parents for option in ("-p", parent)]
            commit = self._git("commit-tree", tree, *older, "-m", summary).decode().strip()
            self._git("update-ref", MAIN, commit)
            return commit

    def history(self, revision: str) -> list[list[str]]:
        """Je Commit (Hash, Zeitpunkt, Name, Überschrift), das Neueste zuerst."""
        form = ["--format=%H%x09%ad%x09%an%x09%s", "--date=format-local:%Y-%m-%dT%H:%M:%S.000Z"]
        log = self._git("log", *form, revision).decode()
        return [line.split("\t", 3) for line in log.splitlines()]

    def tag(self, name: str, commit: str) -> None:
        """Gibt einem Commit einen Namen; ein vergebener Name bleibt, wo er ist."""
        self._git("tag", "--", name, commit)

    def checkout(self, revision: str, folder: Path) -> None:
        """Schreibt alle Dateien eines Commits in einen Ordner."""
        for path, entry in self.files(revision).items():
            target = folder / path
            if not target.resolve().is_relative_to(folder.resolve()):
                raise GitError(f"{path} läge außerhalb des Ordners.")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(self.read(entry))

    def delete(self) -> None:
        """Löscht das Repository."""
        for path in self.path.rglob("*"):
            path.chmod(0o700)  # Windows löscht sonst nicht, was Git schreibgeschützt hat
        shutil.rmtree(self.path)
