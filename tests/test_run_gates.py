"""Die Prüfungen laufen in Gruppen und Reihen; am Ende steht, was wie lange dauerte."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.skipif(not shutil.which("make"), reason="make fehlt.")
# `slow` endet erst, wenn in der anderen Reihe `mark` lief.
MAKEFILE = """
.PHONY: slow mark show red litter last
slow:
\t@for n in $$(seq 200); do [ ! -e marked ] || break; sleep 0.05; done; test -e marked
mark:
\t@touch marked; echo early
show:
\t@echo "part $(PART) $$RIGHT$$NICE."
red:
\t@exit 3
litter:
\t@touch "$$TMPDIR/litter"; echo "left $$TMPDIR/litter"
last:
\t@echo at last
"""


# Diese Tests laufen selbst mit weniger Vorrang; deshalb zeigen Nachbildungen, was aufgerufen wird.
PROGRAMS = {
    "setpriv": ("--bounding-set -sys_nice", "RIGHT=gone"),
    "nice": ("-n 19", "NICE=19"),
}


def run(tree: Path, *groups: str) -> tuple[int, str]:
    """Führt die Gruppen aus; gibt (Exitcode, Ausgabe) zurück."""
    (tree / "Makefile").write_text(MAKEFILE, encoding="utf-8")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "run_gates.py", *groups],
        cwd=tree,
        env=kept,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )
    return done.returncode, done.stdout


def test_rows_of_a_group_run_side_by_side_and_the_last_has_priority(tmp_path, monkeypatch):
    for name, (expected, noted) in PROGRAMS.items():
        program = tmp_path / name
        program.write_text(
            f'#!/bin/sh\n[ "$1 $2" = "{expected}" ] && shift 2 && {noted} exec "$@"\n'
        )
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    code, said = run(tmp_path, "slow,show:a+show:c+mark,show:b", "last")
    assert code == 0, said
    for shown in ("part a gone19.", "part c gone19.", "part b ."):
        assert shown in said
    # Was zuerst geschah, steht trotzdem am Stück hinter der ersten Reihe.
    assert re.findall(r"^== (\S+) ==$", said, re.M) == [
        *("slow", "show:a", "show:c", "mark", "show:b", "last")
    ]
    assert said.index("part a") < said.index("early") < said.index("part b")


def test_every_gate_runs_and_one_red_is_enough(tmp_path):
    code, said = run(tmp_path, "show+red,mark", "last")
    table = re.findall(r"^(\w+) +\d+ s  (grün|rot)$", said, re.M)
    assert code == 1
    assert table == [("show", "grün"), ("red", "rot"), ("mark", "grün"), ("last", "grün")]


def test_what_a_gate_leaves_in_the_temporary_folder_goes_with_the_run(tmp_path):
    code, said = run(tmp_path, "litter", "last")
    left = re.search(r"^left (/.+)$", said, re.M)
    assert code == 0
    assert not Path(left[1]).exists()


@pytest.mark.parametrize(("grouped", "between"), [(True, " "), (False, ",")])
def test_what_measures_has_priority_or_the_machine_for_itself(
    tmp_path, monkeypatch, grouped, between
):
    for name, line in (("grep", f"exit {int(not grouped)}"), ("python", 'echo "$@"')):
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    for name in [name for name in os.environ if name.startswith("MAKE")]:
        monkeypatch.delenv(name)
    command = ["make", "--old-file=.venv/.checks", f"BIN={tmp_path}", "test"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8")
    assert f"notebooks:outside{between}notebooks:alone" in done.stdout, done.stdout + done.stderr


# Sphinx hält auch eine Seite mit Warnung für fertig; der nächste Bau wäre ohne sie grün.
SPHINX = """#!/bin/sh
test ! -e _build/.doctrees/environment.pickle || exit 0
mkdir -p _build/.doctrees
touch _build/.doctrees/environment.pickle
echo built >>built
"""


# Von Hand abgebrochen wird mit `INT`; wer im Hintergrund läuft, überhört das, `TERM` nicht.
@pytest.mark.parametrize("end", ["exit 0", "exit 1", "kill -TERM $PPID; exit 1"])
def test_book_is_built_again_until_it_is_green(tmp_path, end):
    for name in (".venv/.book", "node_modules/onnxruntime-web"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "jupyter-book").write_text(f"{SPHINX}{end}\n")
    (tmp_path / "jupyter-book").chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    old = ["--old-file=.venv/.book", "--old-file=node_modules/onnxruntime-web"]
    command = ["make", "-f", ROOT / "Makefile", f"BIN={tmp_path}", *old, "book"]
    for _ in range(2):
        done = subprocess.run(command, cwd=tmp_path, env=kept, capture_output=True)
        assert (done.returncode == 0) == (end == "exit 0"), done.stderr
    built = (tmp_path / "built").read_text().split()
    assert len(built) == (1 if end == "exit 0" else 2)
