"""Das Gesetz von Little am Lauf: Ein zweiter Prozess zählt im Dienst, der Generator misst.

Aufruf: python -m examples.load_test.little URL --rate 80 --seconds 5
"""

import argparse
import asyncio
import json
import subprocess
import sys
import threading
import time
import urllib.request

from examples.load_balancing.load import http_address, positive
from examples.load_test.generate import Target, arrivals, open_load
from examples.load_test.saturate import BODY

EVERY_SECONDS = 0.01


def watch(url: str) -> None:
    """Fragt den Dienst immer wieder, wie viele da sind; endet, wenn die Eingabe schließt."""
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    seen = []
    while not ended.is_set():
        try:
            with urllib.request.urlopen(f"{url}/present", timeout=10) as response:
                seen.append((time.monotonic(), int(response.read())))
        except (OSError, ValueError) as error:
            sys.exit(f"Fehler: Der Dienst nennt nicht, wie viele da sind: {error}")
        if len(seen) == 1:
            print("ready", flush=True)
        time.sleep(EVERY_SECONDS)
    print(json.dumps(seen))


def mean_over_time(seen: list[tuple[float, int]], begin: float, end: float) -> float:
    """Mittelt über die Zeit, nicht über die Blicke: Ein Blick gilt bis zum nächsten."""
    area = 0.0
    for (at, count), (until, _) in zip(seen, seen[1:], strict=False):
        area += count * max(0.0, min(until, end) - max(at, begin))
    return area / (end - begin)


async def measure(url: str, rate: float, seconds: float) -> dict:
    """Gibt Last und vergleicht, was beide Prozesse sahen."""
    target = Target(url, timeout=30)
    begin = time.monotonic()
    samples = await open_load(target, arrivals(rate, seconds, "poisson"), [BODY])
    end = time.monotonic()
    target.close()
    if not samples:
        sys.exit("Fehler: In dieser Zeit kam keine einzige Anfrage an.")
    if any(sample.status != "200" for sample in samples):
        sys.exit("Fehler: Es scheiterten Anfragen; so ist die Zahl der offenen keine Aussage.")
    return {
        "begin": begin,
        "end": end,
        "rate": len(samples) / (end - begin),
        "mean_seconds": sum(sample.done - sample.sent for sample in samples) / len(samples),
    }


def main() -> None:
    """Startet den Beobachter, gibt Last und zeigt beide Seiten als JSON."""
    parser = argparse.ArgumentParser(description="Little nachmessen")
    parser.add_argument("url", type=http_address)
    parser.add_argument("--rate", type=positive, default=80)
    parser.add_argument("--seconds", type=positive, default=5)
    parser.add_argument("--watch", action="store_true", help="nur beobachten, bis stdin endet")
    options = parser.parse_args()
    if options.watch:
        return watch(options.url)
    command = [sys.executable, "-m", "examples.load_test.little", options.url, "--watch"]
    observer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with observer:
        try:
            observer.stdout.readline()  # erst nach seinem ersten Blick beginnt die Last
            run = asyncio.run(measure(options.url, options.rate, options.seconds))
            seen, _ = observer.communicate()
        except BaseException:
            observer.kill()
            raise
    if observer.returncode:
        sys.exit(1)
    counted = mean_over_time(json.loads(seen), run["begin"], run["end"])
    product = run["rate"] * run["mean_seconds"]
    print(
        json.dumps(
            {
                "arrivals_per_second": round(run["rate"], 2),
                "mean_seconds": round(run["mean_seconds"], 4),
                "product": round(product, 3),
                "counted": round(counted, 3),
                "relative_error": round(abs(counted - product) / product, 4),
            }
        )
    )


if __name__ == "__main__":
    main()
