"""Zwei Stichproben vergleichen: PSI und KS von Hand, ihre Grenzen und die Korrekturen."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import chi2, kstwo

# Ein leerer Anteil ergäbe einen unendlichen PSI; denselben Ersatz nimmt Evidently.
SMALLEST_SHARE = 1e-4


def quantile_edges(reference: np.ndarray, classes: int = 10) -> np.ndarray:
    """Gibt die inneren Grenzen zurück, die `reference` in gleich große Klassen teilen.

    Wiederholt sich ein Wert oft, fallen Grenzen zusammen, und es werden weniger Klassen.
    """
    return np.unique(np.quantile(reference, np.linspace(0, 1, classes + 1)[1:-1]))


def shares(values: Sequence, edges: np.ndarray | Sequence[str]) -> np.ndarray:
    """Gibt den Anteil jeder Klasse zurück; `edges` sind Grenzen oder die Stufen selbst."""
    if isinstance(edges[0], str):
        counts = np.array([np.count_nonzero(np.asarray(values) == grade) for grade in edges])
    else:
        counts = np.bincount(np.searchsorted(edges, values, "right"), minlength=len(edges) + 1)
    return counts / len(values)


def psi(expected: np.ndarray, actual: np.ndarray) -> float:
    """PSI zweier Reihen von Anteilen; 0 heißt gleich."""
    p, q = (np.where(s == 0, SMALLEST_SHARE, s) for s in (expected, actual))
    return float(np.sum((q - p) * np.log(q / p)))


def psi_without_drift(classes: int, n: int, m: int) -> float:
    """Der PSI, den zwei Stichproben derselben Verteilung im Mittel zeigen."""
    return (classes - 1) * (1 / n + 1 / m)


def psi_limit(classes: int, n: int, m: int, alpha: float) -> float:
    """Der PSI, den ohne Drift nur der Anteil `alpha` aller Vergleiche überschreitet."""
    return float(chi2.ppf(1 - alpha, classes - 1) * (1 / n + 1 / m))


def psi_p_value(value: float, classes: int, n: int, m: int) -> float:
    """Wie oft ein so großer PSI ohne Drift vorkommt."""
    return float(chi2.sf(value / (1 / n + 1 / m), classes - 1))


def ks(reference: np.ndarray, current: np.ndarray) -> tuple[float, float]:
    """Größter Abstand der beiden Verteilungsfunktionen und sein p-Wert nach Kolmogorow und Smirnow.

    Der p-Wert ist die Näherung für große Stichproben; bei vielen gleichen Werten ist er zu groß.
    """
    a, b = np.sort(reference), np.sort(current)
    every = np.concatenate([a, b])
    below_a, below_b = (np.searchsorted(s, every, "right") / len(s) for s in (a, b))
    distance = float(np.abs(below_a - below_b).max())
    return distance, float(kstwo.sf(distance, round(len(a) * len(b) / (len(a) + len(b)))))


def bonferroni(p_values: Sequence[float], alpha: float) -> np.ndarray:
    """Wer anschlägt, wenn höchstens `alpha` aller Durchgänge einen Fehlalarm haben dürfen."""
    return np.asarray(p_values) <= alpha / len(p_values)


def benjamini_hochberg(p_values: Sequence[float], alpha: float) -> np.ndarray:
    """Wer anschlägt, wenn von den Meldungen im Mittel höchstens `alpha` falsch sein dürfen."""
    values = np.asarray(p_values)
    ordered = np.sort(values)
    passed = ordered <= alpha * np.arange(1, len(values) + 1) / len(values)
    return values <= ordered[passed].max(initial=-1)
