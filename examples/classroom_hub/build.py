"""Das Image der Klasse bauen, ohne Netz, aus den Paketen in wheels/ und ohne Lösungen.

Aufruf: python -m examples.classroom_hub.build [download] (make classroom-image)
"""

import subprocess
import sys
from pathlib import Path

from examples.docker_image import wheels

ROOT = Path(__file__).resolve().parents[2]
TAG = "classroom:1"
NOTEBOOKS = ROOT / "_build" / "classroom_hub"


def write_notebooks() -> None:
    """Schreibt alle Kapitel ohne Lösungen; `Dockerfile.dockerignore` wählt daraus."""
    # Erst hier: Der Hub liest aus dieser Datei nur den Namen, und seiner Umgebung fehlt `nbformat`.
    import nbformat

    from tools import student

    for path in (ROOT / "notebooks").glob("*.ipynb"):
        made = student.without_solutions(nbformat.read(path, as_version=4))
        student.write(made, NOTEBOOKS / path.name)


def build() -> None:
    """Baut das Image; bei unveränderten Paketen kommt fast alles aus dem Cache."""
    write_notebooks()
    command = ["docker", "build", "--quiet", "--tag", TAG]
    command += ["--file", "examples/classroom_hub/Dockerfile"]
    # Der Lock gilt für jedes 3.11; nur die kleinste Nummer prüft ein altes Basisimage zu streng.
    for argument in ("PIP_NO_INDEX", "PIP_IGNORE_REQUIRES_PYTHON"):
        command += ["--build-arg", f"{argument}=1"]
    try:
        code = subprocess.run([*command, "."], cwd=ROOT, stdout=subprocess.DEVNULL).returncode
    except FileNotFoundError:
        sys.exit("Docker ist nicht installiert.")
    if code:
        sys.exit("Das Image ließ sich nicht bauen; der Grund steht darüber.")


if __name__ == "__main__":
    if sys.argv[1:] == ["download"]:
        folder = ROOT / "examples" / "classroom_hub"
        wheels.download(folder / "image.txt", folder / "wheels")
    else:
        build()
