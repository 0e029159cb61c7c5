"""Ein Lastgenerator: offen mit festen Ankunftszeiten oder geschlossen mit festen Clients.

Aufruf: python -m examples.load_test.generate URL --rate 50 --seconds 5 --slo-p99-ms 200
Exitcode 0: Ziel erreicht; 1: verfehlt; 3: Die Messung gilt nicht, der Generator kam nicht nach,
oder die Datei hinter --out ließ sich am Ende nicht schreiben.
"""

import argparse
import asyncio
import itertools
import json
import math
import random
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from examples.load_balancing.load import http_address, positive
from examples.load_test.measures import percentile, summary
from examples.price_model.schema import EXAMPLE

MISSED, INVALID = 1, 3
LEAD_SECONDS = 0.05
MAX_FAILED = 0.01  # so viel darf scheitern, damit ein Ziel noch erreicht ist


@dataclass
class Sample:
    """Eine Anfrage; Zeiten in s seit Beginn des Laufs."""

    planned: float  # sollte gestellt werden
    sent: float  # wurde gestellt
    done: float  # war beantwortet oder aufgegeben
    status: str
    answer: bytes = field(default=b"", repr=False)


class Target:
    """Der Dienst und die Verbindungen zu ihm; `limit` ist der Vorrat an Verbindungen."""

    def __init__(self, url: str, limit: int = 1000, keep: bool = True, timeout: float = 10):
        address = urlsplit(url)
        self.host, self.port = address.hostname, address.port or 80
        self.path = address.path.rstrip("/") or "/predict"
        self.keep, self.timeout = keep, timeout
        self.free: list[tuple] = []
        self.places, self.opened = asyncio.Semaphore(limit), 0

    async def ask(self, body: bytes, planned: float, started: float) -> Sample:
        """Stellt eine Frage; die Geduld zählt ab dem geplanten Zeitpunkt."""
        loop = asyncio.get_running_loop()
        sent, status, answer = math.nan, "", b""
        try:
            async with asyncio.timeout_at(started + planned + self.timeout), self.places:
                connection = self.idle() or await self.connect()
                sent = loop.time() - started
                try:
                    status, answer, reusable = await exchange(connection, self.request(body))
                except BaseException:
                    connection[1].close()
                    raise
                if reusable and self.keep:
                    self.free.append(connection)
                else:
                    connection[1].close()
        except (OSError, EOFError, TimeoutError) as error:
            status = type(error).__name__
        done = loop.time() - started
        return Sample(planned, done if math.isnan(sent) else sent, done, status, answer)

    def idle(self) -> tuple | None:
        """Eine offene Verbindung; was der Dienst inzwischen geschlossen hat, zählt nicht dazu."""
        while self.free:
            connection = self.free.pop()
            if not connection[0].at_eof():
                return connection
            connection[1].close()
        return None

    async def connect(self) -> tuple:
        """Baut eine neue Verbindung auf."""
        self.opened += 1
        return await asyncio.open_connection(self.host, self.port)

    def request(self, body: bytes) -> bytes:
        """Setzt die Anfrage zusammen, wie sie über die Leitung geht."""
        return (
            f"POST {self.path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode() + body

    def close(self) -> None:
        """Schließt alle Verbindungen."""
        for _, writer in self.free:
            writer.close()


async def exchange(connection: tuple, request: bytes) -> tuple[str, bytes, bool]:
    """Schickt eine Anfrage und liest die Antwort: (Status, Inhalt, Verbindung noch brauchbar)."""
    reader, writer = connection
    writer.write(request)
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    lines = head.split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:] if ": " in line)
    if "content-length" not in headers:
        raise ConnectionError("Antwort ohne Länge")  # zählt als gescheitert, die Verbindung endet
    content = await reader.readexactly(int(headers["content-length"]))
    return lines[0].split()[1], content, headers.get("connection") != "close"


def arrivals(rate: float, seconds: float, kind: str = "regular", seed: int = 7) -> list[float]:
    """Ankunftszeiten, die von keiner Antwort abhängen: in festem Abstand oder zufällig."""
    chance = random.Random(seed)
    times = {
        # Gezählt statt aufaddiert: Sonst entscheidet ein Rundungsfehler über die letzte Frage.
        "regular": (number / rate for number in itertools.count()),
        "poisson": itertools.accumulate(chance.expovariate(rate) for _ in itertools.count()),
    }
    return list(itertools.takewhile(lambda due: due < seconds, times[kind]))


async def open_load(
    target: Target, times: Sequence[float], bodies: Sequence[bytes]
) -> list[Sample]:
    """Stellt jede Frage zu ihrer Zeit, gleich wie viele Antworten noch ausstehen."""
    loop = asyncio.get_running_loop()
    started, running = loop.time() + LEAD_SECONDS, []
    for planned, body in zip(times, itertools.cycle(bodies), strict=False):
        await asyncio.sleep(started + planned - loop.time())
        running.append(loop.create_task(target.ask(body, planned, started)))
    return await asyncio.gather(*running)


async def closed_load(
    target: Target, clients: int, pace: float, seconds: float, limit: int, bodies: Sequence[bytes]
) -> list[Sample]:
    """Jeder Client fragt, wartet auf die Antwort und hält dann seinen Abstand `pace` ein."""
    loop = asyncio.get_running_loop()
    started, questions = loop.time(), itertools.islice(itertools.cycle(bodies), limit)

    async def client() -> list[Sample]:
        samples = []
        for body in questions:
            now = loop.time() - started
            if now >= seconds:
                break
            samples.append(await target.ask(body, now, started))
            await asyncio.sleep(now + pace - (loop.time() - started))
        return samples

    runs = await asyncio.gather(*(client() for _ in range(clients)))
    return [sample for run in runs for sample in run]


def latencies(samples: Sequence[Sample]) -> list[float]:
    """Wartezeiten ab dem geplanten Zeitpunkt; eine gescheiterte Anfrage zählt unendlich."""
    return [s.done - s.planned if s.status == "200" else math.inf for s in samples]


def report(samples: Sequence[Sample], opened: int) -> dict:
    """Zählt, fasst die Latenzen zusammen und sagt, ob der Generator selbst zu spät war."""
    good = [sample for sample in samples if sample.status == "200"]
    elapsed = max((s.done for s in samples), default=0) - min(
        (s.planned for s in samples), default=0
    )
    late = [sample.sent - sample.planned for sample in samples]
    return {
        "sent": len(samples),
        "answered": len(good),
        "failed": len(samples) - len(good),
        "per_second": round(len(good) / elapsed, 1) if elapsed else 0,
        **summary(latencies(samples)),
        "late_p99_ms": round(1000 * percentile(late, 99), 2) if late else None,
        "connections": opened,
        "different_answers": len({sample.answer for sample in good}),
    }


def verdict(result: dict, p99_ms: float, late_ms: float) -> tuple[int, str]:
    """Das Urteil als Exitcode und Satz; ein ungültiger Lauf ist weder gut noch schlecht."""
    if not result["sent"]:
        return INVALID, "Die Messung gilt nicht: Keine Anfrage lag nach dem Aufwärmen."
    if result["late_p99_ms"] > late_ms:
        return INVALID, f"Die Messung gilt nicht: Der Generator kam über {late_ms:g} ms zu spät."
    if result["failed"] > MAX_FAILED * result["sent"]:
        return MISSED, f"Ziel verfehlt: Mehr als {100 * MAX_FAILED:g} % der Anfragen scheiterten."
    if result["p99_ms"] is None or result["p99_ms"] > p99_ms:
        return MISSED, f"Ziel verfehlt: p99 liegt über {p99_ms:g} ms."
    return 0, f"Ziel erreicht: p99 liegt unter {p99_ms:g} ms."


async def run(options: argparse.Namespace) -> tuple[list[Sample], int]:
    """Führt einen Lauf aus; gibt die gezählten Anfragen und die Zahl der Verbindungen zurück."""
    target = Target(options.url, options.connections, not options.new_connections, options.timeout)
    if options.rate:
        times = arrivals(options.rate, options.seconds)
        samples = await open_load(target, times[: options.requests], options.bodies)
    else:
        pace = options.pace_ms / 1000
        ending = options.seconds, options.requests
        samples = await closed_load(target, options.clients, pace, *ending, options.bodies)
    target.close()
    return [sample for sample in samples if sample.planned >= options.warmup], target.opened


def write(path: Path, samples: Sequence[Sample]) -> None:
    """Legt jede Anfrage einzeln ab: Aus Perzentilen lassen sich keine anderen mehr rechnen."""
    rows = [asdict(sample) | {"answer": sample.answer.decode()} for sample in samples]
    path.write_text(json.dumps({"samples": rows}), encoding="utf-8")


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Liest die Kommandozeile."""
    parser = argparse.ArgumentParser(description="Last auf den Preisdienst geben")
    parser.add_argument(
        "url", type=http_address, help="http://… mit oder ohne Pfad; Vorgabe ist /predict"
    )
    parser.add_argument("--seconds", type=positive, default=5)
    parser.add_argument("--requests", type=int, default=100_000, help="höchstens so viele")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--rate", type=positive, help="offen: Anfragen je Sekunde")
    kind.add_argument("--clients", type=int, default=1, help="geschlossen: so viele Clients")
    parser.add_argument("--pace-ms", type=float, default=0, help="Abstand je Client")
    parser.add_argument("--warmup", type=float, default=0, help="so viele Sekunden nicht zählen")
    parser.add_argument("--timeout", type=positive, default=10, help="Geduld in Sekunden")
    parser.add_argument("--connections", type=int, default=1000, help="höchstens zugleich")
    parser.add_argument("--new-connections", action="store_true", help="je Frage eine neue")
    parser.add_argument("--questions", type=Path, help="JSON Lines: je Zeile eine Frage")
    parser.add_argument("--out", type=Path, help="jede Anfrage einzeln in diese Datei")
    parser.add_argument("--slo-p99-ms", type=positive, help="Ziel; entscheidet den Exitcode")
    parser.add_argument("--max-late-ms", type=positive, default=50)
    parser.add_argument("--quiet", action="store_true", help="nur das Urteil")
    options = parser.parse_args(arguments)
    if min(options.clients, options.connections, options.requests) < 1:
        parser.error("Clients, Verbindungen und Anfragen zählen ab eins.")
    # Vor dem Lauf: Danach wäre die ganze Messung verloren.
    if options.out and not options.out.parent.is_dir():
        parser.error(f"Den Ordner für {options.out.name} gibt es nicht.")
    try:
        questions = options.questions.read_bytes() if options.questions else None
    except OSError:
        parser.error(f"Die Datei {options.questions.name} lässt sich nicht lesen.")
    try:
        if options.out:
            new = not options.out.exists()
            options.out.open("ab").close()  # eine ältere Messung bleibt, bis dieser Lauf endet
            if new:
                options.out.unlink()  # ein abgebrochener Lauf hinterließe sie sonst leer
    except OSError:
        parser.error(f"Die Datei {options.out} lässt sich nicht schreiben.")
    options.bodies = questions.splitlines() if questions else [json.dumps(EXAMPLE).encode()]
    return options


def main() -> int:
    """Ein Lauf: Zahlen auf die Standardausgabe, Urteil als Satz und Exitcode."""
    options = parse_arguments()
    samples, opened = asyncio.run(run(options))
    result = report(samples, opened)
    if not options.quiet:
        print(json.dumps(result))
    try:
        if options.out:
            write(options.out, samples)
    except OSError as error:
        print(f"Die einzelnen Anfragen fehlen: {error.strerror}.", file=sys.stderr)
        return INVALID
    if options.slo_p99_ms is None:
        return 0
    code, sentence = verdict(result, options.slo_p99_ms, options.max_late_ms)
    print(sentence)
    return code


if __name__ == "__main__":
    sys.exit(main())
