"""Die Lage vor einem Lauf herstellen: Daten, Prüfsatz, Champion und was der Commit ändert.

Aufruf: python -m examples.ci_cd_pipeline.scenarios ORDNER SZENARIO [--drift concept]
Der Ordner bekommt stones.csv, testset.csv, champion/ und settings.json; was schon da ist,
bleibt, außer dem, was das Szenario ausmacht. Mit `--drift` kommt eine neue Lieferung samt neuem
Prüfsatz aus einer veränderten Welt, siehe examples.drift_detection.constructed.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path

import pandas as pd

from examples.price_model.data import TARGET, load_diamonds, split
from examples.price_model.predict import ARTIFACTS, ModelMissingError, load_metadata

APP = "examples.fastapi_service.metered:app"
STEADY = {"loss": "absolute_error", "max_iter": 150, "learning_rate": 0.2}
# Was ein Commit ändert: Version, Training und welche Anwendung im Image läuft.
SCENARIOS = {
    "good": {"model_version": "1.1.0", "parameters": STEADY, "turned": True, "app": APP},
    "worse": {
        "model_version": "1.2.0",
        "parameters": {"max_iter": 30, "learning_rate": 0.2},
        "turned": True,
        "app": APP,
    },
    "brittle": {
        "model_version": "1.3.0",
        "parameters": STEADY,
        "turned": False,
        "app": APP,
    },
    "broken_data": {"model_version": "1.4.0", "parameters": STEADY, "turned": True, "app": APP},
    "hasty": {
        "model_version": "1.5.0",
        "parameters": STEADY,
        "turned": True,
        "app": "examples.ci_cd_pipeline.hasty:app",
    },
}


def spoiled(table: pd.DataFrame) -> pd.DataFrame:
    """Eine Lieferung in Zentimetern: jede Zahl für sich möglich, zusammen unmöglich."""
    changed = table.copy()
    late = changed.index[-len(changed) // 10 :]
    changed.loc[late, ["x", "y", "z"]] /= 10
    return changed


def prepare(folder: Path, scenario: str, drift: str | None = None) -> dict:
    """Schreibt die Lage nach `folder` und gibt die Einstellungen zurück."""
    clean, testset = folder / "clean.csv", folder / "testset.csv"
    folder.mkdir(parents=True, exist_ok=True)
    if drift or not clean.exists():
        deliver(clean, testset, drift or "none")
    if scenario == "broken_data":
        spoiled(pd.read_csv(clean)).to_csv(folder / "stones.csv", index=False)
    else:
        shutil.copy(clean, folder / "stones.csv")
    if not (folder / "champion" / "metadata.json").exists():
        load_metadata(ARTIFACTS)
        shutil.copytree(ARTIFACTS, folder / "champion")
    settings = SCENARIOS[scenario]
    (folder / "settings.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")
    if scenario == "hasty":
        renamed(folder / "champion", folder / "candidate", settings["model_version"])
    return settings


def deliver(clean: Path, testset: Path, drift: str) -> None:
    """Schreibt Trainingsdaten und Prüfsatz des Falls, auf Wunsch mit Drift in beiden."""
    # Erst hier: Der Import holt scipy nach, und ohne Lieferung braucht es niemand.
    from examples.drift_detection.constructed import DRIFTS, SEED

    X_train, X_test, y_train, y_test = split(load_diamonds()[0])
    for path, X, y in ((testset, X_test, y_test), (clean, X_train, y_train)):
        DRIFTS[drift](X.assign(**{TARGET: y}), SEED).to_csv(path, index=False)


def renamed(source: Path, target: Path, version: str) -> None:
    """Dasselbe Modell unter neuer Version: Geändert hat der Commit nur den Dienst."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    metadata = load_metadata(source) | {"model_version": version}
    (target / "metadata.json").write_text(json.dumps(metadata, indent=2), encoding="utf-8")


def main() -> int:
    """Stellt die Lage her und nennt die Version des Kandidaten."""
    parser = argparse.ArgumentParser(description="Die Lage vor einem Lauf herstellen.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("scenario", choices=SCENARIOS)
    parser.add_argument("--drift", help="neue Lieferung: none, concept, covariate …")
    options = parser.parse_args()
    try:
        settings = prepare(options.folder, options.scenario, options.drift)
    except KeyError as error:
        print(f"Die Drift {error} gibt es nicht.", file=sys.stderr)
        return 1
    except (OSError, ModelMissingError) as error:
        print(f"Die Lage ließ sich nicht herstellen: {error}", file=sys.stderr)
        return 1
    print(f"Kandidat {settings['model_version']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
