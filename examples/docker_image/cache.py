"""Messen, was der Layer-Cache spart: dasselbe Image nach drei Arten von Änderungen bauen.

Gebaut wird in einer Kopie der Dateien, die Docker sehen darf; am Ende ist alles wieder weg.

Aufruf: python -m examples.docker_image.cache [DOCKERFILE [ÄNDERUNG …]]
"""

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from examples.docker_image.build import ROOT, command

DOCKERFILE = "examples/docker_image/Dockerfile"
TAG = "docker-image:cache"
# Was sich vor dem Bau ändert: eine Zeile Kommentar in dieser Datei.
CHANGES = {
    "nothing": None,
    "code": "examples/fastapi_service/app.py",
    "packages": "examples/docker_image/serving.txt",
}


def context(folder: Path) -> None:
    """Legt in `folder` an, was .dockerignore erlaubt, dazu die Dockerfiles."""
    rules = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    allowed = [line.removeprefix("!") for line in rules if line.startswith("!")]
    shutil.copy(ROOT / ".dockerignore", folder)
    for pattern in (*allowed, "examples/docker_image/**/Dockerfile"):
        for path in ROOT.glob(pattern):
            target = folder / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                shutil.copytree(path, target, dirs_exist_ok=True)
            else:
                shutil.copy(path, target)


def build(folder: Path, dockerfile: str) -> dict[str, float | bool | str]:
    """Baut einmal; gibt die Dauer in Sekunden, ob pip lief und die Kennung des Images zurück."""
    image_id = folder.parent / "image-id"
    options = ["--file", dockerfile, "--progress", "plain", "--iidfile", str(image_id)]
    words = [word for word in command(TAG, *options) if word != "--quiet"]
    started = time.perf_counter()
    done = subprocess.run(
        words,
        cwd=folder,
        env={**os.environ, "DOCKER_BUILDKIT": "1"},
        capture_output=True,
        encoding="utf-8",
    )
    seconds = time.perf_counter() - started
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["ohne Meldung"])[-1])
    (step,) = set(re.findall(r"^#(\d+) \[.*pip .*install", done.stderr, re.MULTILINE))
    cached = re.search(rf"^#{step} CACHED$", done.stderr, re.MULTILINE) is not None
    return {"seconds": round(seconds, 2), "pip": not cached, "id": image_id.read_text()}


def remove(images: list[str]) -> None:
    """Löscht die eigenen Images; was noch einen anderen Namen trägt, gehört jemandem."""
    subprocess.run(["docker", "rmi", TAG], capture_output=True)
    for image in images:
        inspect = ["docker", "image", "inspect", "--format", "{{len .RepoTags}}", image]
        if subprocess.run(inspect, capture_output=True, text=True).stdout.strip() == "0":
            subprocess.run(["docker", "rmi", image], capture_output=True)


def measure(dockerfile: str = DOCKERFILE, *changes: str) -> dict[str, dict]:
    """Baut zum Aufwärmen und dann nach jeder Änderung; räumt die Images wieder weg."""
    images: list[str] = []
    try:
        with tempfile.TemporaryDirectory() as parent:
            folder = Path(parent) / "context"
            folder.mkdir()
            context(folder)
            images.append(build(folder, dockerfile).pop("id"))
            results = {}
            for name in changes or CHANGES:
                if file := CHANGES[name]:
                    with (folder / file).open("a", encoding="utf-8") as changed:
                        changed.write(f"# {secrets.token_hex(8)}\n")
                results[name] = build(folder, dockerfile)
                images.append(results[name].pop("id"))
        return results
    finally:
        remove(images)


def main() -> int:
    """Gibt je Änderung Dauer und „pip lief“ als eine Zeile JSON aus."""
    if unknown := set(sys.argv[2:]) - set(CHANGES):
        print(f"Unbekannt: {', '.join(unknown)}; es gibt {', '.join(CHANGES)}.", file=sys.stderr)
        return 2
    try:
        print(json.dumps(measure(*sys.argv[1:])))
    except FileNotFoundError:
        print("Docker ist nicht installiert.", file=sys.stderr)
        return 1
    except (RuntimeError, OSError) as error:
        print(f"Der Bau ist gescheitert: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
