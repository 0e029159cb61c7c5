"""Umgebungen einrichten: python tools/setup.py book | all | grading | checks | <Kapitel>.

Die vier Stufen liegen in .venv. Ein Kapitel mit eigener requirements.txt, weil deren Pakete
groß sind oder nicht zum gemeinsamen Lock passen, bekommt .environments/<Kapitel>.
Braucht nur die Standardbibliothek und läuft auf Linux, macOS und Windows.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
SCRIPTS = "Scripts" if os.name == "nt" else "bin"
LINKS = os.name != "nt"
BIN = VENV / SCRIPTS
ENVIRONMENTS = ROOT / ".environments"
UV = "uv==0.13.9"
# Jede Stufe enthält die vorige; die kleinste genügt, um das Buch zu bauen.
LAYERS = {
    "book": "requirements-book.txt",
    "all": "requirements.txt",
    "grading": "requirements-grading.txt",
    "checks": "requirements-checks.txt",
}
OLDEST, NEWEST = (3, 11, 5), (3, 13)
# Im Archiv für den Raum ohne Netz (tools/classroom.py) liegen die Pakete daneben.
WHEELHOUSE = ROOT / "wheelhouse"
SYSTEMS = {"linux": "linux", "darwin": "macos", "win32": "windows"}


def check_python() -> None:
    """Bricht mit einem Hinweis ab, wenn dieses Python nicht passt."""
    if not (sys.version_info[:3] >= OLDEST and sys.version_info[:2] <= NEWEST):
        found = ".".join(map(str, sys.version_info[:3]))
        sys.exit(
            f"Python {found} passt nicht: gebraucht wird 3.11.5 bis 3.13.\n"
            "Debian 13, Ubuntu 24.04: sudo apt install python3 python3-venv\n"
            "Anderes Linux: uv python install 3.13\n"
            "macOS: brew install python@3.13 · Windows: winget install Python.Python.3.13\n"
            "Danach: make serve PYTHON=python3.13 · Windows: py -3.13 tools/setup.py book"
        )
    wanted = WHEELHOUSE / "python"
    found = ".".join(map(str, sys.version_info[:2]))
    if wanted.exists() and (version := wanted.read_text().strip()) != found:
        sys.exit(
            f"Dieses Archiv enthält Pakete für Python {version}, dies ist {found}.\n"
            f"Abhilfe: python{version} tools/setup.py all\n"
            f"Windows: py -{version} tools/setup.py all"
        )
    try:
        import ensurepip  # noqa: F401 – Debian liefert es getrennt
    except ImportError:
        sys.exit("Das Modul venv fehlt. Debian/Ubuntu: sudo apt install python3-venv")


def uv_version() -> str:
    """Gibt die Version von uv in .venv zurück; leer, wenn es dort keines gibt."""
    try:
        done = subprocess.run([BIN / "uv", "--version"], capture_output=True, encoding="utf-8")
    except OSError:  # auch eines, das auf diesem Rechner nicht läuft
        return ""
    return done.stdout.removeprefix("uv ").partition(" ")[0].strip()


def sources() -> list[str]:
    """Sagt pip und uv, woher die Pakete kommen; ohne Ordner daneben aus dem Netz."""
    folder = WHEELHOUSE / SYSTEMS.get(sys.platform, sys.platform)
    return ["--no-index", "--find-links", str(folder)] if WHEELHOUSE.exists() else []


def install(layer: str) -> None:
    """Legt .venv an, falls nötig, und installiert die Stufe samt den vorigen."""
    found = uv_version()
    if not found:
        print("Umgebung .venv anlegen …", flush=True)
        # Wie python -m venv: Eine Kopie findet unter macOS ihre Bibliothek oft nicht.
        venv.create(VENV, with_pip=True, clear=True, symlinks=LINKS)
    if found != UV.partition("==")[2]:
        python = BIN / "python"
        command = [python, "-m", "pip", "install", "--quiet", "--no-input", *sources(), UV]
        subprocess.run(command, check=True)
    wanted = list(LAYERS)[: list(LAYERS).index(layer) + 1]
    # requirements.txt enthält requirements-book.txt: zweimal zu nennen schadet nicht.
    # Was alle benutzen, soll gleich schnell sein. Die großen Pakete der Kapitel übersetzt Python
    # beim ersten Import, und davon nur, was gebraucht wird.
    locks = [ROOT / LAYERS[name] for name in wanted]
    fill(VENV, locks, f"der Stufe „{layer}“", "--compile-bytecode")


def fill(environment: Path, locks: list[Path], what: str, *options: str) -> None:
    """Installiert die Pakete der Locks in eine Umgebung."""
    files = [argument for lock in locks for argument in ("-r", lock)]
    print(f"Pakete {what} installieren …", flush=True)
    started = time.monotonic()
    variables = {**os.environ, "VIRTUAL_ENV": str(environment), "UV_PYTHON_DOWNLOADS": "never"}
    # --no-deps: der Lock ist vollständig, nichts soll darüber hinaus dazukommen.
    command = [BIN / "uv", "pip", "install", "--no-deps", *options, "--quiet"]
    subprocess.run([*command, *sources(), *files], check=True, env=variables)
    collect_less_often(environment)
    print(f"Fertig nach {time.monotonic() - started:.0f} s.", flush=True)


def collect_less_often(environment: Path) -> None:
    """Lässt Python in dieser Umgebung seltener nach Objekten suchen, die niemand mehr braucht.

    Die Vorgabe sucht nach je 700 neuen, ab Python 3.13 nach je 2000. Beim Import großer Pakete
    bleiben sie alle in Gebrauch; die Suche kostet dort bis zu einem Viertel der Zeit, gemessen mit
    Python 3.11, und findet nichts. Am Ende sucht Python noch einmal und gibt einzeln frei, was
    mit dem Prozess ohnehin endet: wieder etwa ein Fünftel. `freeze` nimmt alles davon aus; als
    Erstes angemeldet, kommt es nach allem, was Pakete selbst noch aufräumen.
    """
    line = "import atexit, gc; gc.set_threshold(50_000); atexit.register(gc.freeze)\n"
    # Das Python der Umgebung weiß, wo ihre Pakete liegen; es kann ein anderes sein als dieses.
    code = "import sysconfig; from pathlib import Path; "
    code += "Path(sysconfig.get_path('purelib'), 'collect_less_often.pth')"
    code += f".write_text({line!r}, encoding='utf-8')"
    subprocess.run([environment / SCRIPTS / "python", "-c", code], check=True)


def install_chapter(slug: str) -> None:
    """Richtet die Umgebung eines Kapitels neu ein, samt Kernel, wenn sie einen hat."""
    if uv_version() != UV.partition("==")[2]:
        install("book")  # bringt uv mit
    if ENVIRONMENTS.is_symlink() and not ENVIRONMENTS.exists():
        ENVIRONMENTS.unlink()  # eine weitergegebene Fassung ohne Lösungen
    environment = ENVIRONMENTS / slug
    try:
        venv.create(environment, with_pip=False, clear=True, symlinks=LINKS)
        fill(environment, [ROOT / "examples" / slug / "requirements.txt"], f"des Kapitels {slug}")
    except BaseException:
        # Eine halbe Umgebung sähe für die Notebooks aus wie eine ganze.
        shutil.rmtree(environment, ignore_errors=True)
        raise
    python = environment / SCRIPTS / "python"
    if subprocess.run([python, "-c", "import ipykernel"], capture_output=True).returncode == 0:
        # Alle Kernel an einer Stelle; JUPYTER_PATH zeigt im Makefile dorthin.
        command = [python, "-m", "ipykernel", "install", "--prefix", ENVIRONMENTS, "--name", slug]
        command += ["--display-name", slug]
        with tempfile.TemporaryDirectory() as folder:  # `ipykernel` räumt seinen nur halb auf
            own = os.environ | dict.fromkeys(("TMPDIR", "TEMP", "TMP"), folder)
            subprocess.run(command, check=True, capture_output=True, env=own)


def main() -> None:
    """Prüft Python und installiert die genannte Stufe oder die Umgebung des Kapitels."""
    chapters = [path.parent.name for path in sorted(ROOT.glob("examples/*/requirements.txt"))]
    if len(sys.argv) != 2 or sys.argv[1] not in [*LAYERS, *chapters]:
        sys.exit(f"Aufruf: python tools/setup.py {' | '.join([*LAYERS, *chapters])}")
    check_python()
    try:
        (install if sys.argv[1] in LAYERS else install_chapter)(sys.argv[1])
    except subprocess.CalledProcessError:
        sys.exit("Die Installation ist gescheitert; der Grund steht darüber. Netz vorhanden?")


if __name__ == "__main__":
    main()
