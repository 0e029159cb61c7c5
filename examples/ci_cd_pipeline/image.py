"""Einmal bauen, hochladen und danach nur noch den Digest weitergeben.

Aufruf: python -m examples.ci_cd_pipeline.image release MODELL --report GATE.json --output REF.json
        python -m examples.ci_cd_pipeline.image digest HOST:PORT/NAME:TAG
"""

import argparse
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx

from examples.ci_cd_pipeline.gate import sha256
from examples.price_model.predict import ModelMissingError, load_metadata

EXAMPLES = Path(__file__).parent.parent
# Was der Commit ändern kann: der Dienst selbst, in allen Dateien, die ein Image braucht.
CODE = [
    *("ci_cd_pipeline/__init__.py", "ci_cd_pipeline/hasty.py"),
    *("fastapi_service/__init__.py", "fastapi_service/app.py", "fastapi_service/metered.py"),
    *("price_model/__init__.py", "price_model/predict.py", "price_model/schema.py"),
]
REGISTRY = "127.0.0.1:8235"
BASE = "price-api:1.0.0"
APP = "examples.fastapi_service.metered:app"
# Welcher Typ entsteht, hängt von Docker ab: Der klassische Speicher schreibt den ersten.
MANIFESTS = [
    f"application/vnd.{kind}+json"
    for kind in (
        "docker.distribution.manifest.v2",
        "docker.distribution.manifest.list.v2",
        "oci.image.manifest.v1",
        "oci.image.index.v1",
    )
]


class ReleaseError(RuntimeError):
    """Das Image wurde nicht gebaut oder nicht hochgeladen."""


# [evidence]
def check_evidence(model: Path, report: Path) -> None:
    """Baut nur, was das Gate bestanden hat: genau diese Datei, nicht nur diese Version."""
    try:
        found = json.loads(report.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise ReleaseError(f"Kein Bericht des Gates unter {report.name}.") from None
    if found.get("passed") is not True:
        raise ReleaseError("Laut Bericht hat der Kandidat das Gate nicht bestanden.")
    if found.get("model_sha256") != sha256(model / "price_model.onnx"):
        raise ReleaseError("Der Bericht gehört zu einem anderen Modell.")


# [end evidence]


def docker(*arguments: str) -> str:
    """Ruft `docker` auf und gibt die Ausgabe zurück."""
    try:
        done = subprocess.run(
            ["docker", *arguments], capture_output=True, encoding="utf-8", timeout=300
        )
    except FileNotFoundError:
        raise ReleaseError("Docker ist nicht installiert.") from None
    except subprocess.TimeoutExpired:
        raise ReleaseError(f"docker {arguments[0]} antwortet nicht.") from None
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["ohne Meldung"]
        raise ReleaseError(f"docker {arguments[0]} scheiterte: {said[-1]}")
    return done.stdout.strip()


def build(model: Path, tag: str, app: str = APP) -> None:
    """Legt Modell und Dienst in ein Image; der Kontext enthält nur, was hinein soll."""
    version = load_metadata(model)["model_version"]
    with tempfile.TemporaryDirectory() as parent:
        context = Path(parent)
        for name in CODE:
            target = context / "examples" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(EXAMPLES / name, target)
        for name in ("price_model.onnx", "metadata.json"):
            shutil.copy(model / name, context)
        values = {
            "BASE": BASE,
            "APP": app,
            "MODEL_VERSION": version,
            "MODEL_SHA256": sha256(model / "price_model.onnx"),
        }
        arguments = [f"--build-arg={name}={value}" for name, value in values.items()]
        file = ["--file", str(EXAMPLES / "ci_cd_pipeline" / "Dockerfile")]
        docker("build", "--quiet", *file, *arguments, "--tag", tag, str(context))


# [digest]
def digest(tag: str) -> str:
    """Fragt die Registry, worauf ein Tag jetzt zeigt, und rechnet den Digest selbst nach."""
    host, _, rest = tag.partition("/")
    name, _, version = rest.rpartition(":")
    url = f"http://{host}/v2/{name}/manifests/{version}"
    try:
        accepted = [("Accept", kind) for kind in MANIFESTS]
        response = httpx.get(url, headers=accepted, timeout=10, trust_env=False)
        response.raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL):
        raise ReleaseError(f"Die Registry kennt {tag} nicht oder antwortet nicht.") from None
    computed = f"sha256:{hashlib.sha256(response.content).hexdigest()}"
    if response.headers.get("Docker-Content-Digest", computed) != computed:
        raise ReleaseError("Inhalt und Digest passen nicht zusammen.")
    return computed


# [end digest]


def release(model: Path, report: Path, registry: str, app: str) -> dict:
    """Prüft den Beleg, baut, lädt hoch; gibt die unveränderliche Adresse zurück."""
    check_evidence(model, report)
    version = load_metadata(model)["model_version"]
    tag = f"{registry}/price-api:{version}"
    build(model, tag, app)
    pushed = re.search(r"digest: (sha256:[0-9a-f]{64})", docker("push", tag))
    found = digest(tag)
    # Ein Tag lässt sich verschieben, auch zwischen Hochladen und Nachsehen.
    if not pushed or pushed[1] != found:
        raise ReleaseError("Der Tag zeigt schon auf ein anderes Image.")
    return {
        "image": f"{registry}/price-api@{found}",
        "tag": tag,
        "model_version": version,
        "model_sha256": sha256(model / "price_model.onnx"),
    }


def main() -> int:
    """Führt einen der beiden Befehle aus."""
    parser = argparse.ArgumentParser(description="Images bauen und wiederfinden.")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("release", help="bauen, hochladen, Digest merken")
    command.add_argument("model", type=Path, help="Ordner des Kandidaten")
    command.add_argument("--report", type=Path, required=True, help="Bericht des Gates")
    command.add_argument("--output", type=Path, help="hierhin kommt die Adresse als JSON")
    command.add_argument("--registry", default=REGISTRY)
    command.add_argument("--app", default=APP, help="welche Anwendung im Image läuft")
    command = commands.add_parser("digest", help="worauf zeigt ein Tag?")
    command.add_argument("tag", help="HOST:PORT/NAME:TAG")
    options = parser.parse_args()
    try:
        if options.command == "digest":
            print(digest(options.tag))
            return 0
        if options.output:
            options.output.unlink(missing_ok=True)
        found = release(options.model, options.report, options.registry, options.app)
        if options.output:
            options.output.write_text(json.dumps(found, indent=2), encoding="utf-8")
    except (ReleaseError, ModelMissingError, OSError) as error:
        print(f"Kein Release: {error}", file=sys.stderr)
        return 1
    print(f"Image mit Modell {found['model_version']} gebaut und hochgeladen.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
