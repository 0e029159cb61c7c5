"""Die Fassung für Studierende: ohne Lösungen, mit Prüfzellen, und nbgrader bewertet sie."""

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from traitlets.config import PyFileConfigLoader

import process
from needs import skip_or_fail
from notebook_files import files_named
from tools.student import COPIED, WHEELS, course, main, student, tags, without_solutions, write

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
RUN_ALL = re.compile("^Run All Cells$")
LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")


@pytest.fixture(scope="module", params=NOTEBOOKS, ids=lambda path: path.stem)
def pair(request):
    """Ein Notebook mit seinen Lösungen und dasselbe ohne."""
    original = nbformat.read(request.param, as_version=4)
    return original, without_solutions(original)


def test_no_solution_is_left(pair):
    original, made = pair
    solutions = [cell.source for cell in original.cells if "solution" in tags(cell)]
    left = nbformat.writes(made).replace('\\"', '"').replace("\\\\", "\\")
    kept = [cell.id for cell in original.cells if "solution" not in tags(cell)]
    assert solutions and [cell.id for cell in made.cells] == kept
    for source in solutions:
        # Zeilen, nicht Zellen: So fällt auch ein Rest in einer anderen Zelle auf.
        lines = [line for line in source.splitlines() if len(line) > 40]
        shared = "\n".join(c.source for c in original.cells if "solution" not in tags(c))
        assert not [line for line in lines if line in left and line not in shared]


def test_exercises_and_checks_are_left(pair):
    original, made = pair
    nbformat.validate(made)
    for tag in ("exercise", "check"):
        kept = [cell.source for cell in made.cells if tag in tags(cell)]
        assert kept == [cell.source for cell in original.cells if tag in tags(cell)] != []
    marked = [cell.metadata.nbgrader for cell in made.cells if "nbgrader" in cell.metadata]
    assert [mark.solution for mark in marked] == [True, False] * (len(marked) // 2)
    assert len({mark.grade_id for mark in marked}) == len(marked)


def test_outputs_end_where_the_exercise_begins(pair):
    _, made = pair
    first = next(n for n, cell in enumerate(made.cells) if "exercise" in tags(cell))
    before, after = made.cells[:first], made.cells[first:]
    assert any(cell.get("outputs") for cell in before)
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in after)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Der ganze Ordner für Studierende."""
    folder = tmp_path_factory.mktemp("ausgabe") / "student"
    student(NOTEBOOKS, folder)
    return folder


def test_folder_is_a_project_of_its_own(folder):
    done = subprocess.run(
        [sys.executable, "-c", "import process; print(process.ROOT)"],
        cwd=folder / "notebooks",
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(folder)
    assert not list(folder.rglob("answers.yml")) and not folder.with_suffix(".part").exists()


def test_folder_holds_what_the_notebooks_read_and_start(folder):
    for name in ("book", "examples", "tools", "tests"):
        here, there = (
            {path.relative_to(root) for path in (root / name).rglob("*.py")}
            for root in (ROOT, folder)
        )
        assert here and here == there
    named = {name for path in NOTEBOOKS for name in files_named(path)}
    missing = sorted(name for name in named if not (folder / name).exists())
    assert len(named) > 50 and not missing


def test_folder_uses_the_environments_and_packages_of_the_project(folder):
    assert (folder / ".environments").resolve() == ROOT / ".environments"
    for name in WHEELS:
        wheels = [path.name for path in (ROOT / name).glob("*.whl")]
        assert wheels and all((folder / name / wheel).is_file() for wheel in wheels)


def test_links_and_pictures_work_in_the_folder(folder):
    missing = []
    for path in (folder / "notebooks").glob("*.ipynb"):
        for cell in nbformat.read(path, as_version=4).cells:
            targets = LINK.findall(cell.source) if cell.cell_type == "markdown" else []
            missing += [(path.stem, t) for t in targets if not (path.parent / unquote(t)).exists()]
    assert not missing


def test_folder_in_use_is_one_sentence(monkeypatch):
    def locked(*_):
        raise PermissionError(13, "Zugriff verweigert")

    monkeypatch.setattr("tools.student.student", locked)
    monkeypatch.setattr(sys, "argv", ["student", "student"])
    with pytest.raises(SystemExit, match="Abhilfe: JupyterLab darin beenden"):
        main()


def test_writing_again_replaces_the_folder_and_a_failure_keeps_it(tmp_path):
    root, target, broken = tmp_path / "project", tmp_path / "student", tmp_path / "broken.ipynb"
    for name in COPIED:
        make = Path.mkdir if name in ("book", "examples", "tools", "tests") else Path.touch
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        make(root / name)
    (target / "notebooks").mkdir(parents=True)
    (target / "notebooks" / "old.ipynb").write_text("{}", encoding="utf-8")
    student(NOTEBOOKS[:1], target, root)
    assert [path.name for path in target.glob("notebooks/*.ipynb")] == [NOTEBOOKS[0].name]
    broken.write_text("{", encoding="utf-8")
    with pytest.raises(nbformat.reader.NotJSONError):
        student([broken], target, root)
    assert (target / "notebooks" / NOTEBOOKS[0].name).exists()
    # Was der abgebrochene Lauf liegen ließ, stört den nächsten nicht.
    student(NOTEBOOKS[1:2], target, root)
    assert [path.name for path in target.glob("notebooks/*.ipynb")] == [NOTEBOOKS[1].name]


CELLS = [
    ((), "import process\n\nprice = 2988"),
    (("exercise",), "doubled = None  # hier: verdoppeln"),
    (("solution", "hide-cell"), "doubled = 2 * price"),
    (("check", "hide-input"), 'assert doubled == 5976, "Noch nicht: Das ist nicht das Doppelte."'),
    ((), "process.ROOT.joinpath(f'clean-{doubled}').touch()\n'aufgeräumt'"),
]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    """Ein kleines Notebook mit einer Übung, in einem eigenen Projekt."""
    original = tmp_path_factory.mktemp("project") / "notebooks" / "tiny.ipynb"
    cells = [
        new_code_cell(source, id=f"c{n}", metadata={"tags": list(marks)})
        for n, (marks, source) in enumerate(CELLS)
    ]
    metadata = {"kernelspec": {"name": "python3", "display_name": "", "language": "python"}}
    write(new_notebook(cells=cells, metadata=metadata), original)
    shutil.copy(ROOT / "notebooks" / "process.py", original.parent)
    return original


@pytest.fixture(scope="module")
def graded(tiny) -> Path:
    """Ein Kurs mit dem kleinen Notebook, einer gelösten und einer offenen Abgabe, bewertet."""
    try:
        import nbgrader  # noqa: F401 – gehört zu einer eigenen Stufe
    except ImportError:
        skip_or_fail("nbgrader fehlt. Abhilfe: make course")
    folder = tiny.parents[1] / "_build" / "course"
    course([tiny], folder, ROOT / "tools" / "nbgrader_config.py")
    for name, answer in {"ada": "doubled = price + price", "bob": None}.items():
        handed_in = without_solutions(nbformat.read(tiny, as_version=4))
        handed_in.cells[1].source = answer or handed_in.cells[1].source
        write(handed_in, folder / "submitted" / name / "tiny" / "tiny.ipynb")
    for command in (["autograde", "tiny"], ["generate_feedback", "tiny"], ["export"]):
        program = Path(sys.executable).with_name("nbgrader")
        done = subprocess.run(
            [program, *command],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, done.stdout
    return folder


def test_course_hands_out_the_placeholder_without_the_solution(graded):
    released = (graded / "release" / "tiny" / "tiny.ipynb").read_text(encoding="utf-8")
    assert "hier: verdoppeln" in released and "2 * price" not in released


def test_solved_work_gets_the_point_and_open_work_none(graded):
    head, *rows = [line.split(",") for line in (graded / "grades.csv").read_text().splitlines()]
    rows = [dict(zip(head, row, strict=True)) for row in rows]
    scores = {row["student_id"]: (float(row["score"]), float(row["max_score"])) for row in rows}
    assert scores == {"ada": (1.0, 1.0), "bob": (0.0, 1.0)}


def test_open_work_runs_to_the_clean_up_and_says_why(graded):
    assert {path.name for path in graded.parent.parent.glob("clean-*")} == {
        "clean-5976",
        "clean-None",
    }
    feedback = (graded / "feedback" / "bob" / "tiny" / "tiny.html").read_text(encoding="utf-8")
    assert "Noch nicht: Das ist nicht das Doppelte." in feedback


def test_course_made_again_keeps_what_was_handed_in(graded, tiny):
    kept = [graded / "submitted" / "ada" / "tiny" / "tiny.ipynb", graded / "grades.csv"]
    kept += [graded / "feedback" / "bob" / "tiny" / "tiny.html", graded / "gradebook.db"]
    assert all(path.exists() for path in kept)
    course([tiny], graded, ROOT / "tools" / "nbgrader_config.py")
    assert [path.name for path in kept if not path.exists()] == []


@pytest.fixture(scope="module")
def lab(tiny, tmp_path_factory) -> Iterator[tuple[str, Path]]:
    """Ein JupyterLab im Ordner für Studierende, mit dem kleinen Notebook: (Adresse, Ordner)."""
    folder = tmp_path_factory.mktemp("lab") / "student"
    student([tiny], folder)
    options = ["--no-browser", "--allow-root", "--ip=127.0.0.1", "--port=8265"]
    options += ["--ServerApp.port_retries=0", "--IdentityProvider.token=", "--notebook-dir", folder]
    options += [
        "--LabApp.news_url=None",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]
    url = "http://127.0.0.1:8265"
    service = process.serve(["python", "-m", "jupyterlab", *options], f"{url}/api", timeout=120)
    yield url, folder
    service.stop()


def test_student_edition_opens_and_runs_in_jupyterlab(lab, browser):
    from playwright.sync_api import Error, expect

    url, folder = lab
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(120_000)
    page.goto(f"{url}/lab/tree/notebooks/tiny.ipynb")
    page.get_by_text("hier: verdoppeln").wait_for()
    # JupyterLab zeichnet die Zellen nacheinander.
    expect(page.get_by_text("'aufgeräumt'")).to_be_visible(timeout=120_000)
    hidden = page.locator(".jp-InputPlaceholder")
    expect(hidden, "Die Prüfzelle soll zugeklappt sein").to_have_count(1)
    found = page.locator(".jp-OutputArea-output", has_text="Noch nicht: Das ist")
    deadline = time.monotonic() + 120
    while not found.count():
        assert time.monotonic() < deadline, "Die Prüfzelle sagte nichts."
        # Auf einem vollen Rechner lässt sich der Eintrag zuerst noch nicht wählen.
        page.locator(".lm-MenuBar-item", has_text=re.compile("^Run$")).click()
        run = page.locator(".lm-Menu-item:not(.lm-mod-disabled)", has_text=RUN_ALL)
        with suppress(Error):
            run.click(timeout=1_000)
            found.wait_for(timeout=10_000)
        page.keyboard.press("Escape")
    # Die Zelle nach der offenen Übung lief auch noch.
    while not (folder / "clean-None").exists():
        assert time.monotonic() < deadline, "Die letzte Zelle lief nicht."
        page.wait_for_timeout(100)
    page.close()


@pytest.mark.parametrize("between", ["_", "/", "_/"])
def test_submission_from_moodle_keeps_person_and_name(between):
    loaded = PyFileConfigLoader("nbgrader_config.py", path=str(ROOT / "tools")).load_config()
    name = f"/korb/Ada Lovelace_123_assignsubmission_file{between}flask_service.ipynb"
    found = re.match(loaded.FileNameCollectorPlugin.named_regexp, name)
    assert (found["student_id"], found["file_id"]) == ("123", "flask_service")
