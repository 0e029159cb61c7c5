"""Regeln an Daten prüfen, von denen bekannt ist, ob sie driften.

Aufruf: `python -m examples.drift_detection.simulate WAS`
`false-alarms` zählt PSI > 0,1 ohne Drift, `p-values` dieselbe kleine Verschiebung in immer mehr
Zeilen, `many-features` Fehlalarme bei 20 Merkmalen, `season` drei Referenzfenster in zwei Jahren.
"""

import argparse
import json
import sys
from collections.abc import Iterator

import numpy as np

from examples.drift_detection.measures import (
    benjamini_hochberg,
    bonferroni,
    ks,
    psi,
    psi_limit,
    psi_p_value,
    psi_without_drift,
    quantile_edges,
    shares,
)

SEED = 3
CLASSES = 10
RULE = 0.1
ALPHA = 0.05
SHIFT = 0.03


def stones(name: str) -> np.ndarray:
    """Gibt ein Merkmal aller Diamanten zurück."""
    # Erst hier: Zwei der Versuche kommen ohne Daten und ohne die großen Pakete aus.
    from examples.price_model.data import load_diamonds

    return load_diamonds()[0][name].to_numpy()


def compared(reference: np.ndarray, current: np.ndarray) -> float:
    """PSI zweier Stichproben; die Klassen sind zehn gleich große der ersten."""
    limits = quantile_edges(reference, CLASSES)
    return psi(shares(reference, limits), shares(current, limits))


def false_alarms(repeats: int = 1000) -> Iterator[dict]:
    """Zieht Referenz und Betrieb aus denselben Steinen: Jeder Alarm ist ein Fehlalarm."""
    rng = np.random.default_rng(SEED)
    lengths = stones("x")
    for size in (100, 200, 500, 1000, 5000):
        found = np.array(
            [compared(rng.choice(lengths, size), rng.choice(lengths, size)) for _ in range(repeats)]
        )
        limit = psi_limit(CLASSES, size, size, ALPHA)
        yield {
            "n": size,
            "mean": round(float(found.mean()), 3),
            "formula": round(psi_without_drift(CLASSES, size, size), 3),
            "above 0.1": round(float((found > RULE).mean()), 2),
            "limit": round(limit, 3),
            "above limit": round(float((found > limit).mean()), 2),
        }


def p_values(repeats: int = 200) -> Iterator[dict]:
    """Verschiebt eine Normalverteilung um 0,03 Standardabweichungen und vergleicht sie."""
    rng = np.random.default_rng(SEED)
    for size in (500, 5_000, 500_000):
        # Bei einer halben Million Zeilen schwankt nichts mehr, was hier zählt.
        runs = repeats if size < 100_000 else 3
        pairs = ((rng.normal(size=size), rng.normal(SHIFT, size=size)) for _ in range(runs))
        results = [(*ks(a, b), compared(a, b)) for a, b in pairs]
        distances, probabilities, indices = np.array(results).T
        yield {
            "n": size,
            "p < 0.05": round(float((probabilities < ALPHA).mean()), 2),
            "median p": float(f"{np.median(probabilities):.0e}"),
            "distance": round(float(np.median(distances)), 3),
            "PSI": round(float(np.median(indices)), 3),
        }


def many_features(repeats: int = 200, features: int = 20, size: int = 500) -> Iterator[dict]:
    """Prüft 20 Merkmale zugleich, erst ohne Drift, dann mit Drift in fünf davon."""
    for drifted in (0, 5):
        rng = np.random.default_rng(SEED)
        shifts = np.where(np.arange(features) < drifted, 0.2, 0.0)
        alarms = {"none": [], "Bonferroni": [], "Benjamini-Hochberg": []}
        for _ in range(repeats):
            reference = rng.normal(size=(features, size))
            current = rng.normal(shifts[:, None], size=(features, size))
            p = [ks(a, b)[1] for a, b in zip(reference, current, strict=True)]
            alarms["none"].append(np.asarray(p) <= ALPHA)
            alarms["Bonferroni"].append(bonferroni(p, ALPHA))
            alarms["Benjamini-Hochberg"].append(benjamini_hochberg(p, ALPHA))
        for correction, runs in alarms.items():
            rows = np.array(runs)
            false = rows[:, drifted:]
            row = {"drifted": drifted, "correction": correction}
            row["any false alarm"] = round(float(false.any(axis=1).mean()), 2)
            if drifted:
                reported = np.maximum(rows.sum(axis=1), 1)
                row["false among reported"] = round(float((false.sum(axis=1) / reported).mean()), 2)
                row["found"] = round(float(rows[:, :drifted].mean()), 2)
            yield row


def two_years(size: int = 1000) -> list[np.ndarray]:
    """24 Monate Gewichte: im November und Dezember schwerere Steine, ab Monat 13 ein Anstieg."""
    rng = np.random.default_rng(SEED)
    logarithms = np.log(stones("carat"))
    return [
        np.exp(
            # Gestreut, weil sich die Gewichte auf runden Zahlen häufen, vor allem auf 1 Karat.
            rng.choice(logarithms, size)
            + rng.normal(0, 0.15, size)
            + 0.3 * (month % 12 >= 10)
            + 0.03 * max(0, month - 11)
        )
        for month in range(24)
    ]


def season() -> Iterator[dict]:
    """Vergleicht jeden Monat mit drei verschiedenen Referenzen; gezählt wird ab 1.

    Alarm heißt: PSI über 0,1 und mit weniger als einem Tausendstel Fehlalarmen.
    """
    months = two_years()
    references = {
        "first three months": lambda month: np.concatenate(months[:3]) if month >= 3 else None,
        "previous month": lambda month: months[month - 1] if month >= 1 else None,
        "same month last year": lambda month: months[month - 12] if month >= 12 else None,
    }
    for name, reference_of in references.items():
        alarms = []
        for month, current in enumerate(months):
            reference = reference_of(month)
            if reference is None:
                continue
            value = compared(reference, current)
            rare = psi_p_value(value, CLASSES, len(reference), len(current)) < 0.001
            if value > RULE and rare:
                alarms.append(month + 1)
        yield {"reference": name, "alarms": alarms}


EXPERIMENTS = {
    "false-alarms": false_alarms,
    "p-values": p_values,
    "many-features": many_features,
    "season": season,
}


def main() -> int:
    """Rechnet einen Versuch und zeigt je Zeile ein JSON-Objekt."""
    parser = argparse.ArgumentParser(description="Regeln für Drift an bekannten Daten prüfen")
    parser.add_argument("what", choices=list(EXPERIMENTS))
    for row in EXPERIMENTS[parser.parse_args().what]():
        print(json.dumps(row))
    return 0


if __name__ == "__main__":
    sys.exit(main())
