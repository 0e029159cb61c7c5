"""Was eine Vorhersage an Rechenzeit kostet, einzeln und im Stapel gefragt.

Aufruf: python -m examples.load_test.batches URL --sizes 1 10 100 1000
Der Dienst nennt seine Rechenzeit selbst; gemessen wird also nur sein Prozess.
"""

import argparse
import asyncio
import json
import sys
import time
import urllib.request

from examples.load_balancing.load import http_address, positive
from examples.load_test.generate import Target
from examples.price_model.schema import EXAMPLE, MAX_BATCH

LEAST = 3


def cpu_seconds(url: str) -> float:
    """Fragt, wie viel Rechenzeit der Dienst bisher verbraucht hat."""
    try:
        with urllib.request.urlopen(f"{url}/cpu-seconds", timeout=30) as response:
            return float(response.read())
    except (OSError, ValueError) as error:
        sys.exit(f"Fehler: Der Dienst nennt seine Rechenzeit nicht: {error}")


async def ask(url: str, size: int, seconds: float) -> int:
    """Fragt eine Zeit lang nacheinander; gibt zurück, wie viele Vorhersagen es waren."""
    body = json.dumps(EXAMPLE if size == 1 else [EXAMPLE] * size).encode()
    target, asked = Target(url, timeout=60), 0
    until = time.monotonic() + seconds
    while asked < LEAST * size or time.monotonic() < until:
        sample = await target.ask(body, 0, asyncio.get_running_loop().time())
        if sample.status != "200":
            sys.exit(f"Fehler: Der Dienst antwortete mit {sample.status}.")
        asked += size
    target.close()
    return asked


def measure(url: str, size: int, seconds: float) -> float:
    """Rechenzeit je Vorhersage in Sekunden."""
    asyncio.run(ask(url, size, 0))  # Warmlaufen
    before = cpu_seconds(url)
    asked = asyncio.run(ask(url, size, seconds))
    return (cpu_seconds(url) - before) / asked


def main() -> None:
    """Zeigt je Größe die Rechenzeit je Vorhersage in µs und was ein Kern damit schafft."""
    parser = argparse.ArgumentParser(description="Rechenzeit je Vorhersage")
    parser.add_argument("url", type=http_address)
    parser.add_argument("--sizes", nargs="+", type=int, default=[1, 10, 100, MAX_BATCH])
    parser.add_argument("--seconds", type=positive, default=0.5, help="je Größe")
    options = parser.parse_args()
    if not all(1 <= size <= MAX_BATCH for size in options.sizes):
        parser.error(f"Erlaubt sind 1 bis {MAX_BATCH} Steine.")
    used = {size: measure(options.url, size, options.seconds) for size in options.sizes}
    print(
        json.dumps(
            {
                size: {"cpu_us": round(1e6 * seconds, 1), "per_core": round(1 / seconds)}
                for size, seconds in used.items()
            }
        )
    )


if __name__ == "__main__":
    main()
