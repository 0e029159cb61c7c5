"""Die Sättigungskurve: Durchsatz und Latenz über der Ankunftsrate, daneben die Voraussage.

Aufruf: python -m examples.load_test.saturate URL --rates 50 80 95 120 --service-ms 10
"""

import argparse
import asyncio
import json
import sys

from examples.load_balancing.load import http_address, positive
from examples.load_test.generate import Target, arrivals, open_load, report
from examples.load_test.queueing import waiting
from examples.price_model.schema import EXAMPLE

BODY = json.dumps(EXAMPLE).encode()


async def measure(url: str, rate: float, seconds: float, service: float) -> dict:
    """Ein Lauf mit zufälligen Ankünften.

    Durch das Modell gehen die Ankünfte, wie sie wirklich waren: Ein Generator, der einmal zu
    spät kommt, verschiebt beide Seiten.
    """
    times = arrivals(rate, seconds, "poisson")
    target = Target(url, timeout=30)
    samples = await open_load(target, times, [BODY])
    target.close()
    if not samples:
        sys.exit("Fehler: In dieser Zeit kam keine einzige Anfrage an.")
    result = report(samples, target.opened)
    expected = waiting(sorted(sample.sent for sample in samples), service)
    served = sum(sample.done - sample.sent for sample in samples) / len(samples)
    return {
        "utilisation": round(rate * service, 2),
        "per_second": result["per_second"],
        "failed": result["failed"],
        "mean_ms": result["mean_ms"],
        "p50_ms": result["p50_ms"],
        "p99_ms": result["p99_ms"],
        "from_sent_mean_ms": round(1000 * served, 1),
        "expected_mean_ms": round(1000 * sum(expected) / len(expected), 1),
        "late_p99_ms": result["late_p99_ms"],
    }


def main() -> None:
    """Misst Rate für Rate und zeigt die Kurve als JSON."""
    parser = argparse.ArgumentParser(description="Sättigungskurve messen")
    parser.add_argument("url", type=http_address)
    parser.add_argument("--rates", nargs="+", type=positive, required=True)
    parser.add_argument("--seconds", type=positive, default=2.5, help="je Rate")
    parser.add_argument("--service-ms", type=positive, required=True, help="Bedienzeit")
    options = parser.parse_args()
    rows = {}
    for rate in options.rates:
        run = measure(options.url, rate, options.seconds, options.service_ms / 1000)
        rows[f"{rate:g}"] = asyncio.run(run)
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
