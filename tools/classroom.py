"""Ein Archiv für den Raum ohne Netz bauen und ausprobieren: `make classroom`.

Aufruf: python tools/classroom.py [--python 3.13]
Es enthält Seite, Notebooks, Beispiele, Modell und die Pakete für drei Systeme.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from run_nbval import NETWORK_REMEDY, without_network
from setup import BIN, LAYERS, SCRIPTS, UV

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "_build" / "classroom"
ARCHIVE = TARGET / "modelle-in-betrieb.zip"
TOP = "modelle-in-betrieb"
README = ROOT / "tools" / "classroom.md"
# System: wie uv es nennt und welche Räder dort laufen.
MACOS = [f"macosx_{major}_0_{kind}" for major in range(11, 15) for kind in ("arm64", "universal2")]
SYSTEMS = {
    "linux": ("x86_64-manylinux_2_28", [f"manylinux_2_{n}_x86_64" for n in (17, 24, 26, 27, 28)]),
    "macos": (
        "aarch64-apple-darwin",
        ["macosx_10_9_universal2", "macosx_10_13_universal2", *MACOS],
    ),
    "windows": ("x86_64-pc-windows-msvc", ["win_amd64"]),
}
# Was gebaut wird und mitkommt, obwohl Git es nicht kennt.
BUILT = ["_build/html", "_build/slides", "_build/student", "examples/price_model/artifacts"]
LIMIT_BYTES = 3 * 1024**3
# Ohne letzte Stelle gilt die erste, und die ist einem Paket zu alt.
PATCHES = {"3.11": "3.11.5"}
TRIED = "notebooks/joblib_model.ipynb"


def lock_for(platform: str, python: str, target: Path) -> list[str]:
    """Schreibt aus dem gemeinsamen Lock, was für dieses System gilt; gibt die Zeilen zurück."""
    command = [BIN / "uv", "pip", "compile", "--quiet", "--no-deps", "--no-header", "--no-annotate"]
    command += ["--python-platform", platform, "-o", target]
    command += ["--python-version", PATCHES.get(python, python)]
    # onnxruntime gibt es erst ab macOS 14; die Vorgabe von uv ist älter.
    newest = {**os.environ, "MACOSX_DEPLOYMENT_TARGET": "14.0"}
    subprocess.run([*command, ROOT / LAYERS["all"]], check=True, stdout=subprocess.PIPE, env=newest)
    with target.open("a", encoding="utf-8") as file:
        file.write(f"{UV}\n")
    return target.read_text(encoding="utf-8").splitlines()


def download(system: str, python: str, folder: Path) -> None:
    """Lädt die Räder eines Systems und entfernt, was nicht mehr im Lock steht."""
    platform, tags = SYSTEMS[system]
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        lock = Path(work) / "lock.txt"
        pairs = (line.split("==") for line in lock_for(platform, python, lock))
        wanted = {canonical(name): version for name, version in pairs}
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--disable-pip-version-check",
        ]
        exact = PATCHES.get(python, python)
        command += ["--no-deps", "--only-binary=:all:", "--python-version", exact]
        command += [f"--platform={tag}" for tag in [*tags, "any"]]
        command += ["--dest", str(folder), "--requirement", str(lock)]
        if subprocess.run(command).returncode:
            sys.exit(f"Nicht alle Pakete für {system} gibt es fertig; der Grund steht darüber.")
    for wheel in folder.glob("*.whl"):
        name, version = wheel.name.split("-")[:2]
        if wanted.get(canonical(name)) != version:
            wheel.unlink()


def canonical(name: str) -> str:
    """Gibt den Namen eines Pakets in der Schreibweise der Paketverzeichnisse zurück."""
    return re.sub(r"[-_.]+", "-", name).lower()


def contents() -> list[Path]:
    """Zählt auf, was ins Archiv gehört: alles aus Git und das Gebaute."""
    try:
        tracked = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, encoding="utf-8"
        )
    except (FileNotFoundError, subprocess.CalledProcessError):
        sys.exit("Git kennt diesen Ordner nicht. Abhilfe: ein Repository anlegen und alles hinein")
    paths = [ROOT / name for name in tracked.stdout.split("\0") if name]
    for folder in BUILT:
        if not (ROOT / folder).is_dir():
            sys.exit(f"Es fehlt {folder}. Abhilfe: make classroom baut es.")
        paths += sorted((ROOT / folder).rglob("*"))
    # Die Pakete der Images helfen ohne Docker nichts und sind größer als alles andere.
    left_out = {"__pycache__", "wheels"}
    return [
        path
        for path in paths
        if path.is_file() and not left_out.intersection(path.relative_to(ROOT).parts)
    ]


def pack(wheelhouse: Path, archive: Path) -> int:
    """Schreibt das Archiv; steht es, dann ganz. Gibt seine Größe in Byte zurück."""
    paths = contents()
    archive.parent.mkdir(parents=True, exist_ok=True)
    unfinished = archive.with_suffix(".tmp")
    with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED) as file:
        file.write(README, f"{TOP}/LIESMICH.md")
        for path in paths:
            file.write(path, f"{TOP}/{path.relative_to(ROOT).as_posix()}")
        for path in sorted(wheelhouse.rglob("*")):
            if path.is_file():
                # Räder sind schon gepackt.
                name = f"{TOP}/wheelhouse/{path.relative_to(wheelhouse).as_posix()}"
                file.write(path, name, zipfile.ZIP_STORED)
    unfinished.replace(archive)
    return archive.stat().st_size


def try_out(archive: Path, python: str) -> None:
    """Packt das Archiv aus, richtet es ohne Netz ein und führt ein Notebook aus."""
    find = [BIN / "uv", "python", "find", "--no-project", "--no-python-downloads", python]
    found = subprocess.run(find, capture_output=True, encoding="utf-8")
    if found.returncode:
        sys.exit(f"Zum Ausprobieren fehlt Python {python}; das Archiv selbst ist fertig.")
    prefix = without_network()
    if prefix and subprocess.run([*prefix, "true"], capture_output=True).returncode:
        sys.exit(
            "Zum Ausprobieren fehlt das Recht auf ein eigenes Netz; das Archiv selbst ist fertig. "
            f"Abhilfe: {NETWORK_REMEDY}"
        )
    with tempfile.TemporaryDirectory(prefix="klasse-") as work:
        with zipfile.ZipFile(archive) as file:
            file.extractall(work)
        folder = Path(work) / TOP
        steps = [
            [found.stdout.strip(), "tools/setup.py", "all"],
            [folder / ".venv" / SCRIPTS / "python", "tools/run_nbval.py", TRIED],
        ]
        for step in steps:
            if subprocess.run([*prefix, *step], cwd=folder).returncode:
                sys.exit(f"Ausgepackt und ohne Netz scheitert: {' '.join(map(str, step[1:]))}")


def main() -> None:
    """Lädt, packt, probiert aus und nennt die Größe."""
    parser = argparse.ArgumentParser(description="Archiv für den Raum ohne Netz")
    parser.add_argument("--python", default="3.13", help="Version der Rechner im Raum")
    python = parser.parse_args().python
    if not re.fullmatch(r"3\.1[123]", python):
        sys.exit(f"Python {python} passt nicht: gebraucht wird 3.11, 3.12 oder 3.13.")
    contents()  # was fehlt, soll sich vor dem Laden zeigen
    # Je Python eines: Räder einer anderen Version machten das Archiv doppelt so groß.
    wheelhouse = TARGET / f"wheelhouse-{python}"
    for system in SYSTEMS:
        print(f"Pakete für {system} laden …", flush=True)
        download(system, python, wheelhouse / system)
    (wheelhouse / "python").write_text(f"{python}\n")
    print("Packen …", flush=True)
    size = pack(wheelhouse, ARCHIVE)
    if size > LIMIT_BYTES:
        sys.exit(f"Das Archiv hat {size / 1024**3:.1f} GiB, erlaubt sind 3.")
    print("Auspacken, ohne Netz einrichten und ein Notebook ausführen …", flush=True)
    try_out(ARCHIVE, python)
    print(f"{ARCHIVE.relative_to(ROOT)}: {size / 1024**2:.0f} MiB, ausprobiert.")


if __name__ == "__main__":
    main()
