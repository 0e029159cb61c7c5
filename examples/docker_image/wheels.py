"""Die Pakete des Images einmal herunterladen, damit jeder Bau danach ohne Netz auskommt.

Aufruf: python -m examples.docker_image.wheels (make wheels)
"""

import platform
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
WHEELS = FOLDER / "wheels"
PYTHON = "3.11.5"  # Nebenversion des Basisimages, kleinste des Buches
# So heißt der Prozessor bei pip; Docker Desktop baut für den des Rechners.
MACHINES = {"amd64": "x86_64", "x86_64": "x86_64", "arm64": "aarch64", "aarch64": "aarch64"}


# sklearn.txt enthält alles aus serving.txt und dient nur dem Vergleich der Größe.
def download(lock: Path = FOLDER / "sklearn.txt", wheels: Path = WHEELS) -> None:
    """Lädt genau die Räder aus dem Lock und prüft ihre Prüfsummen."""
    machine = MACHINES.get(platform.machine().lower())
    if machine is None:
        sys.exit(f"Für den Prozessor {platform.machine()} gibt es diese Pakete nicht fertig.")
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in (17, 26, 27, 28)]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--require-hashes", "--requirement", str(lock)]
    command += ["--dest", str(wheels), "--only-binary=:all:", "--no-deps"]
    command += ["--python-version", PYTHON, "--implementation", "cp"]
    command += [f"--platform={name}" for name in [*platforms, f"manylinux2014_{machine}"]]
    if subprocess.run(command).returncode:
        sys.exit("Das Herunterladen ist gescheitert; der Grund steht darüber. Netz vorhanden?")


if __name__ == "__main__":
    download()
