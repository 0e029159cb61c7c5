"""Der Server der Modell-Registry als Image: python -m examples.compose_stack.registry.

Mit `download` holt der Aufruf nur die Pakete; danach baut das Image ohne Netz.
"""

import subprocess
import sys
from pathlib import Path

from examples.docker_image.wheels import download

FOLDER = Path(__file__).parent / "registry"
WHEELS = FOLDER / "wheels"
TAG = "price-registry:1.0.0"


def command() -> list[str]:
    """Der Befehl, der das Image baut; mit Rädern im Ordner braucht er kein Netz."""
    offline = ["--build-arg", "PIP_NO_INDEX=1"] if any(WHEELS.glob("*.whl")) else []
    return ["docker", "build", "--quiet", *offline, "--tag", TAG, str(FOLDER)]


if __name__ == "__main__":
    if sys.argv[1:] == ["download"]:
        download(FOLDER / "serving.txt", WHEELS)
    else:
        try:
            sys.exit(subprocess.run(command()).returncode)
        except FileNotFoundError:
            sys.exit("Docker ist nicht installiert.")
