"""Stempel und Stand: Was ein Lauf belegt und was nicht."""

import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

import runs

ROOT = Path(__file__).resolve().parent.parent
REPORT = """<testsuites><testsuite>
<testcase classname="notebooks.good.ipynb" name="Cell 0" />
<testcase classname="notebooks.good.ipynb" name="Cell 1" />
<testcase classname="notebooks.bad.ipynb" name="Cell 0" />
<testcase classname="notebooks.bad.ipynb" name="Cell 1">
<failure message="m">falsch</failure></testcase>
<testcase classname="" name="notebooks/broken.ipynb"><error message="m">unlesbar</error></testcase>
</testsuite></testsuites>"""


@pytest.fixture(scope="module")
def freshness():
    """Die Erweiterung des Buches."""
    sys.path.append(str(ROOT / "book" / "_ext"))
    import freshness

    return freshness


@pytest.fixture
def tree(tmp_path, monkeypatch) -> Path:
    """Ein Projekt mit einem Notebook, das eine eigene Umgebung ruft."""
    for name in ("notebooks", "examples/own", "examples/behind", "_build"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "notebooks" / "process.py").touch()
    (tmp_path / "examples" / "own" / "app.py").write_text("import examples.behind.model\n")
    (tmp_path / "examples" / "behind" / "model.py").touch()
    monkeypatch.setattr(runs, "RUNS", tmp_path / "_build" / "runs")
    (tmp_path / "examples" / "own" / "requirements.in").write_text("dvc>=3\n", encoding="utf-8")
    lock = tmp_path / "examples" / "own" / "requirements.txt"
    lock.write_text("dvc==3.67.1\nnumpy==2.4.6\n", encoding="utf-8")
    common = "numpy==2.4.6 ; python_version < '3.12'\nnumpy==2.5.5 ; python_version >= '3.12'\n"
    # Das SDK heißt wie das Programm, von dem die letzte Zelle spricht.
    common += "typing-extensions==4.9\nscipy==1.18\ndocker==7.2.0\n"
    (tmp_path / "requirements.txt").write_text(common, encoding="utf-8")
    cell = new_code_cell("# python:own -m examples.own.app", execution_count=1)
    cell.metadata["tags"] = ["versions"]
    said = "{'dvc': '3.0', 'numpy': '2.5.5', 'typing_extensions': '4.8', 'docker': '28.2'}"
    cell.outputs = [new_output("execute_result", {"text/plain": said}, execution_count=1)]
    content = new_notebook(cells=[cell], metadata={"requires": ["docker"]})
    nbformat.write(content, tmp_path / "notebooks" / "good.ipynb")
    return tmp_path


@pytest.fixture
def notebook(tree) -> Path:
    return tree / "notebooks" / "good.ipynb"


def run(outcome: str, day: int, digest: str) -> dict:
    """Ein hinterlegter Lauf."""
    chapters = {"good": {"outcome": outcome, "digest": digest}}
    return {"finished": f"2020-01-0{day}T00:00:00+00:00", "url": "", "chapters": chapters}


def test_outcomes_come_from_the_reports(tree, notebook):
    report = tree / "report.xml"
    report.write_text(REPORT, encoding="utf-8")
    names = ("good", "bad", "broken", "never_ran", "skipped")
    paths = [notebook.with_name(f"{name}.ipynb") for name in names]
    for path in paths[1:]:
        path.write_bytes(notebook.read_bytes())
    found = runs.outcomes(paths[:4], paths[4:], [report])
    assert {slug: chapter["outcome"] for slug, chapter in found.items()} == {
        "good": "green",
        "bad": "red",
        "broken": "red",
        "never_ran": "red",
        "skipped": "skipped",
    }


def test_run_is_stored_with_its_address_only_on_github(tree, monkeypatch):
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    runs.write({})
    assert runs.read()[0]["url"] == ""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_SERVER_URL", "https://github.example")
    monkeypatch.setenv("GITHUB_REPOSITORY", "ada/buch")
    monkeypatch.setenv("GITHUB_RUN_ID", "7")
    assert runs.origin()["url"] == "https://github.example/ada/buch/actions/runs/7"


@pytest.mark.parametrize(
    "changed",
    [
        "notebooks/good.ipynb",
        "requirements.txt",
        "examples/own/requirements.txt",
        "notebooks/process.py",
        "examples/own/app.py",
        "examples/behind/model.py",  # von app.py importiert
    ],
)
def test_run_no_longer_counts_after_a_change(tree, notebook, freshness, changed):
    stored = [run("green", 1, runs.digest(notebook))]
    assert "green" in freshness.last_runs("good", runs.digest(notebook), stored)
    text = (tree / changed).read_text(encoding="utf-8")
    (tree / changed).write_text(text + "\n", encoding="utf-8")
    assert freshness.last_runs("good", runs.digest(notebook), stored) == {}


@pytest.mark.parametrize(
    "name", ["Dockerfile", "a.yaml", "a.yml", "nginx.conf", "haproxy.cfg", "x.json", "a.sh"]
)
def test_run_no_longer_counts_after_a_change_that_is_not_python(tree, notebook, name):
    (tree / "examples" / "own" / name).write_text("alt\n", encoding="utf-8")
    before = runs.digest(notebook)
    (tree / "examples" / "own" / name).write_text("neu\n", encoding="utf-8")
    assert runs.digest(notebook) != before


def test_every_file_of_an_example_counts():
    listed = subprocess.run(
        ["git", "ls-files", "examples"], cwd=ROOT, capture_output=True, encoding="utf-8"
    )
    assert listed.stdout
    for notebook in ROOT.glob("notebooks/*.ipynb"):
        folder = f"examples/{notebook.stem}/"
        # Aus *.in entsteht der Lock, und der zählt.
        own = [name for name in listed.stdout.splitlines() if name.startswith(folder)]
        counted = {path.relative_to(ROOT).as_posix() for path in runs.sources(notebook)}
        missing = {name for name in own if not name.endswith(".in")} - counted
        assert not missing, notebook.stem


def test_newest_run_comes_first_wherever_it_lies(tree, monkeypatch):
    # Heruntergeladene Läufe liegen in eigenen Ordnern.
    for day, folder in ((2, "b"), (3, "a"), (1, "c")):
        monkeypatch.setattr(runs, "origin", lambda day=day: {"finished": f"2020-01-0{day}T00"})
        monkeypatch.setattr(runs, "RUNS", tree / "_build" / "runs" / folder)
        runs.write({})
    monkeypatch.setattr(runs, "RUNS", tree / "_build" / "runs")
    assert [run["finished"][9] for run in runs.read()] == ["3", "2", "1"]


@pytest.mark.parametrize(
    ("outcomes", "colour", "text"),
    [
        ([], "none", "liegt kein Prüflauf vor"),
        (["skipped"], "none", "liegt kein Prüflauf vor"),
        (["green"], "green", "1. Januar 2020, auf diesem Rechner"),
        (["green", "skipped"], "green", "1. Januar 2020"),
        (["green", "red"], "red", "1. Januar 2020, auf diesem Rechner; zuletzt rot am 2. Januar"),
        (["red"], "red", "zuletzt rot am 1. Januar 2020"),
        (["red", "green"], "green", "2. Januar 2020"),
    ],
)
def test_only_a_green_run_makes_a_green_stamp(freshness, outcomes, colour, text):
    stored = [run(outcome, day, "x") for day, outcome in enumerate(outcomes, 1)][::-1]
    status = {"runs": freshness.last_runs("good", "x", stored)}
    content, found = freshness.last_green(status)
    assert found == colour
    assert text in "".join(node.astext() for node in content)


def test_newest_versions_count_only_for_this_text(freshness, notebook, monkeypatch):
    env = SimpleNamespace(found_docs={"notebooks/good"}, doc2path=lambda _: notebook)
    monkeypatch.setattr(freshness, "LATEST", notebook.parent / "latest.json")
    monkeypatch.setattr(runs, "read", list)

    def collected(text: str) -> dict | None:
        freshness.LATEST.write_text(text, encoding="utf-8")
        changed = freshness.collect(None, env, set(), set(), set())
        assert freshness.collect(None, env, set(), set(), set()) == [], "Zweimal dasselbe"
        assert changed == ["notebooks/good"]
        return env.freshness["chapters"]["notebooks/good"]["latest"]

    tried = {"outcome": "green", "digest": runs.digest(notebook)}
    assert collected(json.dumps({"chapters": {"good": tried}})) == tried
    assert collected(json.dumps({"chapters": {"good": tried | {"digest": "alt"}}})) is None
    with pytest.raises(freshness.ExtensionError, match="Abhilfe: make clean"):
        collected("{")


@pytest.mark.parametrize(
    ("result", "colour", "said"),
    [
        ("green", "green", "läuft"),
        ("red", "red", "bricht. Zelle [2]"),
        ("skipped", "none", "übersprungen, es fehlt Zelle [2]"),
    ],
)
def test_result_with_the_newest_versions_has_its_colour(freshness, result, colour, said):
    entry = {"finished": "2020-01-01T00:00:00+00:00", "url": ""}
    content, found = freshness.newest(entry | {"outcome": result, "where": "Zelle [2]"})
    assert found == colour
    assert "".join(node.astext() for node in content).endswith(said)
    assert freshness.newest(None)[1] == "none"


def test_date_links_to_the_run(freshness):
    (link,) = freshness.day({"finished": "2020-01-01T00:00:00+00:00", "url": "https://x.example/7"})
    assert link["refuri"] == "https://x.example/7" and link.astext() == "1. Januar 2020 (zum Lauf)"


def test_versions_come_from_the_locks_that_apply(freshness, notebook):
    assert freshness.taught(notebook) == {
        "dvc": "3.67.1",
        "numpy": "2.5.5",
        "typing_extensions": "4.9",
        "docker": "28.2",
    }


def test_every_requirement_a_notebook_may_have_has_a_name(freshness):
    from tools.run_nbval import REQUIREMENTS

    assert set(freshness.TOOLS) == set(REQUIREMENTS)


def test_repository_holds_no_result_of_a_run():
    assert runs.RUNS.is_relative_to(ROOT / "_build")
    assert "_build/" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    page = (ROOT / "book" / "anhang" / "stand.md").read_text(encoding="utf-8")
    assert not re.search(r"\d", page), "Auf der Seite „Stand“ ist keine Zahl getippt"
