"""Das Image des Preisdienstes bauen: python -m examples.docker_image.build [Name:Tag]."""

import subprocess
import sys

from examples.docker_image.wheels import FOLDER, WHEELS

TAG = "price-api:1.0.0"
ROOT = FOLDER.parent.parent


def command(tag: str = TAG, *options: str) -> list[str]:
    """Der Befehl, der das Image baut; mit Rädern im Ordner braucht er kein Netz."""
    offline = ["--build-arg", "PIP_NO_INDEX=1"] if any(WHEELS.glob("*.whl")) else []
    file = ["--file", "examples/docker_image/Dockerfile"]
    return ["docker", "build", "--quiet", *file, *offline, *options, "--tag", tag, "."]


if __name__ == "__main__":
    try:
        sys.exit(subprocess.run(command(*sys.argv[1:]), cwd=ROOT).returncode)
    except FileNotFoundError:
        sys.exit("Docker ist nicht installiert.")
