"""Aus der Vorlage ein echtes Git-Repository mit DVC anlegen.

Anlegen: `python -m examples.versioning_git_dvc.project create ORDNER`
Liefern: `python -m examples.versioning_git_dvc.project deliver ORDNER november`
Das Projekt liegt danach in ORDNER/project, der Speicher von DVC in ORDNER/remote.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from examples.price_model.data import load_diamonds
from examples.versioning_git_dvc.sealed import SealError, environment

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = Path(__file__).parent / "template"
SLUG = Path(__file__).parent.name
# Im Oktober lag erst ein Teil der Steine vor, seit November sind es alle.
DELIVERIES = {"october": 40_000, "november": None}


class ProjectError(RuntimeError):
    """Das Projekt lässt sich hier nicht anlegen."""


def dvc() -> list[str]:
    """Gibt den Anfang jedes DVC-Befehls zurück; DVC lebt in einer eigenen Umgebung."""
    python = ROOT / ".environments" / SLUG / ("Scripts" if os.name == "nt" else "bin") / "python"
    if not shutil.which(python):
        raise ProjectError(f"Es fehlt die Umgebung. Abhilfe: python tools/setup.py {SLUG}")
    return [str(python), "-m", "dvc"]


def deliver(project: Path, month: str) -> int:
    """Schreibt die Lieferung eines Monats nach data/stones.csv; gibt die Zahl der Steine zurück."""
    if not (project / "data").is_dir():
        raise ProjectError(f"In {project.name}/ gibt es kein data/: erst create, dann deliver.")
    table, _ = load_diamonds()
    if rows := DELIVERIES[month]:
        table = table.sample(rows, random_state=0).sort_index()
    table.to_csv(project / "data" / "stones.csv", index=False, lineterminator="\n")
    return len(table)


def run(folder: Path, month: str, *commands: list[str]) -> None:
    """Führt Befehle im Ordner aus, abgeschottet; scheitert einer, folgt `ProjectError`."""
    variables = {**os.environ, **environment(folder.parent, month)}
    for command in commands:
        if shutil.which(command[0], path=variables["PATH"]) is None:
            raise ProjectError(f"Das Programm {Path(command[0]).name} ist nicht installiert.")
        done = subprocess.run(
            command, cwd=folder, env=variables, capture_output=True, encoding="utf-8"
        )
        if done.returncode:
            said = f"{done.stdout}{done.stderr}".strip()
            raise ProjectError(f"{' '.join(command[-3:])} endete mit {done.returncode}:\n{said}")


def create(folder: Path) -> Path:
    """Legt das Projekt samt erstem Commit an; scheitert etwas, bleibt davon nichts übrig."""
    project = folder.resolve() / "project"
    environment(folder)  # zuerst: Gilt sie einem anderen Repository, entsteht nichts
    if project.exists():
        raise ProjectError(f"{project.name}/ gibt es schon.")
    try:
        shutil.copytree(TEMPLATE, project, ignore=shutil.ignore_patterns(".dvc", "__pycache__"))
        (project / "data").mkdir()
        deliver(project, "october")
        # Das Projekt bringt den Code des Modells mit: Nur so gehört er zur Version.
        (project / "examples" / "price_model").mkdir(parents=True)
        for path in [ROOT / "examples/__init__.py", *(ROOT / "examples/price_model").glob("*.py")]:
            shutil.copy(path, project / path.relative_to(ROOT))
        shutil.copy(ROOT / "requirements.txt", project)
        start = [["git", "init", "--quiet", "--initial-branch=main"], [*dvc(), "init", "--quiet"]]
        run(project, "october", *start)
        shutil.copy(TEMPLATE / ".dvc" / "config", project / ".dvc")
        run(
            project,
            "october",
            [*dvc(), "add", "--quiet", "data/stones.csv"],
            ["git", "add", "."],
            ["git", "commit", "--quiet", "--message=Projekt mit den Steinen vom Oktober"],
        )
    except BaseException:  # auch von Hand abgebrochen
        shutil.rmtree(project, ignore_errors=True)
        raise
    return project


def release(project: Path, month: str, version: str) -> None:
    """Trainiert mit der Lieferung des Monats, legt Commit und Tag an und schiebt die Daten hoch."""
    deliver(project, month)
    params = project / "params.yaml"
    text = params.read_text(encoding="utf-8")
    changed = re.sub(r"^model_version: .*", f"model_version: {version}", text, flags=re.MULTILINE)
    params.write_text(changed, encoding="utf-8")
    run(
        project,
        month,
        [*dvc(), "add", "--quiet", "data/stones.csv"],
        [*dvc(), "repro", "--quiet"],
        ["git", "add", "."],
        ["git", "commit", "--quiet", f"--message=Modell {version}"],
        ["git", "tag", f"v{version}"],
        [*dvc(), "push", "--quiet"],
    )


def restore(project: Path, version: str) -> Path:
    """Klont den Stand des Tags neben das Projekt und holt, was DVC dazu gespeichert hat."""
    clone = project.parent / f"restored-{version}"
    run(
        project, "november", ["git", "clone", "--quiet", "--branch", f"v{version}", ".", str(clone)]
    )
    run(clone, "november", [*dvc(), "pull", "--quiet"])
    return clone


def main() -> int:
    """Führt einen der beiden Befehle aus und sagt in einer Zeile, was geschah."""
    parser = argparse.ArgumentParser(description="Projekt mit Git und DVC")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("create").add_argument("folder", type=Path)
    delivery = commands.add_parser("deliver")
    delivery.add_argument("folder", type=Path)
    delivery.add_argument("month", choices=DELIVERIES)
    options = parser.parse_args()
    try:
        if options.command == "create":
            print(f"Angelegt: {create(options.folder).name}/ mit einem Commit.")
        else:
            print(f"data/stones.csv: {deliver(options.folder / 'project', options.month)} Steine.")
    except (ProjectError, SealError, OSError) as error:
        print(f"Fehler: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Fehler: Von Hand abgebrochen.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
