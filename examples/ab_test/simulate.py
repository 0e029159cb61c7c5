"""Versuche im Rechner, bei denen bekannt ist, dass es keinen Unterschied gibt.

Aufruf: python -m examples.ab_test.simulate peeking|power|unit|salt
Jede Zeile der Ausgabe ist JSON; die Seeds sind fest.
"""

import argparse
import json
import sys
from collections.abc import Iterator

import numpy as np
from scipy.special import bdtr

from examples.ab_test.assignment import bucket
from examples.ab_test.sequential import always_valid, boundaries

BASE, TARGET, PER_ARM = 0.10, 0.11, 14_749
FIXED = 1.959964


def successes(rng: np.random.Generator, n: int, rate: float, shape: tuple[int, int]) -> np.ndarray:
    """Zieht die Erfolge aus je `n` Versuchen; `rng.binomial` zöge mit jedem NumPy andere."""
    return bdtr(np.arange(n), n, rate).searchsorted(rng.random(shape), side="right")


def looks_at(
    rng: np.random.Generator, runs: int, looks: int, rates: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Spielt `runs` Versuche durch; gibt je Blick z und die Varianz der Differenz zurück."""
    each = PER_ARM // looks
    seen = each * np.arange(1, looks + 1)
    control, treatment = (
        successes(rng, each, rate, (runs, looks)).cumsum(axis=1) for rate in rates
    )
    pooled = (control + treatment) / (2 * seen)
    variance = pooled * (1 - pooled) * 2 / seen
    return (treatment - control) / seen / np.sqrt(variance), variance


def alarms(looks: int, runs: int, rates: tuple[float, float]) -> dict:
    """Wie oft je Verfahren irgendein Blick einen Unterschied meldet."""
    z, variance = looks_at(np.random.default_rng(looks), runs, looks, rates)
    flagged = {
        "naive": np.abs(z) > FIXED,
        "obrien_fleming": np.abs(z) > boundaries(looks),
        "msprt": always_valid(z, variance, TARGET - BASE) < 0.05,
    }
    return {name: round(float(hit.any(axis=1).mean()), 3) for name, hit in flagged.items()}


def duration(looks: int, runs: int, rates: tuple[float, float]) -> float:
    """Welcher Anteil der geplanten Nutzer im Mittel bis zum Ende nötig war."""
    z, _ = looks_at(np.random.default_rng(looks), runs, looks, rates)
    hit = np.abs(z) > boundaries(looks)
    ended = np.where(hit.any(axis=1), hit.argmax(axis=1) + 1, looks)
    return round(float(ended.mean() / looks), 2)


def peeking(runs: int) -> Iterator[dict]:
    """A/A-Tests: Jeder Alarm ist falsch."""
    for looks in (1, 5, 20):
        yield {"looks": looks, **alarms(looks, runs, (BASE, BASE))}


def power(runs: int) -> Iterator[dict]:
    """Der geplante Unterschied ist da: Wie oft wird er gefunden, und wie früh?"""
    for looks in (1, 5, 20):
        found = alarms(looks, runs, (BASE, TARGET))
        found["share_of_users"] = duration(looks, runs, (BASE, TARGET))
        yield {"looks": looks, **found}


def z_of(treated: np.ndarray, values: np.ndarray) -> float:
    """Vergleicht die Mittelwerte zweier Gruppen."""
    a, b = values[treated], values[~treated]
    return float((a.mean() - b.mean()) / np.sqrt(a.var() / len(a) + b.var() / len(b)))


def unit(runs: int) -> Iterator[dict]:
    """Zugeteilt wird der Nutzer; ausgewertet wird einmal die Anfrage, einmal der Nutzer."""
    rng, users, wrong = np.random.default_rng(0), 1000, {"request": 0, "user": 0}
    for _ in range(runs // 10):
        visits = rng.poisson(8, users) + 1
        # Wer einmal kauft, kauft öfter: Die Anfragen eines Nutzers gleichen einander.
        sold = rng.binomial(visits, rng.beta(1, 9, users))
        treated = rng.random(users) < 0.5
        wrong["user"] += abs(z_of(treated, sold / visits)) > FIXED
        rates = [sold[group].sum() / visits[group].sum() for group in (treated, ~treated)]
        sizes = [visits[group].sum() for group in (treated, ~treated)]
        error = np.sqrt(sum(r * (1 - r) / n for r, n in zip(rates, sizes, strict=True)))
        wrong["request"] += abs(rates[0] - rates[1]) / error > FIXED
    for name, count in wrong.items():
        yield {"unit": name, "false_alarms": round(int(count) / (runs // 10), 3)}


def salt(runs: int) -> Iterator[dict]:
    """Der erste Versuch wirkt nach; der zweite ist ein A/A-Test mit altem oder neuem Salt."""
    rng, users, wrong = np.random.default_rng(0), 1000, {"same": 0, "new": 0}
    for run in range(runs // 50):
        first, second = (
            np.array([bucket(f"user-{n}", f"{name}-{run}") for n in range(users)]) < 0.5
            for name in ("first", "second")
        )
        # Wer im ersten Versuch die Behandlung sah, kauft seitdem öfter.
        sold = rng.random(users) < np.where(first, 0.15, BASE)
        wrong["same"] += abs(z_of(first, sold)) > FIXED
        wrong["new"] += abs(z_of(second, sold)) > FIXED
    for name, count in wrong.items():
        yield {"salt": name, "false_alarms": round(int(count) / (runs // 50), 3)}


KINDS = {"peeking": peeking, "power": power, "unit": unit, "salt": salt}


def main() -> int:
    """Spielt eine Art von Versuchen durch."""
    parser = argparse.ArgumentParser(description="Versuche simulieren")
    parser.add_argument("kind", choices=list(KINDS))
    for row in KINDS[parser.parse_args().kind](runs=10_000):
        print(json.dumps(row))
    return 0


if __name__ == "__main__":
    sys.exit(main())
