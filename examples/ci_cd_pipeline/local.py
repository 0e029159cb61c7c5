"""Workflows ohne GitHub: mit act auf diesem Rechner ausführen oder mit zwei Programmen prüfen.

Aufruf in der Umgebung dieses Kapitels, denn ihr gehören die Programme:
        python -m examples.ci_cd_pipeline.local act WORKFLOW.yml
        python -m examples.ci_cd_pipeline.local lint WORKFLOW.yml …
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
ZIZMOR = ["--offline", "--pedantic", "--no-progress", "--format", "json"]
STEP = re.compile(r"(✅|❌)\s+(?:Success|Failure) - Main ([^\[]+)")
SAID = re.compile(r"^(?:\[[^\]]+\]\s+)?\| (?!\w+ +grün$|\w+ +rot$)(.*)")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
JOB = re.compile(r"🏁\s+Job (\w+)")


def tool(name: str) -> str:
    """Der Pfad eines Programms, das neben diesem Python liegt."""
    return str(Path(sys.executable).with_name(name + (".exe" if os.name == "nt" else "")))


def act(workflow: str) -> int:
    """Führt den Workflow auf diesem Rechner aus, in einer Kopie dessen, was Git kennt."""
    with tempfile.TemporaryDirectory() as cache:
        command = [tool("act"), "workflow_dispatch", "--workflows", workflow]
        # „-self-hosted“: die Schritte laufen hier und nicht in einem Container.
        command += ["--platform", "ubuntu-24.04=-self-hosted"]
        # Sonst öffnet act einen Port auf der Adresse, unter der andere den Rechner erreichen.
        command += ["--no-cache-server"]
        env = {**os.environ, "XDG_CACHE_HOME": cache, "XDG_CONFIG_HOME": cache}
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        )
    print("\n".join(readable(done.stdout)) or done.stdout)
    return done.returncode


def readable(output: str) -> list[str]:
    """Aus der Ausgabe von act: je Schritt das Ergebnis, dazu, was die Schritte sagten."""
    lines = []
    for line in COLOUR.sub("", output).splitlines():
        if step := STEP.search(line):
            name = step[2].split("@")[0].strip()
            lines.append(f"{name:18}{'success' if step[1] == '✅' else 'failure'}")
        elif said := SAID.match(line):
            lines.append(f"    {said[1].rstrip()}")
        elif job := JOB.search(line):
            lines.append(f"Job: {job[1]}")
    return lines


def lint(workflows: list[str]) -> int:
    """Lässt beide Prüfprogramme laufen; eines, das etwas findet, genügt für Rot."""
    done = called("actionlint", "-oneline", *workflows)
    errors = [brief(line) for line in done.stdout.splitlines()]
    if done.returncode and not errors:  # abgebrochen ist nicht einverstanden
        errors = ["nicht geprüft: actionlint brach ab"]
    try:
        report = json.loads(called("zizmor", *ZIZMOR, *workflows).stdout)
    except ValueError:  # bei kaputtem YAML bricht zizmor ab und schreibt nichts
        report = [{"ident": "nicht geprüft: kein lesbarer Workflow"}]
    risks = {found["ident"] for found in report}
    for name, found in (("actionlint", errors), ("zizmor", sorted(risks))):
        print(f"{name}: {'findet nichts' if not found else ''}".rstrip())
        for line in found:
            print(f"  {line}")
    return int(bool(errors or risks))


def brief(line: str) -> str:
    """Eine Meldung von actionlint mit Zeile, ohne Pfad und ohne die Ratschläge dahinter."""
    line = re.sub(r".*?:(\d+):\d+: ", r"Zeile \1: ", line)
    return re.split(r"\. (?=available|update|use )|: https", line)[0]


def called(name: str, *arguments: str) -> subprocess.CompletedProcess:
    """Ruft ein Prüfprogramm auf."""
    command = [tool(name), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8")


def main() -> int:
    """Führt einen der beiden Befehle aus."""
    if len(sys.argv) < 3 or sys.argv[1] not in ("act", "lint"):
        print("Aufruf: … local act WORKFLOW.yml | lint WORKFLOW.yml …", file=sys.stderr)
        return 2
    if absent := [path for path in sys.argv[2:] if not (ROOT / path).is_file()]:
        print(f"Gibt es nicht: {', '.join(absent)}", file=sys.stderr)
        return 2
    try:
        return act(sys.argv[2]) if sys.argv[1] == "act" else lint(sys.argv[2:])
    except FileNotFoundError:
        remedy = "python tools/setup.py ci_cd_pipeline"
        print(f"Es fehlt die Umgebung des Kapitels. Abhilfe: {remedy}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
