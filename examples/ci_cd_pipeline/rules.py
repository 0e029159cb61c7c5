"""Regeln für einen Workflow, der ausliefert: Kann er überhaupt rot werden, und fehlt ihm nichts?

actionlint und zizmor lesen Syntax und Rechte; dass ein Gate nie sperrt, halten beide für Absicht.

Aufruf: python -m examples.ci_cd_pipeline.rules WORKFLOW.yml …
"""

import re
import sys
from pathlib import Path

import yaml

from examples.ci_cd_pipeline.run import names

STAGE = re.compile(r"python -m examples\.ci_cd_pipeline\.run (\w+)$")
SWALLOWED = re.compile(r"\|\|\s*(true|:|exit 0)|set \+e|;\s*true$")
PINNED = re.compile(r"[\w./-]+@[0-9a-f]{40}")


# [rules]
def problems(workflow: dict) -> list[str]:
    """Nennt alles, womit der Workflow grün ausliefern könnte, was rot sein müsste."""
    found, ran = [], []
    for job in workflow["jobs"].values():
        for step in [job, *job["steps"]]:
            name = step.get("name", step.get("uses", "ohne Namen"))
            if SWALLOWED.search(step.get("run", "")):
                found.append(f"{name}: verschluckt den Exitcode")
            if step.get("continue-on-error"):
                found.append(f"{name}: läuft nach einem Fehler weiter")
            if re.search(r"always\(\)|failure\(\)|cancelled\(\)", str(step.get("if", ""))):
                found.append(f"{name}: läuft auch nach einem Fehler")
            elif "if" in step:
                found.append(f"{name}: läuft nur unter einer Bedingung")
            if "uses" in step and not PINNED.fullmatch(step["uses"]):
                found.append(f"{name}: nicht auf einen Commit festgelegt")
            if stage := STAGE.match(step.get("run", "")):
                ran.append(stage[1])
    if ran != names():
        missing = [name for name in names() if name not in ran]
        found.append(f"Stufen fehlen: {', '.join(missing)}" if missing else "Stufen vertauscht")
    return found


# [end rules]


def main() -> int:
    """Nennt je Datei, was nicht stimmt."""
    if not sys.argv[1:]:
        print("Aufruf: python -m examples.ci_cd_pipeline.rules WORKFLOW.yml …", file=sys.stderr)
        return 2
    bad = 0
    for path in map(Path, sys.argv[1:]):
        try:
            found = problems(yaml.safe_load(path.read_text(encoding="utf-8")))
        except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError):
            found = ["kein lesbarer Workflow"]
        bad += len(found)
        print(f"{path.name}: {'in Ordnung' if not found else ''}".rstrip())
        for problem in found:
            print(f"  {problem}")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
