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


def test_tests_that_call_pytest_are_not_disturbed(tmp_path):
    for name in "ab":
        (tmp_path / f"test_{name}.py").write_text(TEST, encoding="utf-8")
    command = [sys.executable, "tools/shuffle.py", "--seed", "1", *tmp_path.glob("test_*.py")]
    kept = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
    done = subprocess.run(
        command, cwd=shuffle.ROOT, env=kept, capture_output=True, encoding="utf-8", timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
