"""Begrenzte Last auf den Preisdienst geben und zählen, was beantwortet wurde.

Aufruf: python -m examples.load_balancing.load URL --seconds 5 --clients 8
Braucht nur die Standardbibliothek: So läuft es auch im Container.
"""

import argparse
import http.client
import json
import math
import select
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from examples.price_model.schema import EXAMPLE

BODY = json.dumps(EXAMPLE).encode()
HEADERS = {"Content-Type": "application/json"}
# Bei fester Rate muss auch dann jemand fragen, wenn viele Antworten noch ausstehen.
CLIENTS_AT_FIXED_RATE = 128


class Client:
    """Eine Verbindung zum Dienst; nach einem Fehler wird sie neu aufgebaut."""

    def __init__(self, url: str, timeout: float, keep: bool) -> None:
        self.address, self.timeout, self.keep = urlsplit(url), timeout, keep
        self.connection: http.client.HTTPConnection | None = None

    def ask(self) -> tuple[str, str]:
        """Stellt die Beispielfrage; gibt (Status oder Fehler, wer geantwortet hat) zurück."""
        try:
            # Lesbar, ohne dass etwas aussteht: Der Dienst hat aufgelegt, während niemand fragte.
            quiet = self.connection.sock if self.connection else None
            if quiet and select.select([quiet], [], [], 0)[0]:
                self.close()
            if self.connection is None:
                self.connection = http.client.HTTPConnection(
                    self.address.hostname, self.address.port or 80, timeout=self.timeout
                )
            path = self.address.path or "/predict"
            self.connection.request("POST", path, BODY, HEADERS)
            response = self.connection.getresponse()
            response.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            return type(error).__name__, ""
        if not self.keep:
            self.close()
        return str(response.status), response.headers.get("X-Served-By", "")

    def close(self) -> None:
        """Schließt die Verbindung, falls eine besteht."""
        if self.connection is not None:
            self.connection.close()
            self.connection = None


class Schedule:
    """Wann die nächste Frage fällig ist; endet nach der Zeit, der Zahl oder auf Zuruf."""

    def __init__(
        self, seconds: float, rate: float | None, limit: int, stop: threading.Event
    ) -> None:
        self.started, self.stop = time.perf_counter(), stop
        self.seconds, self.rate, self.limit = seconds, rate, limit
        self.lock, self.taken = threading.Lock(), 0

    def __iter__(self) -> Iterator[float]:
        """Liefert Zeitpunkte; bei fester Rate wird bis zur Fälligkeit gewartet."""
        while True:
            with self.lock:
                number = self.taken
                due = self.started + number / self.rate if self.rate else time.perf_counter()
                ended = number >= self.limit or due - self.started >= self.seconds
                if ended or self.stop.is_set():
                    return
                self.taken += 1
            early = due - time.perf_counter()
            if early > 0 and self.stop.wait(early):
                return
            yield due


def run(
    url: str,
    seconds: float,
    rate: float | None = None,
    clients: int = 8,
    max_requests: int = 100_000,
    keep: bool = True,
    timeout: float = 5,
    stop: threading.Event | None = None,
) -> list[tuple[float, float, str, str]]:
    """Fragt bis zur Zeit oder zur Zahl; gibt je Frage (wann, Latenz, Ergebnis, Antwortender).

    Zeiten in s seit Beginn. Die Latenz zählt ab der Fälligkeit: Wer warten muss, weil alle
    Verbindungen belegt sind, wartet mit.
    """
    schedule = Schedule(seconds, rate, max_requests, stop or threading.Event())

    def work(_: int) -> list[tuple[float, float, str, str]]:
        client, answers = Client(url, timeout, keep), []
        for due in schedule:
            result, server = client.ask()
            answers.append((due - schedule.started, time.perf_counter() - due, result, server))
        client.close()
        return answers

    workers = CLIENTS_AT_FIXED_RATE if rate else clients
    with ThreadPoolExecutor(workers) as pool:
        return sorted(answer for answers in pool.map(work, range(workers)) for answer in answers)


def summary(answers: list[tuple[float, float, str, str]]) -> dict:
    """Zählt gesendete, beantwortete und gescheiterte Fragen; Latenzen in ms.

    Gescheitertes dauert unendlich lange; fällt ein Perzentil dorthin, ist es None.
    """
    good = [answer for answer in answers if answer[2] == "200"]
    latencies = sorted(
        latency * 1000 if result == "200" else math.inf for _, latency, result, _ in answers
    )

    def percentile(share: float) -> float | None:
        value = latencies[int(len(latencies) * share)] if latencies else math.inf
        return round(value, 2) if math.isfinite(value) else None

    elapsed = max((when + latency for when, latency, _, _ in answers), default=0)
    return {
        "sent": len(answers),
        "answered": len(good),
        "failed": len(answers) - len(good),
        "per_second": round(len(good) / elapsed, 1) if elapsed else 0,
        "median_ms": percentile(0.5),
        "p90_ms": percentile(0.9),
        "p99_ms": percentile(0.99),
        "by_status": dict(sorted(Counter(result for _, _, result, _ in answers).items())),
        "by_server": dict(sorted(Counter(server for *_, server in good if server).items())),
    }


def positive(text: str) -> float:
    """Liest eine Zahl über null."""
    try:
        number = float(text)
    except ValueError:
        number = 0
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} ist keine Zahl über null.")
    return number


def http_address(text: str) -> str:
    """Liest eine Adresse; nur http, denn TLS spricht dieser Client nicht."""
    try:
        parts = urlsplit(text)
        good = parts.scheme == "http" and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise argparse.ArgumentTypeError(f"{text!r} ist keine Adresse wie http://127.0.0.1:8161.")
    return text


def main() -> None:
    """Gibt einmal Last und zeigt das Ergebnis als eine Zeile JSON.

    SIGTERM beendet sie vorzeitig: Gezählt wird, was bis dahin gefragt war.
    """
    parser = argparse.ArgumentParser(description="Begrenzte Last auf den Preisdienst geben.")
    parser.add_argument(
        "url", type=http_address, help="http://… mit oder ohne Pfad; Vorgabe ist /predict"
    )
    parser.add_argument("--seconds", type=positive, default=5, help="danach keine neue Frage")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--rate", type=positive, help="Fragen je Sekunde, egal wie schnell Antworten")
    kind.add_argument("--clients", type=int, default=8, help="so viele fragen abwechselnd")
    parser.add_argument("--max-requests", type=int, default=100_000, help="höchstens so viele")
    parser.add_argument("--new-connections", action="store_true", help="je Frage eine Verbindung")
    parser.add_argument("--timeout", type=positive, default=5, help="Geduld je Frage in Sekunden")
    options = parser.parse_args()
    if options.clients < 1:
        parser.error("Clients zählen ab eins.")
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    answers = run(
        options.url,
        options.seconds,
        options.rate,
        options.clients,
        options.max_requests,
        not options.new_connections,
        options.timeout,
        stop,
    )
    print(json.dumps(summary(answers), ensure_ascii=False))


if __name__ == "__main__":
    main()
