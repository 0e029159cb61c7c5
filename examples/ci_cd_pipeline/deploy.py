"""Etwas auf einen Platz bringen und warten, bis es antwortet; sonst kommt das Vorige zurück.

Aufruf: python -m examples.ci_cd_pipeline.deploy STATE staging --url URL --release REF.json
        python -m examples.ci_cd_pipeline.deploy STATE production --url URL --from staging
        python -m examples.ci_cd_pipeline.deploy STATE staging --empty
"""

import argparse
import json
import os
import signal
import sys
import time
from pathlib import Path

import httpx

from examples.price_model.predict import ModelMissingError, load_metadata
from examples.price_model.schema import EXAMPLE


class DeployError(RuntimeError):
    """Das Neue läuft nicht; auf dem Platz ist wieder, was vorher dort war."""


def served_version(url: str) -> str | None:
    """Fragt den Dienst nach einem Preis und gibt zurück, welches Modell ihn nannte."""
    try:
        response = httpx.post(f"{url}/predict", json=EXAMPLE, timeout=2, trust_env=False)
        return response.json()["model_version"] if response.status_code == 200 else None
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError):
        return None


def write(file: Path, content: str | None) -> None:
    """Ersetzt die Datei in einem Zug; None entfernt sie."""
    if content is None:
        return file.unlink(missing_ok=True)
    partial = file.with_name(f"{file.name}.{os.getpid()}.part")
    partial.write_text(content, encoding="utf-8")
    partial.replace(file)


def await_version(url: str, version: str | None, deadline: float) -> bool:
    """Wartet, bis der Platz mit dieser Version antwortet; None heißt: gar nicht mehr."""
    while time.monotonic() < deadline:
        if served_version(url) == version:
            return True
        time.sleep(0.1)
    return False


def reused(before: str | None, wanted: dict) -> bool:
    """Trägt etwas anderes dieselbe Version wie das, was dort läuft?"""
    try:
        running = json.loads(before or "{}")
        return running != wanted and running.get("model_version") == wanted["model_version"]
    except (ValueError, AttributeError):
        return False


# [deploy]
def deploy(file: Path, wanted: dict, url: str, timeout: float) -> None:
    """Ändert den gewünschten Zustand und wartet; nach der Frist gilt wieder der alte.

    Trägt das Neue dieselbe Version wie das Alte, ist der Platz dazwischen leer.
    """
    version = wanted["model_version"]
    before = file.read_text(encoding="utf-8") if file.exists() else None
    deadline = time.monotonic() + timeout
    try:
        if reused(before, wanted):
            # Beide nennen dieselbe Version: Erst muss das Alte schweigen.
            write(file, None)
            await_version(url, None, deadline)
        write(file, json.dumps(wanted, indent=2))
        if not await_version(url, version, deadline):
            message = f"{file.stem} antwortete {timeout:g} s lang nicht als gewünschte Version."
            raise DeployError(message)
    except BaseException:  # auch ein Abbruch von Hand lässt nichts Halbes stehen
        write(file, before)
        raise


# [end deploy]


def wanted_state(options: argparse.Namespace) -> dict:
    """Was auf den Platz soll: aus einem Release, von einem anderen Platz oder ein Ordner."""
    if options.model:
        version = load_metadata(options.model)["model_version"]
        return {"model": str(options.model.resolve()), "model_version": version}
    source = options.release or options.state / f"{options.source}.json"
    return json.loads(source.read_text(encoding="utf-8"))


def main() -> int:
    """Bringt etwas auf einen Platz und nennt die Version, die dort antwortet."""
    parser = argparse.ArgumentParser(description="Etwas auf einen Platz bringen.")
    parser.add_argument("state", type=Path, help="Ordner mit <platz>.json")
    parser.add_argument("slot", help="etwa staging oder production")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--release", type=Path, help="JSON mit der Adresse des Images")
    what.add_argument("--from", dest="source", help="Platz, von dem übernommen wird")
    what.add_argument("--model", type=Path, help="Modellordner, ohne Docker")
    what.add_argument("--empty", action="store_true", help="den Platz räumen")
    parser.add_argument("--url", help="wo der Platz antwortet")
    parser.add_argument("--timeout", type=float, default=60, help="Geduld in Sekunden")
    options = parser.parse_args()
    file = options.state / f"{options.slot}.json"
    if options.empty:
        write(file, None)
        print(f"{options.slot} ist leer.")
        return 0
    if not options.url:
        parser.error("--url fehlt: Ohne Antwort gilt nichts als ausgerollt.")
    # Auch ein Abbruch durch die Plattform nimmt zurück, was noch nicht geantwortet hat.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        wanted = wanted_state(options)
        deploy(file, wanted, options.url.rstrip("/"), options.timeout)
    except (DeployError, ModelMissingError, OSError, ValueError, KeyError) as error:
        print(f"Nicht ausgerollt: {error}", file=sys.stderr)
        return 1
    print(f"{options.slot} antwortet mit Modell {wanted['model_version']}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
