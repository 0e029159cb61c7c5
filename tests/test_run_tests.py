"""In CI behält nur das Netz des Rechners, was Docker oder den Cluster braucht."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="Nur Linux hat Namensräume für Netze."
)
# Zwei Tests, die sagen, in welchem Netz sie liefen; gescheitert wird auf Wunsch.
TESTS = """
import os

import pytest


def report(name):
    print(name, os.readlink("/proc/self/ns/net"))
    assert name != os.environ["RED"]


def test_inside():
    report("inside")


@pytest.mark.outside
def test_outside():
    report("outside")
"""


def run(tree: Path, tests: str = TESTS, ci: str = "true", red: str = "") -> tuple[int, dict, str]:
    """Führt die Tests aus; gibt (Exitcode, Netz je Test, Ausgabe) zurück."""
    (tree / "test_both.py").write_text(tests, encoding="utf-8")
    (tree / "pytest.ini").write_text("[pytest]\nmarkers =\n    outside: draußen\n")
    # Von den Erweiterungen nur die nötige: Die anderen laden länger, als das hier dauert.
    alone = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_PLUGINS": "xdist.plugin"}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "run_tests.py", "-sv", "-p", "no:cacheprovider"],
        cwd=tree,
        env=kept | alone | {"CI": ci, "RED": red},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )
    words = [line.split() for line in done.stdout.splitlines() if "net:[" in line]
    return done.returncode, {name: net for *_, name, net in words}, done.stdout


def test_only_what_needs_docker_keeps_the_network_of_the_machine(tmp_path):
    code, nets, said = run(tmp_path)
    assert code == 0, said
    here = os.readlink("/proc/self/ns/net")
    assert nets["outside"] == here != nets["inside"]


def test_without_ci_everything_runs_at_once(tmp_path):
    code, nets, said = run(tmp_path, ci="")
    assert code == 0 and "2 passed" in said
    assert nets["outside"] == nets["inside"] == os.readlink("/proc/self/ns/net")


@pytest.mark.parametrize("red", ["inside", "outside"])
def test_one_red_part_is_enough_and_both_run(tmp_path, red):
    code, nets, said = run(tmp_path, red=red)
    assert code == 1 and set(nets) == {"inside", "outside"}, said


@pytest.mark.parametrize("said", ["", "# needs_docker"])
def test_file_must_name_what_it_needs_from_outside(tmp_path, said):
    """Sonst liest der eine Teil sie nicht ein, und der andere lässt den Test aus."""
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    outside: draußen\n")
    (tmp_path / "test_hidden.py").write_text(f"{TESTS}{said}\n", encoding="utf-8")
    (tmp_path / "test_other.py").write_text("raise AssertionError\n", encoding="utf-8")
    (tmp_path / "model.onnx").write_bytes(b"\x80")  # auch danach fragt pytest
    path = os.pathsep.join(str(ROOT / name) for name in (".", "tests", "notebooks", "tools"))
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    env = kept | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": path, "RED": ""}
    codes = []
    for wanted, file in (("outside", "."), ("not outside", "test_hidden.py")):
        command = [sys.executable, "-m", "pytest", "-p", "conftest", "-q", "-m", wanted, file]
        codes.append(subprocess.run(command, cwd=tmp_path, env=env).returncode)
    nothing_read, refused = 5, 2
    assert codes == ([0, 0] if said else [nothing_read, refused])


@pytest.mark.parametrize(("gone", "code"), [("test_inside", 0), ("test_outside", 0), ("test_", 1)])
def test_one_part_may_be_empty_but_not_both(tmp_path, gone, code):
    done, _, said = run(tmp_path, TESTS.replace(gone, "helper_"))
    assert done == code, said
