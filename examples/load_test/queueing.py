"""Die Warteschlange vor einem Platz, gerechnet, ohne einen Dienst zu fragen.

Aufruf: python -m examples.load_test.queueing {formula,spread}
"""

import argparse
import json
import random
from collections.abc import Iterable, Sequence

from examples.load_test.measures import percentile

SEED, SERVICE = 7, 1.0


def waiting(times: Iterable[float], service: float) -> list[float]:
    """Wie lange jede Anfrage braucht, wenn ein Platz je Antwort `service` Sekunden benötigt.

    Die Rekursion von Lindley: Wer kommt, wartet auf den Rest dessen, was vor ihm liegt.
    """
    latencies, free_at = [], 0.0
    for now in times:
        free_at = max(free_at, now) + service
        latencies.append(free_at - now)
    return latencies


def random_times(rate: float, count: int, seed: int = SEED) -> list[float]:
    """Zufällige, voneinander unabhängige Ankünfte."""
    chance, now, times = random.Random(seed), 0.0, []
    for _ in range(count):
        now += chance.expovariate(rate)
        times.append(now)
    return times


def mean_by_formula(utilisation: float, service: float = SERVICE) -> float:
    """Die mittlere Latenz in M/D/1: zufällige Ankünfte, feste Bedienzeit, ein Platz."""
    if not 0 <= utilisation < 1:
        raise ValueError("Ab einer Auslastung von 1 wächst die Warteschlange ohne Ende.")
    return service * (1 + utilisation / (2 * (1 - utilisation)))


def formula(utilisations: Sequence[float], count: int = 400_000) -> dict:
    """Mittelwert nach Formel und im Modell, dazu das p99; in Bedienzeiten."""
    rows = {}
    for utilisation in utilisations:
        latencies = waiting(random_times(utilisation / SERVICE, count), SERVICE)
        rows[f"{utilisation:g}"] = {
            "formula": round(mean_by_formula(utilisation), 2),
            "model": round(sum(latencies) / count, 2),
            "p99": round(percentile(latencies, 99), 1),
        }
    return rows


def spread(sizes: Sequence[int], utilisation: float = 0.8, repeats: int = 200) -> dict:
    """Wie sehr das geschätzte p99 streut, wenn ein Lauf nur so viele Anfragen hat.

    Je Größe viele Läufe; gezeigt werden die Grenzen, zwischen denen 90 % der Schätzungen liegen.
    """
    rows = {}
    for size in sizes:
        guesses = []
        for seed in range(repeats):
            latencies = waiting(random_times(utilisation, size, seed), SERVICE)
            guesses.append(percentile(latencies, 99))
        rows[size] = [round(percentile(guesses, 5), 1), round(percentile(guesses, 95), 1)]
    return rows


def main() -> None:
    """Zeigt Formel und Modell oder die Streuung als JSON."""
    parser = argparse.ArgumentParser(description="Warteschlangen rechnen")
    parser.add_argument("what", choices=("formula", "spread"))
    parser.add_argument("--utilisations", nargs="+", type=float, default=[0.5, 0.8, 0.9, 0.95])
    options = parser.parse_args()
    if not all(0 < utilisation < 1 for utilisation in options.utilisations):
        parser.error("Die Auslastung liegt zwischen 0 und 1.")
    rows = formula(options.utilisations) if options.what == "formula" else spread([50, 500, 5000])
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
