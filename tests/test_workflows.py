"""Die Workflows und .ci/run: prüfbar, auch wo sie nicht laufen."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import needs
from tools import fetch_results, report_latest
from tools.run_nbval import metadata

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
LABEL = "# Geprüft mit actionlint und zizmor, nicht ausgeführt"
MAX_LINES = 60
PINNED = re.compile(r"uses: [\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$")
STUBS = (
    "git",
    "chromium",
    "chromium-headless-shell",
    "npm",
    "hunspell",
    "haproxy",
    "apt-get",
    "sudo",
    "docker",
    "kubectl",
)
# Womit .ci/run prüft, ob etwas übrig blieb.
TRACES = ("ip", "mount", "iptables-save", "sysctl", "ps")


def checked(tool: str, *arguments: str) -> None:
    """Führt ein Prüfprogramm aus; fehlt es, wird übersprungen, in CI nicht."""
    program = needs.program(tool, "make test richtet es ein")
    done = subprocess.run([program, *arguments], cwd=ROOT, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(params=WORKFLOWS, ids=lambda path: path.stem)
def workflow(request) -> str:
    return request.param.read_text(encoding="utf-8")


def test_actionlint_finds_nothing():
    checked("actionlint", *map(str, WORKFLOWS))


def test_zizmor_finds_nothing():
    checked("zizmor", "--offline", "--pedantic", "--no-progress", ".github")


def test_workflow_says_that_it_was_not_run(workflow):
    assert workflow.startswith(LABEL)


def test_workflow_is_short_and_holds_no_program(workflow):
    assert len(workflow.splitlines()) <= MAX_LINES
    jobs = yaml.safe_load(workflow)["jobs"].values()
    commands = [step["run"] for job in jobs for step in job.get("steps", []) if "run" in step]
    long = [command for command in commands if "\n" in command]
    assert not long, f"Programme gehören nach tools/: {long}"


def test_other_systems_get_every_environment_their_notebooks_call():
    # Dort laufen die Notebooks, denen Python genügt; make richtet dort nichts ein.
    text = (ROOT / ".github/workflows/check.yml").read_text(encoding="utf-8")
    called = set()
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        if not {"requires", "environment"} & set(metadata(path)):
            called |= set(re.findall(r"python:([a-z]\w+)", path.read_text(encoding="utf-8")))
    assert called, "Kein Notebook ruft eine Umgebung."
    assert called <= set(re.findall(r"setup\.py (\w+)", text))


def jobs_of(name: str) -> dict:
    """Die Jobs eines Workflows."""
    return yaml.safe_load((ROOT / ".github/workflows" / name).read_text(encoding="utf-8"))["jobs"]


@pytest.mark.parametrize(
    ("name", "job", "target", "uploaded"),
    [
        ("notebooks.yml", "run", "notebooks", {"name": "runs", "path": "_build/runs"}),
        ("latest.yml", "chapters", "latest", {"name": "latest", "path": "_build/latest.json"}),
    ],
)
def test_results_are_uploaded_even_when_red(name, job, target, uploaded):
    steps = jobs_of(name)[job]["steps"]
    (run,) = [
        n for n, step in enumerate(steps) if step.get("run", "").endswith(f".ci/run {target}")
    ]
    (upload,) = [step for step in steps[run:] if "upload-artifact@" in step.get("uses", "")]
    assert uploaded.items() <= upload["with"].items()
    assert upload["if"] == "always()", "Auch was rot ist, gehört auf die Seite"
    assert f'"{uploaded["name"]}"' in Path(fetch_results.__file__).read_text(encoding="utf-8")


def test_published_book_carries_the_results():
    jobs = jobs_of("publish.yml")
    assert jobs["notebooks"]["uses"].endswith("/.github/workflows/notebooks.yml")
    build = jobs["build"]
    assert build["needs"] == "notebooks" and build["if"] == "${{ !cancelled() }}"
    assert build["permissions"]["actions"] == "read"
    commands = [step["run"] for step in build["steps"] if "run" in step]
    # Folien, EPUB und PDF zuerst: Das Buch verlinkt, was gebaut ist.
    assert commands[0] == "python tools/fetch_results.py"
    assert commands[-2:] == ["make slides pdf", "make book"]


def test_pages_are_rebuilt_every_week_after_the_newest_versions():
    when = {}
    for name in ("latest.yml", "publish.yml"):
        # YAML liest `on` als Wahrheitswert.
        content = yaml.safe_load((ROOT / ".github/workflows" / name).read_text(encoding="utf-8"))
        (schedule,) = content[True]["schedule"]
        minute, hour, *days = schedule["cron"].split()
        when[name] = (days, int(hour) * 60 + int(minute))
    limit = jobs_of("latest.yml")["chapters"]["timeout-minutes"]
    (days, started), (same_days, rebuilt) = when.values()
    assert days == same_days and rebuilt >= started + limit


@pytest.fixture
def downloads(monkeypatch, tmp_path):
    """Ein gh mit drei Läufen; nur der älteste von `main` hat noch sein Ergebnis, und mehr."""
    called = []
    listed = [
        {"databaseId": 30, "event": "pull_request"},
        {"databaseId": 20, "event": "schedule"},
        {"databaseId": 10, "event": "workflow_dispatch"},
    ]

    def answer(command: list[str], **options: object) -> subprocess.CompletedProcess:
        called.append(command[2:4])
        found = command[2] == "list" or command[3] == "10"
        if command[2:4] == ["download", "10"]:
            folder = Path(command[-1])
            (folder / "html").mkdir()
            (folder / "html" / "fremd.html").write_text("fremd", encoding="utf-8")
            (folder / "latest.json").write_text("{}", encoding="utf-8")
        return subprocess.CompletedProcess(command, int(not found), json.dumps(listed))

    monkeypatch.setattr(fetch_results.subprocess, "run", answer)
    monkeypatch.setattr(fetch_results, "BUILD", tmp_path)
    monkeypatch.setenv("GITHUB_RUN_ID", "40")
    return called


def test_newest_result_of_a_trusted_run_is_fetched(downloads, tmp_path, capsys):
    fetch_results.main()
    # Was sonst in dem Artefakt lag, käme mit `make book` auf die Seite.
    assert [path.name for path in tmp_path.iterdir()] == ["latest.json"]
    assert [run for command, run in downloads if command == "download"] == ["40", "20", "10"]
    assert capsys.readouterr().out == "Dieser Lauf hat keine Ergebnisse der Notebooks.\n"


def test_workflow_has_least_permissions(workflow):
    content = yaml.safe_load(workflow)
    assert content["permissions"] == {}, "Oben wird nichts erlaubt, nur je Job"
    assert all("permissions" in job for job in content["jobs"].values())
    assert workflow.count("actions/checkout@") == workflow.count("persist-credentials: false")


def test_actions_are_pinned_by_hash(workflow):
    used = [line.strip().removeprefix("- ") for line in workflow.splitlines() if "uses:" in line]
    # Was mit $/ beginnt, liegt im selben Commit.
    loose = [line for line in used if not PINNED.match(line) and not line.startswith("uses: $/")]
    assert not loose, f"Ohne Hash oder Version dahinter: {loose}"


@pytest.fixture
def gh(monkeypatch):
    """Ein gh, das ein offenes Issue kennt und Aufrufe mitschreibt."""
    calls = []
    title = report_latest.TITLE.format(slug="gradio_app")

    def answer(command: list[str], **options: object) -> subprocess.CompletedProcess:
        calls.append((command[1:3], [part for part in command if part == "7"], options["input"]))
        return subprocess.CompletedProcess(command, 0, json.dumps([{"number": 7, "title": title}]))

    monkeypatch.setattr(report_latest.subprocess, "run", answer)
    return calls


def test_each_broken_chapter_gets_one_issue(gh):
    outcomes = {"gradio_app": "red", "joblib_model": "green", "fastapi_service": "red"}
    chapters = {
        slug: {
            "outcome": outcome,
            "where": "Zelle [3]: ValueError",
            "failure": "kaputt",
            "environments": ["requirements.txt"],
        }
        for slug, outcome in (outcomes | {"docker_image": "skipped"}).items()
    }
    newer = {"requirements.txt": {"newer": {"gradio": ["6.31.0", "7.0.0"]}}}
    report_latest.report({"environments": newer, "chapters": chapters})
    assert [(command[1], number) for command, number, _ in gh] == [
        ("list", []),
        ("comment", ["7"]),
        ("create", []),
    ]
    assert "kaputt" in gh[1][2] and "gradio 7.0.0 statt 6.31.0" in gh[1][2]


@pytest.fixture
def machine(tmp_path):
    """Ein Rechner, auf dem nur Attrappen laufen; gibt (Ordner, Aufruf von .ci/run) zurück."""
    tree, programs = tmp_path / "tree", tmp_path / "programs"
    for folder in (tree / ".ci", programs):
        folder.mkdir(parents=True)
    shutil.copy(ROOT / ".ci" / "run", tree / ".ci" / "run")

    def run(make: str, *target: str, **more: str) -> subprocess.CompletedProcess:
        scripts = {name: f'echo "{name} $*" >>"{tmp_path}/called"' for name in STUBS + TRACES}
        paths = {programs / name: script for name, script in (scripts | more).items()}
        paths |= {programs / "make": make, tree / ".ci" / "docker": "echo $1"}
        # Was auf diesem Rechner wirklich fehlt, ist hier nicht die Frage.
        paths |= {tree / ".ci" / "packages": "true"}
        for path, script in paths.items():
            path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
            path.chmod(0o755)
        path = os.pathsep.join([str(programs), "/usr/bin", "/bin"])
        return subprocess.run(
            [tree / ".ci" / "run", *target],
            env={"PATH": path, "PYTHON": sys.executable},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
        )

    return tree, run


needs_linux = pytest.mark.skipif(sys.platform != "linux", reason=".ci/run ist für Linux")


def test_saving_again_is_compared_every_week():
    job = jobs_of("weekly.yml")["targets"]
    assert "save-notebooks" in job["strategy"]["matrix"]["target"]
    assert job["steps"][-1]["run"] == "git diff --exit-code -- notebooks"


@needs_linux
def test_ci_run_shows_what_took_how_long(machine):
    _, run = machine
    done = run('echo "CI=$CI $*"')
    assert done.returncode == 0, done.stderr
    assert "CI=true --no-print-directory test" in done.stdout
    steps = re.findall(r"^(\w+) +\d+ s +grün$", done.stdout, re.MULTILINE)
    assert steps == ["Ausstatten", "Einrichten", "Prüfen", "Aufräumen"]


@needs_linux
def test_ci_run_calls_only_the_named_target(machine):
    _, run = machine
    done = run('echo "CI=$CI $*"', "notebooks")
    assert done.returncode == 0, done.stderr
    assert "CI=true --no-print-directory notebooks" in done.stdout


@needs_linux
def test_ci_run_fails_when_a_check_fails(machine):
    _, run = machine
    done = run('[ "$2" != test ]')
    assert done.returncode == 1
    assert re.search(r"^Prüfen +\d+ s +rot$", done.stdout, re.MULTILINE)


@needs_linux
def test_ci_run_fails_when_something_is_left(machine):
    tree, run = machine
    # Wie eine Einhängung, die erst während der Prüfungen entstand.
    done = run("touch left", mount=f'[ ! -e "{tree}/left" ] || echo overlay on /left type overlay')
    assert done.returncode == 1
    assert "> Einhängung /left" in done.stdout
    assert re.search(r"^Aufräumen +\d+ s +rot$", done.stdout, re.MULTILINE)


@needs_linux
def test_ci_run_needs_no_firewall_yet(machine):
    _, run = machine
    # Auf einem nackten Rechner kommt `iptables` erst mit Docker.
    done = run("true", **{"iptables-save": "exit 127"})
    assert done.returncode == 0, done.stdout + done.stderr


@needs_linux
def test_ci_run_restores_the_grouping_of_sessions(machine):
    tree, run = machine
    sysctl = f'echo 1; echo "$*" >>"{tree}/called"'
    done = run("true", sysctl=sysctl, sudo='[ "$1" != -n ] || shift; "$@"')
    assert done.returncode == 0, done.stdout + done.stderr
    called = (tree / "called").read_text(encoding="utf-8")
    assert re.findall(r"sched_autogroup_enabled=(\d)", called) == ["0", "1"]


@needs_linux
def test_ci_scripts_have_no_shell_mistakes():
    scripts = [path for path in (ROOT / ".ci").iterdir() if path.is_file()]
    # Darunter liegen Hinweise, die Funktionen für ungenutzt halten, weil sie über "$@" laufen.
    checked("shellcheck", "--severity=warning", *map(str, scripts))
