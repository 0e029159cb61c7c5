"""Auf null und zurück: was ein Deployment ohne Pods antwortet und wie lange der Kaltstart dauert.

Aufruf: python -m examples.auto_scaling.cold_start URL
URL ist der Weg zum Service durch `kubectl proxy`; er bleibt offen, auch wenn kein Pod da ist.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request

from examples.auto_scaling.record import NAMESPACE
from examples.load_balancing.load import http_address
from examples.price_model.schema import EXAMPLE

DEPLOYMENT = "deployment/price-api"
LIMIT_SECONDS = 60


def ask(url: str) -> int:
    """Stellt die Beispielfrage; gibt den Status zurück, 0 ohne Verbindung."""
    body = json.dumps(EXAMPLE).encode()
    request = urllib.request.Request(f"{url}/predict", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=5) as response:
            return response.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def scale(replicas: int) -> None:
    """Setzt die Zahl der Replikate von Hand."""
    command = ["kubectl", "-n", NAMESPACE, "scale", DEPLOYMENT, f"--replicas={replicas}"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=20)
    if done.returncode:
        sys.exit(f"`kubectl` meldet: {done.stderr.strip()}")


def accepts_zero() -> bool:
    """Fragt den Cluster, ob dieser HPA auf null dürfte; verändert nichts."""
    patch = ["patch", "hpa", "price-api", "--patch", '{"spec":{"minReplicas":0}}']
    command = ["kubectl", "-n", NAMESPACE, *patch, "--dry-run=server"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=20)
    if done.returncode and "minReplicas" not in done.stderr:
        sys.exit(f"`kubectl` meldet: {done.stderr.strip()}")
    return not done.returncode


def until(url: str, status: int) -> float:
    """Fragt, bis dieser Status kommt; gibt die Wartezeit in Sekunden zurück."""
    started = time.monotonic()
    while ask(url) != status:
        if time.monotonic() - started > LIMIT_SECONDS:
            sys.exit(f"Nach {LIMIT_SECONDS} s kam keine Antwort mit Status {status}.")
        time.sleep(0.05)
    return time.monotonic() - started


def measure(url: str, patience: float = 12) -> dict:
    """Misst eine warme Antwort, die Zeit ohne Pod und die erste Antwort danach.

    `patience` ist die Zeit in s, in der ohne Pod weiter gefragt wird: Weckt der HPA ihn auf?
    """
    until(url, 200)
    warm = []
    for _ in range(20):
        started = time.monotonic()
        ask(url)
        warm.append((time.monotonic() - started) * 1000)
    scale(0)
    try:
        until(url, 503)
        waiting_since, answers = time.monotonic(), set()
        while time.monotonic() - waiting_since < patience:
            answers.add(ask(url))
            time.sleep(0.2)
    finally:
        scale(1)  # auch nach einem Abbruch soll wieder jemand antworten
    cold = until(url, 200)
    return {
        "warm_ms": round(statistics.median(warm), 1),
        "answers_at_zero": sorted(answers),
        "cold_seconds": round(cold, 2),
        "autoscaler_accepts_zero": accepts_zero(),
    }


def main() -> None:
    """Misst einmal und zeigt das Ergebnis als JSON."""
    parser = argparse.ArgumentParser(description="Auf null und zurück")
    parser.add_argument("url", type=http_address)
    print(json.dumps(measure(parser.parse_args().url)))


if __name__ == "__main__":
    main()
