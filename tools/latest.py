"""Jedes Kapitel mit den neuesten Versionen prüfen: `make latest`.

Arbeitet auf einer Kopie unter _build/latest; Umgebung und Modell des Projekts bleiben, wie
sie sind. Ausgaben werden nicht verglichen, die asserts in den Zellen und der Vertrag gelten.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from run_nbval import metadata

ROOT = Path(__file__).resolve().parent.parent
TREE = ROOT / "_build" / "latest"
RESULTS = ROOT / "_build" / "latest.json"
UV = Path(sys.executable).parent / "uv"
SCRIPTS = "Scripts" if os.name == "nt" else "bin"
SHOWN_LINES = 40


def install(environment: Path, inputs: Path) -> list[list]:
    """Befehle, die eine Umgebung mit den neuesten erlaubten Versionen anlegen."""
    venv = [UV, "venv", "--quiet", "--seed", "-p", sys.executable, environment]
    # Die *.in statt des Locks: ihre Obergrenzen gelten, sonst kommt das Neueste.
    fill = [UV, "pip", "install", "--quiet", "--compile-bytecode"]
    fill += ["--python", environment / SCRIPTS / "python"]
    return [venv, [*fill, "--override", "tools/overrides.txt", "-r", inputs]]


def own_environment(notebook: Path) -> list[list]:
    """Befehle, die ein Kapitel mit eigener Umgebung einrichten; für alle anderen keine."""
    folder = TREE / "examples" / notebook.stem
    if not (folder / "requirements.in").exists():
        return []
    environments = TREE / ".environments"
    python = environments / notebook.stem / SCRIPTS / "python"
    commands = install(environments / notebook.stem, folder / "requirements.in")
    if metadata(notebook).get("environment"):
        kernel = ["ipykernel", "install", "--prefix", environments, "--name", notebook.stem]
        commands.append([python, "-m", *kernel])
    if (folder / "train.py").exists():
        commands.append([python, "-m", f"examples.{notebook.stem}.train"])
    return commands


def prepare() -> Path:
    """Kopiert das Projekt, richtet darin die neuesten Versionen ein; gibt deren Python zurück."""
    shutil.rmtree(TREE, ignore_errors=True)
    ignored = (".git", ".venv", ".environments", "_build", "node_modules", "__pycache__")
    ignored += ("artifacts", ".hypothesis")
    shutil.copytree(ROOT, TREE, ignore=shutil.ignore_patterns(*ignored))
    environment = TREE / ".venv"
    python = environment / SCRIPTS / "python"
    train = [python, "-m", "examples.price_model.train"]
    for command in [*install(environment, TREE / "requirements.in"), train]:
        subprocess.run(command, cwd=TREE, check=True)
    return python


def newer() -> list[str]:
    """Nennt, was gegenüber den Locks eine andere Version hat."""
    found = set()
    for environment in (TREE / ".venv", *(TREE / ".environments").glob("*")):
        folder = TREE if environment.name == ".venv" else TREE / "examples" / environment.name
        python = environment / SCRIPTS / "python"
        if not python.exists():
            continue
        lock = (folder / "requirements.txt").read_text(encoding="utf-8").splitlines()
        freeze = [UV, "pip", "freeze", "--python", python]
        done = subprocess.run(freeze, capture_output=True, encoding="utf-8", check=True)
        found |= set(done.stdout.splitlines()) - {line.split(" ;")[0] for line in lock}
    return sorted(found)


def checks(python: Path, notebook: Path) -> list[list]:
    """Befehle, die Notebook, Test und Vertrag eines Kapitels ausführen."""
    pytest = [python, "-m", "pytest", "-q", "-W", "default"]
    return [
        [python, "tools/run_nbval.py", "--lax", notebook],
        [*pytest, f"tests/examples/test_{notebook.stem}.py"],
        [*pytest, "tests/test_contract.py", "-k", notebook.stem],
    ]


def failure(commands: list[list]) -> str:
    """Führt Befehle aus, bis einer scheitert; gibt zurück, was er zuletzt sagte."""
    for command in commands:
        done = subprocess.run(
            command, cwd=TREE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8"
        )
        if done.returncode:
            program, *arguments = command
            shown = " ".join([Path(program).name, *map(str, arguments)])
            return "\n".join([f"$ {shown}", *done.stdout.splitlines()[-SHOWN_LINES:]])
    return ""


def main() -> int:
    """Prüft alle Kapitel und schreibt _build/latest.json; 1, wenn eines nicht läuft."""
    python = prepare()
    paths = sorted((TREE / "notebooks").glob("*.ipynb"))
    # Zuerst alle Umgebungen: Das Museum bei pickle öffnet auch, was TensorFlow braucht.
    failures = {path.stem: failure(own_environment(path)) for path in paths}
    for path in paths:
        failures[path.stem] = failures[path.stem] or failure(checks(python, path))
        print(f"{path.stem:<30} {'rot' if failures[path.stem] else 'grün'}", flush=True)
    result = {"newer": newer(), "failures": failures}
    RESULTS.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return int(any(failures.values()))


if __name__ == "__main__":
    sys.exit(main())
