"""Ersetzt alle Replikate durch eine andere Version, ohne dass eine Anfrage scheitert.

Compose kennt dafür keinen Befehl: `up` beendet erst alle alten und startet dann die neuen.

Aufruf: python -m examples.compose_stack.rollout 1.1.0 [--project price]
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from examples.compose_stack.start import last_line

COMPOSE = Path(__file__).parent / "compose.yaml"
REPLICAS = 3


class RolloutError(RuntimeError):
    """Ein Schritt ist gescheitert; Replikate antworten weiter, die alten oder schon die neuen."""


def replace(old: str, new: str, project: str) -> None:
    """Stellt die neuen Replikate neben die alten und nimmt die alten erst danach fort."""
    beside = ["--no-recreate", "--no-deps", "--scale", f"api={2 * REPLICAS}"]
    reload = ["exec", "-T", "lb", "nginx", "-s", "reload"]
    try:
        compose(new, project, "up", "--detach", "--wait", *beside, "api")
    except BaseException:  # auch von Hand abgebrochen
        remove(new, project)  # die alten haben die ganze Zeit geantwortet
        raise
    compose(new, project, *reload)  # nginx lernt die neuen
    remove(old, project)
    compose(new, project, *reload)  # und vergisst die alten


def remove(version: str, project: str) -> None:
    """Beendet die Replikate einer Version eines nach dem anderen, mit Frist für ihre Antworten."""
    for name, found in replicas(project).items():
        if found == version:
            for word in ("stop", "rm"):
                done = subprocess.run(["docker", word, name], capture_output=True, encoding="utf-8")
                if done.returncode:
                    reason = last_line(done.stderr)
                    raise RolloutError(f"docker {word} {name} scheiterte: {reason}")


def compose(version: str, project: str, *arguments: str) -> None:
    """Ruft Compose mit der Version auf; scheitert der Befehl, dann mit seiner Meldung."""
    done = subprocess.run(
        ["docker", "compose", "-f", COMPOSE, "-p", project, *arguments],
        env={**os.environ, "PRICE_VERSION": version},
        capture_output=True,
        encoding="utf-8",
    )
    if done.returncode:
        raise RolloutError(last_line(done.stderr))


def replicas(project: str) -> dict[str, str]:
    """Gibt zu jedem Container des Dienstes seine Version zurück."""
    labels = [f"com.docker.compose.project={project}", "com.docker.compose.service=api"]
    filters = [part for label in labels for part in ("--filter", f"label={label}")]
    listing = [
        "docker",
        "ps",
        "--all",
        *filters,
        "--format",
        '{{.Names}} {{.Label "price.version"}}',
    ]
    done = subprocess.run(listing, capture_output=True, encoding="utf-8")
    if done.returncode:
        raise RolloutError(last_line(done.stderr))
    return dict(line.partition(" ")[::2] for line in done.stdout.splitlines())


def running(project: str) -> str:
    """Gibt die eine Version zurück, die alle Replikate haben."""
    versions = sorted(set(replicas(project).values()))
    if len(versions) != 1 or not versions[0]:
        found = ", ".join(versions) or "keine"
        raise RolloutError(f"Gebraucht wird genau eine laufende Version, gefunden: {found}.")
    return versions[0]


def main() -> int:
    """Ersetzt und nennt beide Versionen; scheitert es, den Grund und was weiter antwortet."""
    parser = argparse.ArgumentParser(description="Replikate ohne Ausfall ersetzen.")
    parser.add_argument("version", help="etwa 1.1.0, als Image price-api:1.1.0 vorhanden")
    parser.add_argument("--project", default="price", help="Name des Projekts in Compose")
    options = parser.parse_args()
    try:
        old = running(options.project)
        if old == options.version:
            raise RolloutError(f"Version {old} läuft schon.")
        replace(old, options.version, options.project)
    except FileNotFoundError:
        print("Docker ist nicht installiert.", file=sys.stderr)
        return 1
    except RolloutError as error:
        print(f"Nicht ganz ersetzt: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Nicht ganz ersetzt: Der Wechsel wurde abgebrochen.", file=sys.stderr)
        return 1
    print(f"{old} → {options.version}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
