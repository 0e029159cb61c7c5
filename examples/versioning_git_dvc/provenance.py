"""Von der Version in einer Antwort zurück zu Commit, Daten, Parametern und Umgebung.

Aufruf: python -m examples.versioning_git_dvc.provenance PROJEKT VERSION [MODELLORDNER]
Mit MODELLORDNER wird nachgerechnet, ob dort wirklich das Modell dieser Version liegt.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import yaml

from examples.versioning_git_dvc.sealed import SealError, environment


class ProvenanceError(RuntimeError):
    """Zu der Version gibt es keine Herkunft."""


def git(project: Path, *arguments: str) -> str:
    """Fragt Git; was es nicht kennt, ergibt `ProvenanceError`."""
    done = subprocess.run(
        ["git", *arguments],
        cwd=project,
        env={**os.environ, **environment(project.parent)},
        capture_output=True,
        encoding="utf-8",
    )
    if done.returncode:
        raise ProvenanceError(done.stderr.strip())
    return done.stdout.strip()


def trace(project: Path, version: str) -> dict:
    """Liest alles aus dem Commit des Tags; der Arbeitsordner darf etwas anderes zeigen."""
    if not project.is_dir():
        raise ProvenanceError(f"Den Ordner {project.name} gibt es nicht.")
    try:
        commit = git(
            project, "rev-parse", "--verify", "--quiet", f"refs/tags/v{version}^{{commit}}"
        )
    except ProvenanceError:
        raise ProvenanceError(f"Zu Version {version} gibt es keinen Tag v{version}.") from None
    stages = yaml.safe_load(git(project, "show", f"{commit}:dvc.lock"))["stages"]
    prepared = {entry["path"]: entry for entry in stages["prepare"]["deps"]}
    trained = {entry["path"]: entry for entry in stages["train"]["deps"]}
    return {
        "commit": commit,
        "message": git(project, "show", "--no-patch", "--format=%s", commit),
        "data_md5": prepared["data/stones.csv"]["md5"],
        "data_bytes": prepared["data/stones.csv"]["size"],
        "code_md5": {
            "examples/price_model": trained["examples/price_model"]["md5"],
            "stages/prepare.py": prepared["stages/prepare.py"]["md5"],
            "stages/train.py": trained["stages/train.py"]["md5"],
        },
        "environment_md5": trained["requirements.txt"]["md5"],
        "params": stages["train"]["params"]["params.yaml"],
        "model_md5": stages["train"]["outs"][0]["md5"],
        "metrics": json.loads(git(project, "show", f"{commit}:metrics.json")),
    }


def directory_md5(folder: Path) -> str:
    """Rechnet die Prüfsumme eines Ordners so, wie DVC es tut, aber ohne DVC und ohne Cache."""
    files = [
        {
            "md5": hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest(),
            "relpath": path.relative_to(folder).as_posix(),
        }
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    ]
    text = json.dumps(files, sort_keys=True)
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest() + ".dir"


def main() -> int:
    """Zeigt die Herkunft als JSON; ein Modell, das nicht dazu passt, ergibt einen Fehler."""
    parser = argparse.ArgumentParser(description="Herkunft eines Modells")
    parser.add_argument("project", type=Path)
    parser.add_argument("version")
    parser.add_argument("model", type=Path, nargs="?")
    options = parser.parse_args()
    try:
        origin = trace(options.project, options.version)
        if options.model and directory_md5(options.model) != origin["model_md5"]:
            raise ProvenanceError(
                f"Das Modell in {options.model.name}/ ist nicht das von v{options.version}, "
                "seine Prüfsumme ist eine andere."
            )
    except (ProvenanceError, SealError, OSError, KeyError) as error:
        print(f"Fehler: {error}", file=sys.stderr)
        return 1
    print(json.dumps(origin))
    return 0


if __name__ == "__main__":
    sys.exit(main())
