"""Latenzen zusammenfassen: Perzentile von Hand und die Korrektur nach Gil Tene.

Aufruf: python -m examples.load_test.measures DATEI … [--interval-ms 10]
Die Dateien schreibt `generate --out`; mehrere werden zu einer Stichprobe vereint.
"""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path

PERCENTILES = (50, 95, 99)


def percentile(values: Sequence[float], percent: float) -> float:
    """Das Perzentil wie in numpy: zwischen den beiden nächsten Werten linear verbunden."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("Ohne Messung gibt es kein Perzentil.")
    place = (len(ordered) - 1) * percent / 100
    low, high = ordered[math.floor(place)], ordered[math.ceil(place)]
    # Gescheitertes zählt unendlich; unendlich minus unendlich wäre keine Zahl.
    return low if low == high else low + (high - low) * (place - math.floor(place))


def corrected(latencies: Sequence[float], interval: float) -> list[float]:
    """Ergänzt die Anfragen, die ausfielen, weil der Generator auf eine Antwort wartete.

    Wer alle `interval` fragt und auf eine Antwort 5 Intervalle wartet, hat 4 Fragen nicht
    gestellt; sie hätten 4, 3, 2 und 1 Intervalle gewartet.
    """
    filled = []
    for latency in latencies:
        filled.append(latency)
        missing = latency - interval
        while missing >= interval:
            filled.append(missing)
            missing -= interval
    return filled


def summary(latencies: Sequence[float]) -> dict:
    """Anzahl, Mittelwert und Perzentile in ms; was unendlich wäre, ist None."""

    def shown(seconds: float) -> float | None:
        return round(1000 * seconds, 2) if math.isfinite(seconds) else None

    mean = sum(latencies) / len(latencies) if latencies else math.inf
    names = {f"p{p}_ms": shown(percentile(latencies, p)) for p in PERCENTILES if latencies}
    return {"n": len(latencies), "mean_ms": shown(mean), **names}


def read(path: Path) -> list[float]:
    """Liest die Latenzen eines Laufs; eine gescheiterte Anfrage zählt unendlich."""
    samples = json.loads(path.read_text(encoding="utf-8"))["samples"]
    return [
        sample["done"] - sample["planned"] if sample["status"] == "200" else math.inf
        for sample in samples
    ]


def main() -> None:
    """Zeigt die Zusammenfassung aller Dateien als eine Zeile JSON."""
    parser = argparse.ArgumentParser(description="Läufe gemeinsam auswerten")
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--interval-ms", type=float, help="mit Korrektur für diesen Abstand")
    options = parser.parse_args()
    if options.interval_ms is not None and not options.interval_ms > 0:
        parser.error("Der Abstand liegt über null.")
    try:
        latencies = [latency for path in options.files for latency in read(path)]
    except (OSError, KeyError, TypeError, ValueError):
        sys.exit("Fehler: Eine der Dateien ist kein Lauf von `generate`.")
    if options.interval_ms:
        if math.inf in latencies:
            sys.exit("Fehler: Korrigieren lässt sich nur ein Lauf ohne gescheiterte Anfragen.")
        latencies = corrected(latencies, options.interval_ms / 1000)
    print(json.dumps(summary(latencies)))


if __name__ == "__main__":
    main()
