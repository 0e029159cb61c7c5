"""Grenzen, mit denen mehrmals hingesehen werden darf, ohne öfter falschen Alarm zu geben.

Aufruf: python -m examples.ab_test.sequential --looks 5
Quelle der Verfahren: O'Brien und Fleming (1979), Pocock (1977), Johari u. a. (2017).
"""

import argparse
import json
import math
import sys
from statistics import NormalDist

import numpy as np

from examples.ab_test.options import above_zero

NODES, WEIGHTS = np.polynomial.legendre.leggauss(200)


def bell(x: np.ndarray) -> np.ndarray:
    """Die Dichte der Normalverteilung."""
    return np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)


def crossing(limits: list[float]) -> float:
    """Wahrscheinlichkeit, dass die Summe von k Normalzahlen je außerhalb ±limits[k] liegt.

    Je Blick wird die Dichte derer, die noch im Versuch sind, um einen Schritt weitergerechnet.
    """
    points, density = limits[0] * NODES, bell(limits[0] * NODES)
    inside = limits[0] * WEIGHTS @ density
    for before, limit in zip(limits, limits[1:], strict=False):
        reached = limit * NODES
        density = bell(reached[:, None] - points) @ (before * WEIGHTS * density)
        points, inside = reached, limit * WEIGHTS @ density
    return float(1 - inside)


def boundaries(looks: int, alpha: float = 0.05, kind: str = "obrien_fleming") -> list[float]:
    """Gibt je Blick die Grenze für |z| zurück; zusammen irren sie mit Wahrscheinlichkeit alpha.

    O'Brien-Fleming beginnt streng und endet fast bei 1,96; Pocock bleibt immer gleich streng.
    """
    if looks == 1:
        return [NormalDist().inv_cdf(1 - alpha / 2)]
    # Erst hier: Der Import dauert, und für einen Blick ist nichts zu suchen.
    from scipy.optimize import brentq

    steps = np.arange(1, looks + 1)
    shape = np.sqrt(looks / steps) if kind == "obrien_fleming" else np.ones(looks)
    constant = brentq(lambda c: crossing(list(c * shape * np.sqrt(steps))) - alpha, 1, 6)
    return [float(value) for value in constant * shape]


def always_valid(z: np.ndarray, variance: np.ndarray, tau: float) -> np.ndarray:
    """Gibt den p-Wert des mSPRT zurück, gültig bei jedem Blick, auch ohne Plan.

    `variance` ist die der gemessenen Differenz, `tau` der Unterschied, mit dem zu rechnen ist.
    """
    spread = variance + tau**2
    evidence = np.sqrt(variance / spread) * np.exp(z**2 * tau**2 / (2 * spread))
    return np.minimum(1, 1 / evidence)


def main() -> int:
    """Zeigt die Grenzen beider Verfahren."""
    parser = argparse.ArgumentParser(description="Grenzen für mehrere Blicke")
    parser.add_argument("--looks", type=above_zero(int), default=5)
    looks = parser.parse_args().looks
    if looks > 100:
        parser.error("Mehr als 100 Blicke braucht niemand.")
    for kind in ("obrien_fleming", "pocock"):
        found = boundaries(looks, kind=kind)
        last = 2 * NormalDist().cdf(-found[-1])
        row = {"kind": kind, "z": [round(z, 3) for z in found]}
        print(json.dumps(row | {"last_p": round(float(last), 4)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
