"""Kapitel mit eigener Umgebung: eingerichtet, benutzt, und wenn sie fehlt, gesagt."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from contract import require_environment

ROOT = Path(__file__).resolve().parent.parent
SLUG = "tiny_model"
NOTEBOOK = f"notebooks/{SLUG}.ipynb"
COPIED = [
    "Makefile",
    "pyproject.toml",
    ".ipython/profile_default/ipython_kernel_config.py",
    "notebooks/conftest.py",
    "notebooks/process.py",
    "tests/nbval.cfg",
    "tools/latest.py",
    "tools/run_gates.py",
    "tools/run_nbval.py",
    "tools/save_notebooks.py",
    "tools/setup.py",
]


def load(path: Path):
    """Importiert ein Werkzeug des kleinen Baums, ohne das des Projekts zu verdrängen."""
    spec = importlib.util.spec_from_file_location(f"tiny_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def borrow(environment: Path, *arguments: object) -> None:
    """Leiht sich die Pakete dieser Umgebung, statt sie aus dem Netz zu holen."""
    (packages,) = environment.rglob("site-packages")
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def ready(tmp_path_factory) -> Path:
    """Ein Baum mit einem Notebook, dessen Umgebung tools/setup.py eingerichtet hat."""
    tree = tmp_path_factory.mktemp("buch")
    for name in COPIED:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tree / name)
    (tree / "examples" / SLUG).mkdir(parents=True)
    for name in ("requirements.in", "requirements.txt", "train.py"):
        (tree / "examples" / SLUG / name).touch()
    source = "import sys\nfrom pathlib import Path\n\nPath(sys.prefix).name"
    notebook = new_notebook(cells=[new_code_cell(source, id="c0")])
    notebook.metadata["environment"] = SLUG
    nbformat.write(notebook, tree / NOTEBOOK)
    setup = load(tree / "tools" / "setup.py")
    # Das Programm `uv` liegt in der Umgebung des Projekts, die der kleine Baum nicht hat.
    setup.BIN, setup.fill = ROOT / ".venv" / setup.SCRIPTS, borrow
    setup.install_chapter(SLUG)
    done = run(tree, "tools/save_notebooks.py", NOTEBOOK)
    assert done.returncode == 0, done.stdout
    return tree


@pytest.fixture
def missing(ready, tmp_path) -> Path:
    """Derselbe Baum auf einem Rechner, auf dem die Umgebung noch fehlt."""
    without = shutil.ignore_patterns(".environments", "__pycache__")
    return shutil.copytree(ready, tmp_path / "buch", ignore=without)


def run(tree: Path, *command: str, **variables: str) -> subprocess.CompletedProcess:
    """Führt ein Programm dieser Umgebung im Baum aus, als liefe es nicht in CI."""
    dropped = ("PYTEST_", "IPYTHONDIR", "JUPYTER_", "MAKE", "MFLAGS")
    keep = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    keep.pop("CI", None)
    return subprocess.run(
        [sys.executable, *command],
        cwd=tree,
        env=keep | {"PYTHONUTF8": "1", **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )


def test_notebook_ran_in_its_own_kernel(ready):
    notebook = nbformat.read(ready / NOTEBOOK, as_version=4)
    assert notebook.metadata.kernelspec.name == SLUG
    assert notebook.cells[0].outputs[0].data["text/plain"] == f"'{SLUG}'"


def test_notebook_is_compared_in_its_own_kernel(ready):
    text = (ready / NOTEBOOK).read_text(encoding="utf-8")
    assert run(ready, "tools/run_nbval.py").returncode == 0
    try:
        (ready / NOTEBOOK).write_text(text.replace(f"'{SLUG}'", "'.venv'"), encoding="utf-8")
        done = run(ready, "tools/run_nbval.py")
    finally:
        (ready / NOTEBOOK).write_text(text, encoding="utf-8")
    assert done.returncode == 1
    assert f"{NOTEBOOK}::Cell 0" in done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="Nur Linux hat Namensräume für Netze.")
def test_notebook_has_no_way_out_in_ci(missing):
    # `connect` schickt hier noch nichts; ohne Route scheitert es trotzdem, mit `101`.
    source = "import socket\n\nwith socket.socket(type=socket.SOCK_DGRAM) as probe:\n"
    source += '    code = probe.connect_ex(("192.0.2.1", 9))\ncode'
    cell = new_code_cell(source, id="c0", execution_count=1)
    cell.outputs = [new_output("execute_result", {"text/plain": "101"}, execution_count=1)]
    nbformat.write(new_notebook(cells=[cell]), missing / NOTEBOOK)
    done = run(missing, "tools/run_nbval.py", CI="true")
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


def test_process_uses_the_environment_by_name(ready):
    code = f"""
import process
process.run(["python:{SLUG}", "-c", "import sys; print(sys.prefix)"])"""
    done = run(ready, "-c", code, PYTHONPATH="notebooks")
    assert done.stdout.strip() == str(ready / ".environments" / SLUG)


def test_missing_environment_skips_the_notebook_but_not_in_ci(missing):
    done = run(missing, "tools/run_nbval.py")
    assert done.returncode == 0
    assert f"Übersprungen: {SLUG}.ipynb" in done.stdout
    assert f"python tools/setup.py {SLUG}" in done.stdout
    assert run(missing, "tools/run_nbval.py", CI="true").returncode == 1


def test_what_was_skipped_is_listed_at_the_end_of_all_gates(missing):
    # Zwei Prüfungen, die erste überspringt ein Notebook.
    makefile = ".PHONY: notebooks site\n"
    makefile += f"notebooks:\n\t@{sys.executable} tools/run_nbval.py\nsite:\n\t@echo fertig\n"
    (missing / "Makefile").write_text(makefile, encoding="utf-8")
    done = run(missing, "tools/run_gates.py", "notebooks", "site")
    assert done.returncode == 0, done.stdout
    end = done.stdout.split("fertig")[1]
    assert f"- {SLUG}.ipynb, es fehlt die Umgebung {SLUG}" in end


def test_missing_environment_is_named_when_saving(missing):
    done = run(missing, "tools/save_notebooks.py", NOTEBOOK)
    assert done.returncode == 1
    assert f"nicht gespeichert. Die Umgebung fehlt. Abhilfe: python tools/setup.py {SLUG}" in (
        done.stdout
    )


def test_missing_environment_skips_the_contract_but_not_in_ci(monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"python tools/setup\.py gibt_es_nicht"):
        require_environment("gibt_es_nicht")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match=r"python tools/setup\.py gibt_es_nicht"):
        require_environment("gibt_es_nicht")


@pytest.mark.skipif(not shutil.which("make"), reason="make fehlt. Abhilfe: sudo apt install make")
@pytest.mark.parametrize(
    ("target", "needed"),
    [("serve", False), ("book", False), ("model", False), ("notebooks", True), ("unit", True)],
)
def test_only_who_runs_notebooks_waits_for_environments(ready, target, needed):
    (ready / "requirements.txt").touch()
    for stage in ("book", "grading", "checks"):
        (ready / f"requirements-{stage}.txt").touch()
    (ready / "package-lock.json").touch()
    keras = ready / "examples" / "tensorflow_savedmodel"
    keras.mkdir(exist_ok=True)
    (keras / "train.py").touch()
    (keras / "requirements.txt").touch()
    done = subprocess.run(
        ["make", "-n", target], cwd=ready, capture_output=True, encoding="utf-8", check=True
    )
    assert (f"tools/setup.py {SLUG}" in done.stdout) == needed
    assert ("tools/setup.py tensorflow_savedmodel" in done.stdout) == needed


@pytest.fixture
def latest(ready, monkeypatch, tmp_path):
    """tools/latest.py, das im Baum arbeitet und seine Befehle nur aufschreibt."""
    monkeypatch.syspath_prepend(ready / "tools")
    module = load(ready / "tools" / "latest.py")
    module.TREE, module.RESULTS, module.called = ready, tmp_path / "latest.json", []
    module.broken = ""

    def note(command: list, **options: object) -> subprocess.CompletedProcess:
        module.called.append([str(part) for part in command])
        return subprocess.CompletedProcess(command, int(module.broken in command), "kaputt")

    monkeypatch.setattr(module.subprocess, "run", note)
    return module


def test_newest_versions_of_a_chapter_go_to_its_own_environment(latest, ready):
    assert latest.failure(latest.own_environment(ready / NOTEBOOK)) == ""
    venv, fill, kernel, train = latest.called
    own = str(ready / ".environments" / SLUG)
    assert venv[1] == "venv" and venv[-1] == own
    assert fill[-1] == str(ready / "examples" / SLUG / "requirements.in")
    assert all(command[0].startswith(own) for command in (kernel, train))
    assert kernel[1:4] == ["-m", "ipykernel", "install"]
    assert train[1:] == ["-m", f"examples.{SLUG}.train"]


def test_chapter_without_own_environment_installs_nothing(latest, ready):
    assert latest.own_environment(ready / "notebooks" / "other.ipynb") == []


@pytest.fixture
def earlier(ready):
    """Ein Kapitel, das vor dem mit eigener Umgebung an der Reihe ist."""
    path = ready / "notebooks" / "another.ipynb"
    yield shutil.copy(ready / NOTEBOOK, path)
    path.unlink()


def test_all_environments_are_ready_before_the_first_chapter(latest, ready, earlier, monkeypatch):
    monkeypatch.setattr(latest, "prepare", lambda: Path("python"))
    monkeypatch.setattr(latest, "newer", list)
    assert latest.main() == 0
    first = next(n for n, command in enumerate(latest.called) if command[0] == "python")
    *setup, train = latest.called[:first]
    assert train[1:] == ["-m", f"examples.{SLUG}.train"] and len(setup) == 3
    assert [command[0] for command in latest.called[first:]] == ["python"] * 6


def test_chapter_without_its_environment_is_red_and_the_others_go_on(
    latest, ready, earlier, monkeypatch
):
    monkeypatch.setattr(latest, "prepare", lambda: Path("python"))
    monkeypatch.setattr(latest, "newer", list)
    latest.broken = "venv"
    assert latest.main() == 1
    failures = json.loads(latest.RESULTS.read_text(encoding="utf-8"))["failures"]
    assert failures["another"] == ""
    assert failures[SLUG].startswith("$ uv venv") and failures[SLUG].endswith("\nkaputt")
    assert [command[0] for command in latest.called].count("python") == 3


def test_environments_are_not_copied_for_the_newest_versions(latest, ready, tmp_path):
    latest.ROOT, latest.TREE = ready, tmp_path / "latest"
    latest.prepare()
    assert (latest.TREE / NOTEBOOK).exists()
    assert not (latest.TREE / ".environments").exists()
