"""Drift bauen: aus den Teststeinen je eine Lieferung, in der sich genau ein Faktor ändert.

Aufruf: `python -m examples.drift_detection.constructed [ORDNER]`
Zeigt, was sich je Lieferung ändert und was das Modell davon hat; ist ein Ordner genannt, so
liegen dort danach Referenz und Lieferungen als CSV.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

import joblib
import numpy as np
import pandas as pd

from examples.drift_detection.measures import psi, psi_without_drift, quantile_edges, shares
from examples.price_model.data import TARGET, load_diamonds, split
from examples.price_model.predict import ARTIFACTS, ModelMissingError, load_metadata
from examples.price_model.schema import CATEGORIES, FEATURES
from examples.price_model.storage import write_together

SEED = 7
# So viele Steine stehen in jedem CSV.
EXPORTED = 2500
# In einer Gruppe liegen nur hundert bis fünfhundert Steine: wenige Klassen, wenig Zufall.
GROUP_CLASSES = 5
# Wie oft ein Stein je Schliff erhalten bleibt. Die Zahlen sind so gewählt, dass Schliffe mit
# großem und mit kleinem Fehler im selben Verhältnis bleiben.
KEPT_BY_CUT = {"Fair": 0.49, "Good": 0.49, "Very Good": 1.0, "Premium": 0.49, "Ideal": 0.2}
INFLATION = 1.15


def thinned(rows: pd.DataFrame, kept: np.ndarray, seed: int) -> pd.DataFrame:
    """Behält jede Zeile mit ihrer Wahrscheinlichkeit; was diese nicht kennt, bleibt unberührt."""
    return rows[np.random.default_rng(seed).random(len(rows)) < kept]


def rising(values: pd.Series) -> np.ndarray:
    """Je größer der Wert, desto sicherer bleibt die Zeile: von 10 % bis 100 % in zehn Klassen."""
    return (1 + np.searchsorted(quantile_edges(values), values, "right")) / 10


def none(rows: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Alles bleibt, wie es war."""
    return rows


def covariate(rows: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Kovariatendrift: Ausgewählt wird nach dem Gewicht, P(Preis | Merkmale) bleibt."""
    return thinned(rows, rising(rows["carat"]), seed)


def covariate_by_cut(rows: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Kovariatendrift in einem Merkmal, das der Modellgüte nicht schadet."""
    return thinned(rows, rows["cut"].map(KEPT_BY_CUT).to_numpy(), seed)


def label(rows: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Labeldrift: Ausgewählt wird nach dem Preis, P(Merkmale | Preis) bleibt."""
    return thinned(rows, rising(rows[TARGET]), seed)


def concept(rows: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Konzeptdrift: dieselben Steine, jeder kostet mehr."""
    return rows.assign(**{TARGET: rows[TARGET] * INFLATION})


DRIFTS: dict[str, Callable[[pd.DataFrame, int], pd.DataFrame]] = {
    "none": none,
    "covariate": covariate,
    "covariate_by_cut": covariate_by_cut,
    "label": label,
    "concept": concept,
}


def halves(seed: int = SEED) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Teilt die Teststeine, die das Modell nie sah, in Referenz und Betrieb."""
    _, X_test, _, y_test = split(load_diamonds()[0])
    rows = X_test.assign(**{TARGET: y_test}).sample(frac=1, random_state=seed)
    return rows.iloc[: len(rows) // 2], rows.iloc[len(rows) // 2 :]


def estimated(rows: pd.DataFrame) -> pd.DataFrame:
    """Ergänzt die Vorhersage des Modells; welche Drift auch folgt, sie bleibt am Stein.

    Raises:
        `ModelMissingError`: Die Datei des Modells fehlt.
    """
    try:
        model = joblib.load(ARTIFACTS / "price_model.joblib")
    except FileNotFoundError:
        message = f"In {ARTIFACTS.name}/ fehlt price_model.joblib. Zuerst ausführen: make model"
        raise ModelMissingError(message) from None
    return rows.assign(predicted=model.predict(rows[list(FEATURES)]))


def edges(reference: pd.DataFrame, name: str, classes: int = 10) -> np.ndarray | tuple[str, ...]:
    """Die Klassen eines Merkmals: seine Stufen oder Zehntel der Referenz."""
    return CATEGORIES.get(name) or quantile_edges(reference[name], classes)


def psi_of(reference: pd.DataFrame, current: pd.DataFrame, name: str, classes: int = 10) -> float:
    """PSI einer Spalte, in den Klassen der Referenz."""
    limits = edges(reference, name, classes)
    return psi(shares(reference[name], limits), shares(current[name], limits))


def conditional(reference: pd.DataFrame, current: pd.DataFrame, name: str, given: str) -> float:
    """Mittlerer PSI von `name` unter Steinen, die in `given` derselben Klasse angehören.

    Abgezogen ist, was so kleine Gruppen auch ohne Drift zeigen; null heißt: unverändert.
    """
    limits = edges(reference, given)
    groups = [np.searchsorted(limits, rows[given], "right") for rows in (reference, current)]
    found = []
    for number in range(len(limits) + 1):
        before, after = reference[groups[0] == number], current[groups[1] == number]
        chance = psi_without_drift(GROUP_CLASSES, len(before), len(after))
        found.append(psi_of(before, after, name, GROUP_CLASSES) - chance)
    return float(np.mean(found))


def factors(reference: pd.DataFrame, current: pd.DataFrame) -> dict[str, float]:
    """Misst, welcher der vier Faktoren sich änderte, als gerundeten PSI."""
    found = {
        "carat": psi_of(reference, current, "carat"),
        "price": psi_of(reference, current, TARGET),
        "price given carat": conditional(reference, current, TARGET, "carat"),
        "carat given price": conditional(reference, current, "carat", TARGET),
    }
    return {name: round(value, 1) + 0.0 for name, value in found.items()}


def errors(reference: pd.DataFrame, current: pd.DataFrame) -> dict[str, float]:
    """Größte Drift der Merkmale, Drift der Vorhersage und Modellgüte auf beiden Seiten."""
    return {
        "largest feature PSI": round(max(psi_of(reference, current, f) for f in FEATURES), 2),
        "prediction PSI": round(psi_of(reference, current, "predicted"), 2),
        "mae_before": round(mean_error(reference)),
        "mae_after": round(mean_error(current)),
    }


def mean_error(rows: pd.DataFrame) -> float:
    """Mittlerer Fehler der Vorhersage in US-Dollar."""
    return float((rows["predicted"] - rows[TARGET]).abs().mean())


def export(folder: Path, tables: dict[str, pd.DataFrame]) -> None:
    """Schreibt gleich lange Tabellen als CSV, ohne Vorhersagen."""
    kept = {name: rows[[*FEATURES, TARGET]].head(EXPORTED) for name, rows in tables.items()}
    files = {f"{name}.csv": rows.to_csv(index=False).encode() for name, rows in kept.items()}
    write_together(folder, files)


def main() -> int:
    """Rechnet und zeigt je Lieferung eine Zeile JSON."""
    parser = argparse.ArgumentParser(description="Drift bauen und messen")
    parser.add_argument("folder", nargs="?", type=Path, help="wohin die Tabellen sollen")
    options = parser.parse_args()
    try:
        load_metadata()
        reference, operation = map(estimated, halves())
    except ModelMissingError as error:
        print(error, file=sys.stderr)
        return 1
    deliveries = {name: drift(operation, SEED) for name, drift in DRIFTS.items()}
    try:
        if options.folder is not None:
            export(options.folder, {"reference": reference} | deliveries)
    except OSError:
        print(f"Nach {options.folder.name} lässt sich nicht schreiben.", file=sys.stderr)
        return 1
    for name, current in deliveries.items():
        row = factors(reference, current) | errors(reference, current)
        print(json.dumps({"drift": name} | row))
    return 0


if __name__ == "__main__":
    sys.exit(main())
