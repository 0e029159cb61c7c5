"""Die Fassung für Studierende und der Kurs für nbgrader, beide aus den Notebooks mit Lösung.

Aufruf: `python -m tools.student student | course`, am einfachsten mit make student und make course
"""

import os
import shutil
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import nbformat
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parent.parent
STUDENT, COURSE = ROOT / "_build" / "student", ROOT / "_build" / "course"
# Was die Notebooks lesen, starten oder verlinken, und was `make lab` im neuen Ordner braucht.
COPIED = [
    *("book", "examples", "tools", "tests"),
    *("notebooks/process.py", "notebooks/guard.py", "notebooks/matplotlibrc"),
    *("Makefile", "pyproject.toml", "package.json", "package-lock.json"),
    *("LICENSE", "LICENSE-TEXT.md", "_config.yml", "_toc.yml"),
    *("requirements.txt", "requirements-book.txt", "requirements-grading.txt"),
    ".ipython/profile_default/ipython_kernel_config.py",
    *(".dockerignore", ".gitignore", ".github/workflows/check.yml"),
    *(".ci/kind", ".ci/kubernetes/kind.yaml"),
]
LEFT_OUT = shutil.ignore_patterns(
    *("__pycache__", "node_modules", "wheels", "artifacts.*.new", "artifacts.*.old"),
    # Hier stehen die richtigen Antworten.
    "answers.yml",
)
# Die Pakete der Images sind groß und ändern sich nicht: ein zweiter Name statt einer Kopie.
WHEELS = ("examples/docker_image/wheels", "examples/compose_stack/registry/wheels")


def tags(cell: NotebookNode) -> list[str]:
    """Markierungen einer Zelle."""
    return cell.metadata.get("tags", [])


def graded(cell: NotebookNode, points: int) -> dict:
    """Angaben für nbgrader; wer keine Punkte gibt, ist die Zelle für die Antwort."""
    return {
        "grade_id": cell.id,
        "schema_version": 3,
        "cell_type": "code",
        "grade": bool(points),
        "locked": bool(points),
        "solution": not points,
        "task": False,
        **({"points": points} if points else {}),
    }


def without_solutions(notebook: NotebookNode) -> NotebookNode:
    """Gibt die Fassung für Studierende zurück; `notebook` bleibt, wie es war.

    Ausgaben vor der ersten Übung bleiben: Sie gehören zum Text, auch wo Docker oder ein Cluster
    fehlt. Danach fehlen sie, denn sie zeigen einen gelösten Stand.
    """
    made = nbformat.from_dict(notebook)
    made.cells = [cell for cell in made.cells if "solution" not in tags(cell)]
    first = next(n for n, cell in enumerate(made.cells) if "exercise" in tags(cell))
    for cell in made.cells[first:]:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            cell.metadata.pop("output_of", None)
        if "exercise" in tags(cell):
            cell.metadata["nbgrader"] = graded(cell, points=0)
        if "check" in tags(cell):
            cell.metadata["nbgrader"] = graded(cell, points=1)
            # Zugeklappt verrät sie nichts, und „Alle Zellen ausführen“ läuft bis zum Aufräumen.
            cell.metadata.update(deletable=False, editable=False, jupyter={"source_hidden": True})
            cell.metadata["tags"] = ["check", "raises-exception"]
    return made


def with_solution_regions(notebook: NotebookNode) -> NotebookNode:
    """Gibt die Fassung zurück, aus der nbgrader einen Kurs macht: Die Lösung steht in der Übung."""
    made, exercise = without_solutions(notebook), None
    answers = {cell.id: cell for cell in made.cells}
    for cell in notebook.cells:
        if "exercise" in tags(cell):
            exercise = answers[cell.id]
            exercise.source += "\n### BEGIN SOLUTION\n### END SOLUTION"
        elif "solution" in tags(cell) and cell.cell_type == "code":
            body, end = exercise.source.rsplit("\n", 1)
            exercise.source = "\n".join([body, cell.source, end])
    return made


def write(made: NotebookNode, path: Path) -> None:
    """Schreibt ein Notebook in der Form, in der alle gespeichert sind."""
    # Erst hier: Der Bau der Seite braucht nur without_solutions, und ihm fehlt nbval.
    from tools.save_notebooks import text

    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text(made), encoding="utf-8", newline="\n")


def link(source: str, target: str) -> None:
    """Gibt der Datei einen zweiten Namen; auf einem anderen Laufwerk wird es eine Kopie."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def student(notebooks: Iterable[Path], folder: Path, root: Path = ROOT) -> None:
    """Legt das ganze Projekt ohne Lösungen an; ein alter Ordner weicht erst dem fertigen."""
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    for name in COPIED:
        (part / name).parent.mkdir(parents=True, exist_ok=True)
        if (root / name).is_dir():
            shutil.copytree(root / name, part / name, ignore=LEFT_OUT)
        else:
            shutil.copy2(root / name, part / name)
    # Das README des Projekts nennt Ziele, die es hier nicht gibt.
    shutil.copy2(ROOT / "tools" / "student.md", part / "README.md")
    for name in WHEELS:
        if (root / name).is_dir():
            shutil.copytree(root / name, part / name, copy_function=link)
    with suppress(OSError):  # unter Windows darf das nicht jeder
        (part / ".environments").symlink_to(root / ".environments", target_is_directory=True)
    for path in notebooks:
        made = without_solutions(nbformat.read(path, as_version=4))
        write(made, part / "notebooks" / path.name)
    old = folder.with_name(f"{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)  # scheitert unter Windows, solange JupyterLab darin offen ist
    part.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def course(notebooks: Iterable[Path], folder: Path, config: Path) -> None:
    """Legt einen Kurs an, je Kapitel eine Aufgabe; Abgaben und Noten darin bleiben liegen."""
    from nbgrader.apps import NbGraderAPI
    from traitlets.config import PyFileConfigLoader

    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(config, folder / "nbgrader_config.py")
    loaded = PyFileConfigLoader("nbgrader_config.py", path=str(folder)).load_config()
    api = NbGraderAPI(config=loaded)
    for path in notebooks:
        made = with_solution_regions(nbformat.read(path, as_version=4))
        write(made, folder / "source" / path.stem / path.name)
        done = api.generate_assignment(path.stem)
        if not done["success"]:
            sys.exit(f"{path.name}: nbgrader nimmt die Aufgabe nicht an.\n{done['log']}")


def main() -> None:
    """Legt an, was genannt ist, und sagt, wie es weitergeht."""
    notebooks = sorted((ROOT / "notebooks").glob("*.ipynb"))
    match sys.argv[1:]:
        case ["student"]:
            try:
                student(notebooks, STUDENT)
            except PermissionError:
                sys.exit("Der Ordner ist noch in Gebrauch. Abhilfe: JupyterLab darin beenden")
            print(f"{len(notebooks)} Notebooks ohne Lösungen: {STUDENT.relative_to(ROOT)}")
            print("Öffnen: make lab FOLDER=_build/student; ohne make: book/anhang/uebungen.md")
        case ["course"]:
            try:
                course(notebooks, COURSE, ROOT / "tools" / "nbgrader_config.py")
            except ImportError:
                sys.exit("nbgrader fehlt. Abhilfe: make course richtet es ein")
            print(f"Kurs mit {len(notebooks)} Aufgaben: {COURSE.relative_to(ROOT)}")
        case _:
            sys.exit("Aufruf: `python -m tools.student student | course`")


if __name__ == "__main__":
    main()
