"""Die Pipeline: benannte Stufen in fester Reihenfolge; die erste rote beendet den Lauf.

Der Workflow ruft je Schritt dieselbe Stufe auf, die auch lokal läuft.

Aufruf: python -m examples.ci_cd_pipeline.run [--folder ORDNER] [STUFE …]
Ohne Stufen laufen alle. Exitcode 0 heißt: Jede verlangte Stufe war grün.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from examples.ab_test.guardrail import Limits

EXAMPLE = Path(__file__).parent
ROOT = EXAMPLE.parent.parent
MODULE = "examples.ci_cd_pipeline"
ROUTER, STAGING, PRODUCTION = (f"http://127.0.0.1:{port}" for port in (8238, 8237, 8236))
REGISTRY = "127.0.0.1:8235"
SETTINGS = "settings.json"
LINES = 6
# Nur pytest selbst: Jede Erweiterung, die es sonst lädt, kostet je Stufe eine Sekunde.
LEAN = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}


def python(module: str, *words: object) -> list[str]:
    """Ein Programm dieses Beispiels."""
    return [sys.executable, "-m", f"{MODULE}.{module}", *map(str, words)]


def checks(name: str, *words: object) -> list[str]:
    """Eine der drei Prüfungen, ausgeführt mit pytest."""
    quiet = ["-q", "--tb=no", "-p", "no:cacheprovider"]
    tests = str(EXAMPLE / "checks" / name)
    return [sys.executable, "-m", "pytest", *quiet, tests, *map(str, words)]


# [stages]
def stages(folder: Path, options: argparse.Namespace, app: str) -> dict[str, list[list[str]]]:
    """Jede Stufe und ihre Befehle; wer eine ändert, ändert auch den Workflow."""
    stones, testset, settings = (folder / n for n in ("stones.csv", "testset.csv", SETTINGS))
    champion, candidate, state = (folder / n for n in ("champion", "candidate", "state"))
    report, release = folder / "gate.json", folder / "release.json"
    to = ["--registry", options.registry, "--app", app, "--output", release]
    ramp = ["--router", options.router, "--requests", options.requests]
    staging, production = ["--url", STAGING], ["--url", PRODUCTION]
    return {
        "data": [checks("data", "--stones", stones, "--testset", testset)],
        "code": [checks("code")],
        "train": [python("train", stones, settings, candidate)],
        "model": [checks("model", "--model", candidate, "--testset", testset)],
        "gate": [
            python(
                *("gate", "--champion", champion, "--candidate", candidate),
                *("--testset", testset, "--report", report),
            )
        ],
        "build": [python("image", "release", candidate, "--report", report, *to)],
        "staging": [
            # Blieb nach einem roten Lauf ein Anteil stehen, träfe das Neue ungeprüft auf Nutzer.
            python("canary", "--router", options.router, "--stop"),
            python("deploy", state, "staging", *staging, "--release", release),
            python("smoke", STAGING, "--model", candidate),
        ],
        "canary": [python("canary", *ramp)],
        "production": [
            # Auch nach der letzten Stufe kann der Router noch zurückrollen.
            python("canary", "--router", options.router, "--steps"),
            python("deploy", state, "production", *production, "--from", "staging"),
            python("finish", folder, "--router", options.router),
        ],
    }


# [end stages]


def app_of(settings: Path) -> str:
    """Welche Anwendung der Commit ins Image legt."""
    return str(json.loads(settings.read_text(encoding="utf-8"))["app"])


# [run]
def run(wanted: list[str], commands: dict[str, list[list[str]]]) -> int:
    """Führt die Stufen aus; nach der ersten roten geschieht nichts mehr."""
    for name in wanted:
        for command in commands[name]:
            done = subprocess.run(
                command, cwd=ROOT, env=os.environ | LEAN, capture_output=True, encoding="utf-8"
            )
            if done.returncode:
                print(f"{name:11}rot")
                print(reason(done), flush=True)
                return done.returncode
        print(f"{name:11}grün", flush=True)
    return 0


# [end run]


def reason(done: subprocess.CompletedProcess) -> str:
    """Das Ende der Ausgabe: bei pytest die Namen der gescheiterten Tests, sonst alles."""
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    # In CI hängt pytest die Meldung an; hier genügt der Name.
    said = [
        line.split("::")[-1].split(" - ")[0] for line in failed
    ] or f"{done.stdout}{done.stderr}".splitlines()
    return "\n".join(f"  {line}" for line in said[-LINES:])


def read_options(arguments: list[str] | None = None) -> argparse.Namespace:
    """Liest die Befehlszeile; der Ordner kann auch aus der Umgebung kommen."""
    parser = argparse.ArgumentParser(description="Die Pipeline, ganz oder in Stufen.")
    parser.add_argument("stages", nargs="*", metavar="STUFE", help="Vorgabe: alle")
    given = os.environ.get("PIPELINE_FOLDER", "")
    parser.add_argument("--folder", default=given, help="Vorgabe: PIPELINE_FOLDER")
    parser.add_argument("--router", default=ROUTER)
    parser.add_argument("--registry", default=REGISTRY)
    asked = Limits.min_requests
    parser.add_argument("--requests", type=int, default=asked, help="Fragen je Stufe des Canary")
    return parser.parse_args(arguments)


def names() -> list[str]:
    """Die Namen der Stufen in ihrer Reihenfolge."""
    return list(stages(Path(), read_options([]), ""))


def main() -> int:
    """Führt die verlangten Stufen aus."""
    options = read_options()
    if unknown := set(options.stages) - set(names()):
        known = ", ".join(names())
        print(f"Unbekannt: {', '.join(sorted(unknown))}; es gibt {known}.", file=sys.stderr)
        return 2
    folder = Path(options.folder).resolve()
    try:
        commands = stages(folder, options, app_of(folder / SETTINGS))
    except (OSError, ValueError, KeyError):
        print(f"Im Ordner fehlt {SETTINGS}, oder die Datei nennt keine app.", file=sys.stderr)
        return 2
    if not options.stages:
        # Ein Kandidat von gestern darf nicht für den von heute einspringen.
        for name in ("gate.json", "release.json"):
            (folder / name).unlink(missing_ok=True)
        shutil.rmtree(folder / "candidate", ignore_errors=True)
    return run(options.stages or names(), commands)


if __name__ == "__main__":
    sys.exit(main())
