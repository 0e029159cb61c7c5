"""Jedes Kapitel mit den neuesten Versionen prüfen: `make latest`.

Arbeitet auf einer Kopie unter _build/latest; Umgebung und Modell des Projekts bleiben, wie
sie sind. Ausgaben werden nicht verglichen, die asserts in den Zellen und der Vertrag gelten.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TREE = ROOT / "_build" / "latest"
RESULTS = ROOT / "_build" / "latest.json"
UV = Path(sys.executable).parent / "uv"
SHOWN_LINES = 40


def prepare() -> Path:
    """Kopiert das Projekt, richtet darin die neuesten Versionen ein; gibt deren Python zurück."""
    shutil.rmtree(TREE, ignore_errors=True)
    ignored = (".git", ".venv", "_build", "node_modules", "__pycache__", "artifacts", ".hypothesis")
    shutil.copytree(ROOT, TREE, ignore=shutil.ignore_patterns(*ignored))
    environment = TREE / ".venv"
    subprocess.run([UV, "venv", "--quiet", "--seed", "-p", sys.executable, environment], check=True)
    python = environment / "bin" / "python"
    # Die *.in statt des Locks: ihre Obergrenzen gelten, sonst kommt das Neueste.
    install = [UV, "pip", "install", "--quiet", "--compile-bytecode", "--python", python]
    install += ["--override", "tools/overrides.txt", "-r", "requirements.in"]
    subprocess.run(install, cwd=TREE, check=True)
    subprocess.run([python, "-m", "examples.price_model.train"], cwd=TREE, check=True)
    return python


def newer(python: Path) -> list[str]:
    """Nennt, was gegenüber dem Lock eine andere Version hat."""
    locked = set((ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines())
    freeze = [UV, "pip", "freeze", "--python", python]
    found = subprocess.run(freeze, capture_output=True, encoding="utf-8", check=True).stdout
    exact = {line.split(" ;")[0] for line in locked}
    return sorted(set(found.splitlines()) - exact)


def failure(python: Path, slug: str) -> str:
    """Führt Notebook, Test und Vertrag eines Kapitels aus; gibt zurück, was scheiterte."""
    pytest = [python, "-m", "pytest", "-q", "-W", "default"]
    for command in (
        [python, "tools/run_nbval.py", "--lax", f"notebooks/{slug}.ipynb"],
        [*pytest, f"tests/examples/test_{slug}.py"],
        [*pytest, "tests/test_contract.py", "-k", slug],
    ):
        done = subprocess.run(
            command, cwd=TREE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8"
        )
        if done.returncode:
            shown = " ".join(str(part) for part in command[1:])
            return "\n".join([f"$ python {shown}", *done.stdout.splitlines()[-SHOWN_LINES:]])
    return ""


def main() -> int:
    """Prüft alle Kapitel und schreibt _build/latest.json; 1, wenn eines nicht läuft."""
    python = prepare()
    failures = {}
    for path in sorted((TREE / "notebooks").glob("*.ipynb")):
        failures[path.stem] = failure(python, path.stem)
        print(f"{path.stem:<30} {'rot' if failures[path.stem] else 'grün'}", flush=True)
    result = {"newer": newer(python), "failures": failures}
    RESULTS.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return int(any(failures.values()))


if __name__ == "__main__":
    sys.exit(main())
