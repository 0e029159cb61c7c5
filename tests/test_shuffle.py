"""Zufällige Reihenfolge: wiederholbar, und die Tests merken nichts davon."""

import os
import subprocess
import sys
from pathlib import Path

from tools import shuffle

TEST = """
import os


def test_own_settings_only():
    assert "PYTEST_ADDOPTS" not in os.environ
"""


def test_same_seed_gives_the_same_order():
    paths = [Path(f"test_{number}.py") for number in range(20)]
    assert shuffle.order(paths, 1) == shuffle.order(paths[::-1], 1) != shuffle.order(paths, 2)
    assert sorted(shuffle.order(paths, 1)) == sorted(map(str, paths))


def test_files_and_notebooks_run_in_that_order(monkeypatch):
    def note(command: list, **_: object) -> subprocess.CompletedProcess:
        called.append(command)
        return subprocess.CompletedProcess(command, 0)

    called, tests = [], [Path(f"test_{number}.py") for number in range(20)]
    notebooks = [path.with_suffix(".ipynb") for path in tests]
    monkeypatch.setattr(shuffle.subprocess, "run", note)
    assert shuffle.run([*notebooks, *tests], 1)
    pytest, nbval = called
    # Ohne diese Optionen ordnen `xdist` und run_nbval.py die Dateien wieder nach ihrer Größe.
    assert "--no-loadscope-reorder" in pytest and pytest[-20:] == shuffle.order(tests, 1)
    assert "--in-order" in nbval and nbval[-20:] == shuffle.order(notebooks, 1)


def test_tests_that_call_pytest_are_not_disturbed(tmp_path):
    for name in "ab":
        (tmp_path / f"test_{name}.py").write_text(TEST, encoding="utf-8")
    command = [sys.executable, "tools/shuffle.py", "--seed", "1", *tmp_path.glob("test_*.py")]
    # Von den Erweiterungen nur die nötige: Die anderen laden länger, als das hier dauert.
    alone = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_PLUGINS": "xdist.plugin"}
    kept = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
    done = subprocess.run(
        command,
        cwd=shuffle.ROOT,
        env=kept | alone,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
