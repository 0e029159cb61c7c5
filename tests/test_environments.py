"""Kapitel mit eigener Umgebung: eingerichtet, benutzt, und wenn sie fehlt, gesagt."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import nbformat
import psutil
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

import needs
from contract import require_environment
from tools import run_nbval

ROOT = Path(__file__).resolve().parent.parent
SLUG = "tiny_model"
NOTEBOOK = f"notebooks/{SLUG}.ipynb"
# Von den Erweiterungen nur die nötigen: Die anderen laden länger, als das hier dauert.
COMPARING = {
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    "PYTEST_PLUGINS": "xdist.plugin,nbval.plugin",
    # Ein Notebook braucht nur einen Prozess; jeder weitere liefe leer.
    "PYTEST_XDIST_AUTO_NUM_WORKERS": "1",
}
COPIED = [
    "Makefile",
    "pyproject.toml",
    ".ipython/profile_default/ipython_kernel_config.py",
    "notebooks/conftest.py",
    "notebooks/guard.py",
    "notebooks/process.py",
    "tests/nbval.cfg",
    "tools/latest.py",
    "tools/run_gates.py",
    "tools/run_nbval.py",
    "tools/run_tests.py",
    "tools/runs.py",
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


CYCLE = """
import gc
class Cycle:
    def __init__(self):
        self.own = self
    def __del__(self):
        print("freigegeben")
print(gc.get_threshold()[0])
Cycle()
"""


def test_environments_look_for_garbage_less_often(ready):
    """Beim Import ist nichts zu finden und am Ende nichts mehr zu gewinnen."""
    asked = [sys.executable, "-c", CYCLE]
    assert subprocess.check_output(asked, encoding="utf-8") == "50000\n"
    setup = load(ready / "tools" / "setup.py")
    environment = ready / ".environments" / SLUG
    setup.collect_less_often(environment)
    asked[0] = environment / setup.SCRIPTS / "python"
    assert subprocess.check_output(asked, encoding="utf-8") == "50000\n"


@pytest.fixture
def missing(ready, tmp_path) -> Path:
    """Derselbe Baum auf einem Rechner, auf dem die Umgebung noch fehlt."""
    without = shutil.ignore_patterns(".environments", "__pycache__")
    return shutil.copytree(ready, tmp_path / "buch", ignore=without)


def run(tree: Path, *command: str, **variables: str) -> subprocess.CompletedProcess:
    """Führt ein Programm dieser Umgebung im Baum aus, als liefe es nicht in CI."""
    # Was hier mit Absicht fehlt, gehört nicht in die Liste am Ende von `make test`.
    dropped = ("PYTEST_", "IPYTHONDIR", "JUPYTER_", "MAKE", "MFLAGS", "SKIPPED_FILE")
    keep = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    keep.pop("CI", None)
    return subprocess.run(
        [sys.executable, *command],
        cwd=tree,
        env=keep | COMPARING | {"PYTHONUTF8": "1", **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )


def test_notebook_ran_in_its_own_kernel(ready):
    notebook = nbformat.read(ready / NOTEBOOK, as_version=4)
    assert notebook.metadata.kernelspec.name == SLUG
    assert notebook.cells[0].outputs[0].data["text/plain"] == f"'{SLUG}'"


def test_notebook_is_compared_in_its_own_kernel_and_parts_keep_their_reports(ready):
    def reports() -> list[Path]:
        return sorted((ready / "_build" / "reports").rglob("*.xml"))

    text = (ready / NOTEBOOK).read_text(encoding="utf-8")
    assert run(ready, "tools/run_nbval.py", "--only", "inside").returncode == 0
    kept = reports()
    assert kept
    assert run(ready, "tools/run_nbval.py", "--only", "outside").returncode == 0
    assert reports() == kept
    try:
        (ready / NOTEBOOK).write_text(text.replace(f"'{SLUG}'", "'.venv'"), encoding="utf-8")
        done = run(ready, "tools/run_nbval.py")
    finally:
        (ready / NOTEBOOK).write_text(text, encoding="utf-8")
    assert done.returncode == 1
    assert f"{NOTEBOOK}::Cell 0" in done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="Nur Linux hat Namensräume für Netze.")
def test_notebook_has_no_way_out_in_ci(missing):
    needs.own_network()
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
    monkeypatch.delenv("SKIPPED_FILE", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"python tools/setup\.py gibt_es_nicht"):
        require_environment("gibt_es_nicht")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match=r"python tools/setup\.py gibt_es_nicht"):
        require_environment("gibt_es_nicht")


def test_program_that_is_there_but_does_not_answer_is_missing(tmp_path, monkeypatch):
    # Docker ist oft installiert und läuft nur nicht.
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.delenv("SKIPPED_FILE", raising=False)
    monkeypatch.setitem(run_nbval.REQUIREMENTS, "docker", (["false"], "Docker starten"))
    path = tmp_path / "tiny.ipynb"
    nbformat.write(new_notebook(metadata={"requires": ["docker"]}), path)
    assert run_nbval.missing(path) == ["docker (Abhilfe: Docker starten)"]
    with pytest.raises(pytest.skip.Exception, match="Docker starten"):
        needs.tool("docker")


@pytest.fixture
def compared(tmp_path, monkeypatch):
    """Ruft run_nbval.main() auf, ohne ein Notebook auszuführen: (Vergleiche, Ergebnis, Code)."""

    def call(*metadata: dict, green: bool = True, arguments: tuple = ()) -> tuple:
        paths, calls, written = [], [], {}
        for number, content in enumerate(metadata):
            paths.append(tmp_path / "notebooks" / f"n{number}.ipynb")
            paths[-1].parent.mkdir(exist_ok=True)
            nbformat.write(new_notebook(metadata=content), paths[-1])

        def compare(chosen: list, reports: Path, prefix: list, *options: str) -> bool:
            calls.extend((path.stem, options) for path in chosen)
            return green

        monkeypatch.setattr(run_nbval, "compare", compare)
        monkeypatch.setattr(run_nbval.runs, "REPORTS", tmp_path / "reports")
        monkeypatch.setattr(run_nbval.runs, "write", written.update)
        monkeypatch.setattr(sys, "argv", ["run_nbval.py", *arguments, *map(str, paths)])
        return calls, written, run_nbval.main()

    return call


def test_what_measures_runs_after_the_others_and_alone(compared):
    calls, _, code = compared({"exclusive": True}, {})
    assert code == 0 and [name for name, _ in calls] == ["n1", "n0"]
    assert ["-n" in options for _, options in calls] == [True, False]


@pytest.mark.parametrize("arguments", [(), ("--in-order",)])
def test_largest_come_first_unless_the_named_order_counts(compared, arguments):
    ((_, options),), _, _ = compared({}, arguments=arguments)
    assert ("--no-loadscope-reorder" in options) == bool(arguments)


def test_report_of_an_earlier_run_makes_nothing_green(compared, tmp_path):
    (tmp_path / "reports").mkdir()
    old = '<testsuites><testcase classname="notebooks.n0.ipynb" name="Cell 0" /></testsuites>'
    (tmp_path / "reports" / "n0.xml").write_text(old, encoding="utf-8")
    _, written, code = compared({}, green=False)
    assert code == 1 and written["n0"]["outcome"] == "red"


def test_lax_run_compares_nothing_and_is_no_evidence(missing):
    def stored() -> list[Path]:
        return sorted((missing / "_build" / "runs").glob("*.json"))

    cell = new_code_cell("1 + 1", id="c0", execution_count=1)
    cell.outputs = [new_output("execute_result", {"text/plain": "3"}, execution_count=1)]
    nbformat.write(new_notebook(cells=[cell]), missing / NOTEBOOK)
    before = stored()
    done = run(missing, "tools/run_nbval.py", "--lax")
    assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout
    assert stored() == before


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
    # Sonst sucht make für jede Stufe noch einmal nach einem Python.
    command = ["make", "-n", f"PYTHON={sys.executable}", target]
    done = subprocess.run(command, cwd=ready, capture_output=True, encoding="utf-8", check=True)
    assert (f"tools/setup.py {SLUG}" in done.stdout) == needed
    assert ("tools/setup.py tensorflow_savedmodel" in done.stdout) == needed


@pytest.fixture
def latest(ready, monkeypatch, tmp_path):
    """tools/latest.py, das im Baum arbeitet und seine Befehle nur aufschreibt."""
    monkeypatch.syspath_prepend(ready / "tools")
    monkeypatch.delenv("CI", raising=False)
    module = load(ready / "tools" / "latest.py")
    module.ROOT = module.TREE = ready
    module.RESULTS, module.called, module.broken = tmp_path / "latest.json", [], ""

    def note(command: list) -> tuple[int, str]:
        module.called.append([str(part) for part in command])
        return int(module.broken in module.called[-1]), "$ Befehl\nValueError: kaputt"

    def freeze(command: list, **options: object) -> subprocess.CompletedProcess:
        listed = [{"name": "alt", "version": "2", "latest_version": "3"}]
        said = json.dumps(listed) if "--outdated" in command else "alt==2\nandere==1\n"
        return subprocess.CompletedProcess(command, 0, said)

    monkeypatch.setattr(module, "run", note)
    monkeypatch.setattr(module, "copy", lambda: None)
    monkeypatch.setattr(module, "missing", lambda *_: [])
    monkeypatch.setattr(module.subprocess, "run", freeze)
    monkeypatch.setattr(sys, "argv", ["latest.py"])
    for folder in (ready, ready / "examples" / SLUG):
        (folder / "requirements.in").write_text("alt>=1,<3  # Grund\nandere>=1\n", encoding="utf-8")
        (folder / "requirements.txt").write_text("alt==1\nandere==1\n", encoding="utf-8")
    return module


def results(latest) -> dict:
    return json.loads(latest.RESULTS.read_text(encoding="utf-8"))


def test_newest_versions_of_a_chapter_go_to_its_own_environment(latest, ready):
    venv, fill = latest.setting_up(SLUG)
    own = ready / ".environments" / SLUG
    assert venv[1] == "venv" and venv[-1] == own
    assert fill[-1] == ready / "examples" / SLUG / "requirements.in"
    (ready / "examples" / SLUG / "requirements.in").write_text("ipykernel\n", encoding="utf-8")
    *_, kernel, train = latest.setting_up(SLUG)
    assert kernel[1:4] == ["-m", "ipykernel", "install"]
    assert train == [latest.python(SLUG), "-m", f"examples.{SLUG}.train"]


def test_only_the_keras_model_is_trained_outside_the_common_environment(latest):
    latest.TREE = ROOT
    names = [path.parent.name for path in ROOT.glob("examples/*/requirements.in")]
    trained = [name for name in names if f"examples.{name}.train" in latest.setting_up(name)[-1]]
    assert trained == ["tensorflow_savedmodel"]


def test_tests_of_a_chapter_keep_their_plugins(latest):
    latest.TREE = ROOT
    _, tests, contract = latest.checks(ROOT / "notebooks" / "fastapi_service.ipynb")
    assert "tests/examples/test_fastapi_service.py" in tests
    assert not [part for part in tests + contract if str(part).startswith("no:")]


def test_environments_of_the_tests_are_set_up_too(latest, ready):
    assert latest.needed(ready / NOTEBOOK) == ["requirements.txt", SLUG]
    other = ready / "notebooks" / "other.ipynb"
    nbformat.write(new_notebook(), other)
    test = ready / "tests" / "examples" / "test_other.py"
    test.parent.mkdir(parents=True, exist_ok=True)
    try:
        assert latest.needed(other) == ["requirements.txt"]
        test.write_text(f'require_environment("{SLUG}")\n', encoding="utf-8")
        assert latest.needed(other) == ["requirements.txt", SLUG]
    finally:
        other.unlink()
        test.unlink()


@pytest.fixture
def earlier(ready):
    """Ein Kapitel ohne eigene Umgebung, das zuerst an der Reihe ist."""
    path = ready / "notebooks" / "another.ipynb"
    nbformat.write(new_notebook(), path)
    yield path
    path.unlink()


def test_all_environments_are_ready_before_the_first_chapter(latest, earlier):
    assert latest.main() == 0
    first = next(n for n, command in enumerate(latest.called) if "tools/run_nbval.py" in command)
    assert [command[1] for command in latest.called[:first]].count("venv") == 2
    assert "venv" not in [command[1] for command in latest.called[first:]]
    assert {c["outcome"] for c in results(latest)["chapters"].values()} == {"green"}


def test_newer_and_held_back_packages_are_named(latest, capsys):
    latest.main()
    common = results(latest)["environments"]["requirements.txt"]
    assert common["newer"] == {"alt": ["1", "2"]} and common["held_back"] == {"alt": "3"}
    said = capsys.readouterr().out
    assert "alt 2 statt 1" in said and "alt 3 gibt es" in said


def test_chapter_without_its_environment_is_red_and_the_others_go_on(latest, earlier):
    latest.broken = str(latest.python(SLUG).parent.parent)
    assert latest.main() == 1
    chapters = results(latest)["chapters"]
    assert chapters["another"]["outcome"] == "green"
    assert chapters[SLUG]["outcome"] == "red"
    assert chapters[SLUG]["where"] == f"Umgebung {SLUG}: ValueError: kaputt"


def test_named_chapter_alone_replaces_only_its_own_result(latest, earlier, monkeypatch):
    assert latest.main() == 0
    before = results(latest)
    latest.broken = "tools/run_nbval.py"
    monkeypatch.setattr(sys, "argv", ["latest.py", "notebooks/another.ipynb"])
    assert latest.main() == 1
    after = results(latest)
    assert after["chapters"]["another"]["outcome"] == "red"
    assert after["chapters"][SLUG] == before["chapters"][SLUG]
    monkeypatch.setattr(sys, "argv", ["latest.py", "notebooks/fehlt.ipynb"])
    with pytest.raises(SystemExit, match=r"Gibt es nicht: fehlt\.ipynb"):
        latest.main()


def test_skipped_chapter_is_a_failure_only_in_ci(latest, monkeypatch):
    monkeypatch.setattr(latest, "missing", lambda *_: ["docker (Abhilfe: starten)"])
    assert latest.main() == 0
    assert results(latest)["chapters"][SLUG]["outcome"] == "skipped"
    monkeypatch.setenv("CI", "true")
    assert latest.main() == 1


def test_first_failing_cell_is_named_with_its_message(latest, ready):
    report = ready / "_build" / "reports" / "x.xml"
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(
        '<testsuites><testcase classname="notebooks.x.ipynb" name="Cell 0" />'
        '<testcase classname="notebooks.x.ipynb" name="Cell 1"><failure message="m">'
        "#x1B[91mgescheitert#x1B[0m\nTypeError: falsch\n\n</failure></testcase></testsuites>",
        encoding="utf-8",
    )
    assert latest.place("egal") == "Zelle [2]: TypeError: falsch"
    report.unlink()
    assert latest.place("$ Befehl\nkein Netz\n") == "kein Netz"
    report.write_text(
        '<testsuites><testcase classname="tests.test_x" name="test_a"><failure message="m">'
        f"fixture not found\n\n{ready}/tests/test_x.py:3</failure></testcase></testsuites>",
        encoding="utf-8",
    )
    assert latest.place("egal") == "test_a: tests/test_x.py:3"
    report.unlink()


def test_command_that_takes_too_long_is_ended_with_its_children(ready, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(ready / "tools")
    module = load(ready / "tools" / "latest.py")
    module.TREE, module.LIMIT_SECONDS = tmp_path, 5
    code = "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', 'import time; "
    code += (
        "time.sleep(600)'], start_new_session=True).pid, flush=True); import time; time.sleep(600)"
    )
    status, said = module.run([sys.executable, "-c", code])
    assert status != 0 and said.endswith("Nach 5 s abgebrochen.")
    child = int(said.splitlines()[-2])
    _, alive = psutil.wait_procs(
        [psutil.Process(child)] if psutil.pid_exists(child) else [], timeout=10
    )
    assert not alive


def test_environments_are_not_copied_for_the_newest_versions(ready, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(ready / "tools")
    module = load(ready / "tools" / "latest.py")
    module.ROOT, module.TREE = ready, tmp_path / "latest"
    module.copy()
    assert (module.TREE / NOTEBOOK).exists()
    assert not (module.TREE / ".environments").exists()


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, subprocess.CalledProcessError])
def test_half_an_environment_does_not_stay(tmp_path, monkeypatch, interruption):
    def fill(environment: Path, *_: object) -> None:
        assert environment.is_dir()
        raise interruption(*([1, "uv"] if interruption is not KeyboardInterrupt else []))

    setup = load(ROOT / "tools" / "setup.py")
    monkeypatch.setattr(setup, "uv_version", lambda: setup.UV.partition("==")[2])
    monkeypatch.setattr(setup, "ENVIRONMENTS", tmp_path / "environments")
    monkeypatch.setattr(setup, "fill", fill)
    with pytest.raises(interruption):
        setup.install_chapter(SLUG)
    assert not (tmp_path / "environments" / SLUG).exists()


def test_kernel_of_a_chapter_leaves_no_folder_behind(tmp_path, monkeypatch):
    def fill(environment: Path, *_: object) -> None:
        # Statt zu installieren: Das neue Python findet die Pakete von diesem.
        code = "import sysconfig; print(sysconfig.get_path('purelib'))"
        found = subprocess.run(
            [environment / setup.SCRIPTS / "python", "-c", code], capture_output=True, text=True
        )
        line = sysconfig.get_path("purelib")
        Path(found.stdout.strip(), "here.pth").write_text(line, encoding="utf-8")

    setup = load(ROOT / "tools" / "setup.py")
    (tmp_path / "temporary").mkdir()
    for name in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.setenv(name, str(tmp_path / "temporary"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(setup, "uv_version", lambda: setup.UV.partition("==")[2])
    monkeypatch.setattr(setup, "ENVIRONMENTS", tmp_path / "environments")
    monkeypatch.setattr(setup, "fill", fill)
    setup.install_chapter(SLUG)
    kernels = tmp_path / "environments" / "share" / "jupyter" / "kernels"
    assert [path.name for path in kernels.iterdir()] == [SLUG]
    assert not list((tmp_path / "temporary").iterdir())
