"""Die Umgebung .venv einrichten: python tools/setup.py book | all | checks.

Braucht nur die Standardbibliothek und läuft auf Linux, macOS und Windows.
"""

import os
import subprocess
import sys
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
UV = "uv==0.13.9"
# Jede Stufe enthält die vorige; die kleinste genügt, um das Buch zu bauen.
LAYERS = {
    "book": "requirements-book.txt",
    "all": "requirements.txt",
    "checks": "requirements-checks.txt",
}
OLDEST, NEWEST = (3, 11, 5), (3, 13)


def check_python() -> None:
    """Bricht mit einem Hinweis ab, wenn dieses Python nicht passt."""
    if not (sys.version_info[:3] >= OLDEST and sys.version_info[:2] <= NEWEST):
        found = ".".join(map(str, sys.version_info[:3]))
        sys.exit(
            f"Python {found} passt nicht: gebraucht wird 3.11.5 bis 3.13.\n"
            "Debian/Ubuntu: sudo apt install python3 python3-venv\n"
            "macOS: brew install python@3.13 · Windows: winget install Python.Python.3.13\n"
            "Danach: make serve PYTHON=python3.13"
        )
    try:
        import ensurepip  # noqa: F401 – Debian liefert es getrennt
    except ImportError:
        sys.exit("Das Modul venv fehlt. Debian/Ubuntu: sudo apt install python3-venv")


def install(layer: str) -> None:
    """Legt .venv an, falls nötig, und installiert die Stufe samt den vorigen."""
    if not (BIN / "uv").exists() and not (BIN / "uv.exe").exists():
        print("Umgebung .venv anlegen …", flush=True)
        venv.create(VENV, with_pip=True, clear=True)
        python = BIN / "python"
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-input", UV], check=True)
    wanted = list(LAYERS)[: list(LAYERS).index(layer) + 1]
    # requirements.txt enthält requirements-book.txt: zweimal zu nennen schadet nicht.
    files = [argument for name in wanted for argument in ("-r", ROOT / LAYERS[name])]
    print(f"Pakete der Stufe „{layer}“ installieren …", flush=True)
    started = time.monotonic()
    environment = {**os.environ, "VIRTUAL_ENV": str(VENV), "UV_PYTHON_DOWNLOADS": "never"}
    # Ohne vorübersetzte Dateien dauert jeder Import doppelt so lang.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    subprocess.run(
        # --no-deps: der Lock ist vollständig, nichts soll darüber hinaus dazukommen.
        [BIN / "uv", "pip", "install", "--no-deps", "--compile-bytecode", "--quiet", *files],
        check=True,
        env=environment,
    )
    print(f"Fertig nach {time.monotonic() - started:.0f} s.", flush=True)


def main() -> None:
    """Prüft Python und installiert die genannte Stufe."""
    if len(sys.argv) != 2 or sys.argv[1] not in LAYERS:
        sys.exit(f"Aufruf: python tools/setup.py {' | '.join(LAYERS)}")
    check_python()
    try:
        install(sys.argv[1])
    except subprocess.CalledProcessError:
        sys.exit("Die Installation ist gescheitert; der Grund steht darüber. Netz vorhanden?")


if __name__ == "__main__":
    main()
