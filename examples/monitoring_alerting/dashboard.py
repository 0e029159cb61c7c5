"""Ein Dashboard aus vier Feldern zeichnen, mit denselben Ausdrücken wie in den Regeln.

Aufruf: python -m examples.monitoring_alerting.dashboard URL BILD [--minutes 2] [--window 5s]
"""

import argparse
import sys
import time
from pathlib import Path

import httpx
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

# [panels]
PANELS = {
    "Durchsatz: Anfragen je Sekunde": (
        'sum by (status) (rate(price_requests_total{{route="/predict"}}[{window}]))'
    ),
    "Fehler: Anteil mit 5xx": "job:price_request_errors:ratio_rate5m",
    "Dauer: 99. Perzentil in ms": "1000 * job:price_request_seconds:p99_rate5m",
    "Modell: mittlerer Preis in US-Dollar": (
        "sum by (model_version) (rate(price_predicted_usd_sum[{window}]))"
        " / sum by (model_version) (rate(price_predicted_usd_count[{window}]))"
    ),
}
# [end panels]
COLORS = ("#0b6e75", "#b3261e", "#7a4fa3", "#a86500")


def series(url: str, expression: str, minutes: float) -> list[tuple[str, list, list]]:
    """Holt einen Verlauf; je Zeitreihe (Beschriftung, Sekunden vor jetzt, Werte)."""
    now = time.time()
    span = {"start": now - 60 * minutes, "end": now, "step": max(1, minutes / 2)}
    answer = httpx.get(f"{url}/api/v1/query_range", params={"query": expression} | span, timeout=30)
    answer.raise_for_status()
    return [
        (
            next(
                iter(
                    row["metric"].get(name)
                    for name in ("status", "model_version")
                    if name in row["metric"]
                ),
                "",
            ),
            [float(when) - now for when, _ in row["values"]],
            [float(value) for _, value in row["values"]],
        )
        for row in answer.json()["data"]["result"]
    ]


def draw(url: str, path: Path, minutes: float, window: str) -> dict[str, int]:
    """Zeichnet alle Felder in ein Bild; gibt je Feld die Zahl der Messwerte zurück."""
    figure, axes = plt.subplots(2, 2, figsize=(10, 6), sharex=True, layout="constrained")
    counts = {}
    for (title, expression), axis in zip(PANELS.items(), axes.flat, strict=True):
        found = series(url, expression.format(window=window), minutes)
        counts[title] = sum(len(values) for _, _, values in found)
        for (label, seconds, values), color in zip(sorted(found), COLORS, strict=False):
            axis.plot(seconds, values, color=color, label=label or None, linewidth=2)
        axis.set_title(title, loc="left", fontsize=11)
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
        if any(label for label, _, _ in found):
            axis.legend(fontsize=9)
    for axis in axes[1]:
        axis.set_xlabel("Sekunden vor jetzt")
    figure.savefig(path, dpi=100)
    return counts


def main() -> int:
    """Schreibt das Bild."""
    parser = argparse.ArgumentParser(description="Dashboard zeichnen")
    parser.add_argument("url")
    parser.add_argument("picture", type=Path)
    parser.add_argument("--minutes", type=float, default=2)
    parser.add_argument("--window", default="5m")
    options = parser.parse_args()
    try:
        counts = draw(options.url, options.picture, options.minutes, options.window)
    except (httpx.HTTPError, OSError) as error:
        print(f"Kein Dashboard: {type(error).__name__}", file=sys.stderr)
        return 1
    empty = [title for title, values in counts.items() if not values]
    print(f"{len(counts)} Felder, davon ohne Werte: {len(empty)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
