"""Ein kleiner Lastgenerator: fragt mit festen Verbindungen und misst Durchsatz und Latenz.

Aufruf: python -m examples.fastapi_service.load URL [--connections 8] [--seconds 2]
"""

import argparse
import asyncio
import json
import statistics
import sys
import time
from urllib.parse import urlsplit

from examples.price_model.schema import EXAMPLE

PATIENCE_SECONDS = 30


async def ask_repeatedly(url: str, method: str, until: float, pause: float = 0) -> list[float]:
    """Stellt auf einer Verbindung eine Frage nach der anderen; gibt Latenzen in s zurück."""
    address = urlsplit(url)
    body = json.dumps(EXAMPLE).encode() if method == "POST" else b""
    head = (
        f"{method} {address.path} HTTP/1.1\r\nHost: {address.netloc}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    request = head.encode() + body
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    latencies = []
    try:
        while time.perf_counter() < until:
            started = time.perf_counter()
            writer.write(request)
            header = await reader.readuntil(b"\r\n\r\n")
            if not header.startswith(b"HTTP/1.1 200"):
                raise ConnectionError(header.decode(errors="replace").splitlines()[0])
            length = header.lower().split(b"content-length: ")[1].split(b"\r\n")[0]
            await reader.readexactly(int(length))
            latencies.append(time.perf_counter() - started)
            if pause:
                await asyncio.sleep(pause)
    finally:
        writer.close()
    return latencies


async def measure(
    url: str, connections: int = 8, seconds: float = 2, probe: str | None = None
) -> dict[str, float]:
    """Zählt Anfragen, auch je Sekunde, und misst Median und 99. Perzentil der Latenz in ms.

    `probe` ist eine zweite Adresse, die währenddessen mit GET gefragt wird, etwa ein
    Health-Check; deren Median steht in `probe_median_ms`.
    """
    started = time.perf_counter()
    until = started + seconds
    questions = [ask_repeatedly(url, "POST", until) for _ in range(connections)]
    if probe:
        questions.append(ask_repeatedly(probe, "GET", until, pause=0.02))
    # Wer gar nicht antwortet, soll die Messung nicht für immer aufhalten.
    runs = await asyncio.wait_for(asyncio.gather(*questions), seconds + PATIENCE_SECONDS)
    probed = [latency * 1000 for latency in runs.pop()] if probe else []
    elapsed = time.perf_counter() - started
    latencies = [latency * 1000 for run in runs for latency in run]
    return {
        "requests": len(latencies),
        "per_second": len(latencies) / elapsed,
        "median_ms": statistics.median(latencies),
        "p99_ms": statistics.quantiles(latencies, n=100)[98],
    } | ({"probe_median_ms": statistics.median(probed)} if probe else {})


def main() -> None:
    """Misst einmal und zeigt das Ergebnis als JSON."""
    parser = argparse.ArgumentParser(description="Last auf einen Dienst geben")
    parser.add_argument("url")
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--probe")
    options = vars(parser.parse_args())
    try:
        print(json.dumps(asyncio.run(measure(**options))))
    except (OSError, EOFError, statistics.StatisticsError) as error:
        sys.exit(f"Keine Messung: {str(error)[:200] or 'keine Antwort'}")
    except ValueError:
        sys.exit("Keine Messung: Erwartet wird eine Adresse wie http://127.0.0.1:8104/predict.")


if __name__ == "__main__":
    main()
