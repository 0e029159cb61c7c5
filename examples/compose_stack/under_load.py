"""Führt einen Befehl aus, während Anfragen laufen, und zählt, was aus ihnen wurde.

Aufruf: `python -m examples.compose_stack.under_load URL -- docker kill price-api-2`

Ausgegeben wird eine Zeile JSON: gesendet, beantwortet, gescheitert, wie und von wem.
"""

import argparse
import json
import subprocess
import sys
import threading
import time

from examples.load_balancing.load import http_address, positive, run, summary

RATE_PER_SECOND = 40
SLICE_SECONDS = 1
BEFORE_SECONDS, AFTER_SECONDS, LIMIT_SECONDS = 1, 2, 180


def measure(url: str, command: list[str], rate: float = RATE_PER_SECOND) -> tuple[dict, int]:
    """Gibt (Zählung, Exitcode des Befehls) zurück.

    Gefragt wird ab einer Sekunde vor dem Befehl bis zwei Sekunden danach. Weil niemand weiß,
    wie lange er dauert, geschieht es in Scheiben von einer Sekunde. Jede Frage kommt auf einer
    eigenen Verbindung: Stehende schließt nginx bei jedem Reload.
    """
    answers, done = [], threading.Event()
    asking = threading.Thread(target=ask, args=(url, rate, done, answers))
    asking.start()
    try:
        time.sleep(BEFORE_SECONDS)
        finished = subprocess.run(
            command, capture_output=True, encoding="utf-8", timeout=LIMIT_SECONDS
        )
        time.sleep(AFTER_SECONDS)
    finally:
        done.set()
        asking.join()
    if finished.returncode:
        print(f"{finished.stdout}{finished.stderr}".strip(), file=sys.stderr)
    return summary(answers), finished.returncode


def ask(url: str, rate: float, done: threading.Event, answers: list) -> None:
    """Fragt Scheibe um Scheibe, bis der Befehl fertig ist, höchstens drei Minuten."""
    started = time.monotonic()
    while not done.is_set() and time.monotonic() - started < LIMIT_SECONDS:
        offset = time.monotonic() - started
        answers += [
            (offset + when, latency, result, server)
            for when, latency, result, server in run(url, SLICE_SECONDS, rate, keep=False)
        ]


def main() -> int:
    """Misst und gibt die Zählung aus; scheitert der Befehl, auch dieser Aufruf."""
    parser = argparse.ArgumentParser(description="Einen Befehl unter Last ausführen.")
    parser.add_argument("url", type=http_address)
    parser.add_argument(
        "--rate", type=positive, default=RATE_PER_SECOND, help="Anfragen je Sekunde"
    )
    parser.add_argument("command", nargs="+", help="der Befehl, hinter --")
    options = parser.parse_args()
    try:
        counted, code = measure(options.url, options.command, options.rate)
    except OSError as error:
        print(f"{options.command[0]} lässt sich nicht starten: {error.strerror}.", file=sys.stderr)
        return 1
    except subprocess.TimeoutExpired:
        print(f"Der Befehl war nach {LIMIT_SECONDS} s nicht fertig.", file=sys.stderr)
        return 1
    shown = ("sent", "answered", "failed", "by_status", "by_server")
    print(json.dumps({name: counted[name] for name in shown}))
    return code


if __name__ == "__main__":
    sys.exit(main())
