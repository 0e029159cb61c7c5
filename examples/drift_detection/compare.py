"""Die Maße von Hand mit denen von Evidently und scipy vergleichen; in der Umgebung des Kapitels.

Aufruf: `python -m examples.drift_detection.compare REFERENZ.csv BETRIEB.csv`
Das JSON enthält unter `measures` eigene und fremde Werte nebeneinander, unter `preset`, was
Evidently von sich aus wählt, und denselben Wert mit vertauschten Tabellen, unter `outdated`,
was aus Zeilen von 2023 wird.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import ks_2samp

from examples.drift_detection.measures import ks, psi, quantile_edges, shares
from examples.drift_detection.outdated import OLD, attempt


def report(reference: pd.DataFrame, current: pd.DataFrame, **choices: str) -> list[dict]:
    """Gibt die Einträge des Berichts zurück; der erste zählt die Spalten mit Drift."""
    # Erst hier: Der Import dauert Sekunden, eine fehlende Tabelle soll sofort auffallen.
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    texts = list(reference.select_dtypes(exclude="number"))
    columns = DataDefinition(
        numerical_columns=[name for name in reference if name not in texts],
        categorical_columns=texts,
    )
    # Mit Namen: Ohne sie gilt die Reihenfolge Betrieb, Referenz, und ein Tausch fällt nicht auf.
    snapshot = Report([DataDriftPreset(**choices)]).run(
        current_data=Dataset.from_pandas(current, columns),
        reference_data=Dataset.from_pandas(reference, columns),
    )
    return snapshot.dict()["metrics"]


def by_column(metrics: list[dict]) -> dict[str, dict]:
    """Ordnet die Einträge ihrer Spalte zu."""
    return {entry["config"]["column"]: entry for entry in metrics if "column" in entry["config"]}


def measures(reference: pd.DataFrame, current: pd.DataFrame) -> list[dict]:
    """PSI und KS jeder Zahlenspalte: von Hand, von Evidently, von scipy.

    Evidently teilt in gleich breite Klassen nach Sturges, das Kapitel in Zehntel der Referenz.
    """
    theirs_psi = by_column(report(reference, current, method="psi"))
    theirs_ks = by_column(report(reference, current, num_method="ks"))
    rows = []
    for name in reference.select_dtypes("number"):
        before, after = reference[name].to_numpy(), current[name].to_numpy()
        sturges = np.histogram_bin_edges(np.concatenate([before, after]), bins="sturges")[1:-1]
        distance, p_value = ks(before, after)
        large = ks_2samp(before, after, method="asymp")
        rows.append(
            {
                "column": name,
                "psi tenths": psi(*(shares(v, quantile_edges(before)) for v in (before, after))),
                "psi sturges": psi(*(shares(values, sturges) for values in (before, after))),
                "psi evidently": float(theirs_psi[name]["value"]),
                "ks": distance,
                "ks scipy": float(large.statistic),
                "p": p_value,
                "p scipy": float(large.pvalue),
                # Bis 10 000 Zeilen rechnet Evidently wie scipy von sich aus: genau statt genähert.
                "p exact": float(ks_2samp(before, after).pvalue),
                "p evidently": float(theirs_ks[name]["value"]),
            }
        )
    return rows


def preset(reference: pd.DataFrame, current: pd.DataFrame) -> list[dict]:
    """Nennt je Spalte, was Evidently ohne Angaben nimmt: Verfahren, Wert und Urteil."""
    swapped = by_column(report(current, reference))
    rows = []
    for name, entry in by_column(report(reference, current)).items():
        method, value = entry["config"]["method"], entry["value"]
        below = value < entry["config"]["threshold"]
        rows.append(
            {
                "column": name,
                "method": method,
                "value": round(value, 2),
                "swapped": round(swapped[name]["value"], 2),
                # Ein p-Wert schlägt an, wenn er klein ist, ein Abstand, wenn er groß ist.
                "drifted": bool(below == ("p_value" in method)),
            }
        )
    return rows


def main() -> int:
    """Liest beide Tabellen und zeigt alle Werte als JSON."""
    parser = argparse.ArgumentParser(description="Mit Evidently vergleichen")
    parser.add_argument("reference", type=Path)
    parser.add_argument("current", type=Path)
    options = parser.parse_args()
    try:
        tables = [pd.read_csv(path) for path in (options.reference, options.current)]
    except (OSError, ValueError):
        print("Eine der beiden Tabellen fehlt oder ist kein CSV.", file=sys.stderr)
        return 1
    if list(tables[0]) != list(tables[1]):
        print("Die beiden Tabellen haben verschiedene Spalten.", file=sys.stderr)
        return 1
    found = {"measures": measures(*tables), "preset": preset(*tables)}
    print(json.dumps(found | {"outdated": [[line, attempt(line)] for line in OLD]}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
