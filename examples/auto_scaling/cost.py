"""Was 1000 Vorhersagen kosten: gemessene Rechenzeit mal Preis einer Kernstunde.

Aufruf: python -m examples.auto_scaling.cost URL --price 0.04048
Die Rechenzeit nennt der Dienst selbst unter /metrics; gemessen wird also nur sein Prozess.
"""

import argparse
import json
import re
import sys
import time
import urllib.request

from examples.load_balancing.load import http_address, run
from examples.price_model.schema import EXAMPLE, MAX_BATCH

CPU = re.compile(r"^process_cpu_seconds_total (\S+)$", re.MULTILINE)
PREDICTIONS = 1000
# Die Rechenzeit zählt in Schritten von 10 ms; wenige große Stapel gingen darin unter.
BATCHES = 20
# So lange darf ein abgezogener Pod noch antworten.
PATIENCE_SECONDS = 60
OTHER_POD = "Ein anderer Pod hat geantwortet: Vor dem Messen den HPA löschen."


def cpu_seconds(url: str) -> float:
    """Liest, wie viel Rechenzeit der Dienst bisher verbraucht hat."""
    try:
        with urllib.request.urlopen(f"{url}/metrics", timeout=5) as response:
            found = CPU.search(response.read().decode())
    except OSError as error:
        sys.exit(f"Der Dienst antwortet nicht: {error}")
    if not found:
        sys.exit("Der Dienst nennt seine Rechenzeit nicht; das kann er nur unter Linux.")
    return float(found[1])


def wait_for_one_pod(url: str) -> None:
    """Wartet, bis nur noch ein Pod antwortet: Seine Rechenzeit sinkt nie."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (seen := [cpu_seconds(url) for _ in range(20)]) != sorted(seen):
        if time.monotonic() > deadline:
            sys.exit(OTHER_POD)
        time.sleep(0.5)


def ask_one_by_one(url: str) -> int:
    """Stellt jede Frage einzeln; gibt zurück, wie viele es waren."""
    answers = run(f"{url}/predict", seconds=60, clients=2, max_requests=PREDICTIONS)
    failed = sum(result != "200" for _, _, result, _ in answers)
    if failed or len(answers) < PREDICTIONS:
        sys.exit(f"Von {len(answers)} Fragen scheiterten {failed}.")
    return PREDICTIONS


def ask_in_batches(url: str, size: int) -> int:
    """Stellt Fragen in Stapeln; gibt zurück, wie viele es zusammen waren."""
    body = json.dumps([EXAMPLE] * size).encode()
    batches = max(BATCHES, PREDICTIONS // size)
    for _ in range(batches):
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{url}/predict", body, headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                response.read()
        except OSError as error:
            sys.exit(f"Ein Stapel von {size} Steinen scheiterte: {error}")
    return batches * size


def measure(url: str) -> dict[int, float]:
    """Gibt je Stapelgröße die Rechenzeit für 1000 Vorhersagen in Sekunden zurück."""
    wait_for_one_pod(url)
    ask_one_by_one(url)  # Aufwärmen
    seconds = {}
    for size in (1, 10, 100, MAX_BATCH):
        before = cpu_seconds(url)
        asked = ask_one_by_one(url) if size == 1 else ask_in_batches(url, size)
        seconds[size] = (cpu_seconds(url) - before) * 1000 / asked
        if seconds[size] < 0:
            sys.exit(OTHER_POD)
    return seconds


def dollars(seconds: float, price: float, utilization: float) -> float:
    """Rechenzeit in Dollar; bezahlt wird auch der Teil des Kerns, der auf Last wartet."""
    return seconds / 3600 * price / utilization


def main() -> None:
    """Misst und rechnet; zeigt das Ergebnis als JSON."""
    parser = argparse.ArgumentParser(description="Kosten je 1000 Vorhersagen")
    parser.add_argument("url", type=http_address)
    parser.add_argument("--price", type=float, required=True, help="Dollar je Kernstunde")
    parser.add_argument("--utilization", type=float, default=0.6, help="Ziel des HPA, 0 bis 1")
    options = parser.parse_args()
    if not (options.price > 0 and 0 < options.utilization <= 1):
        parser.error("Der Preis liegt über null, die Auslastung zwischen 0 und 1.")
    rows = {
        size: {
            "cpu_seconds": round(seconds, 4),
            "per_core_and_second": round(1000 / seconds) if seconds else None,
            "dollars": round(dollars(seconds, options.price, options.utilization), 8),
        }
        for size, seconds in measure(options.url).items()
    }
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
