"""Ergebnisse nächtlicher Prüfungen als Metriken: Drift, und der Fehler, sobald Verkäufe da sind.

Aufruf: python -m examples.monitoring_alerting.batch --drift DATEI --labels DATEI --port 8226
Die erste Datei schreibt `examples.drift_detection.detector watch`; die zweite enthält die
Verkäufe, über die gemittelt wird, etwa den letzten Monat: je Verkauf eine Zeile
{"time", "model_version", "price_usd", "sold_usd"}. Beide werden bei jedem Abruf neu gelesen;
`time` in der ersten oder das Alter der Datei sagt, wann geprüft wurde.
"""

import argparse
import json
import signal
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from statistics import fmean

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import GaugeMetricFamily, Metric

from examples.ab_test.options import port
from examples.price_model.predict import ModelMissingError, load_metadata

# Woran das Lesen scheitern kann; zuletzt an einer Zahl mit 400 Stellen und an 100 000 Klammern.
UNREADABLE = (OSError, ValueError, LookupError, TypeError, AttributeError)
UNREADABLE += (OverflowError, RecursionError)


def rows(path: Path) -> list[dict]:
    """Liest eine Datei mit JSON-Zeilen; eine kaputte Zeile macht die ganze Datei ungültig."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line.strip()]


def seconds(moment: str) -> float:
    """Macht aus einer Zeit nach ISO 8601 Sekunden seit 1970; ohne Zone ist sie ungültig."""
    parsed = datetime.fromisoformat(moment)
    if parsed.tzinfo is None:
        raise ValueError("Die Zeit nennt keine Zone.")
    return parsed.timestamp()


def drift(path: Path) -> list[Metric]:
    """Das letzte Fenster des Detektors: PSI je Merkmal, Alarm oder nicht, wann geprüft."""
    last = [row for row in rows(path) if "window" in row][-1]
    psi = GaugeMetricFamily("price_drift_psi", "PSI im letzten Fenster", labels=["feature"])
    for name, value in last["psi"].items():
        psi.add_metric([name], float(value))
    checked = seconds(last["time"]) if "time" in last else path.stat().st_mtime
    alarm = GaugeMetricFamily("price_drift_alarm", "1: der Detektor meldet Drift")
    alarm.add_metric([], float(last["alarm"]))
    when = GaugeMetricFamily("price_drift_checked_timestamp_seconds", "Letzte Prüfung auf Drift")
    when.add_metric([], checked)
    return [psi, alarm, when]


def labels(path: Path, expected: float) -> list[Metric]:
    """Der mittlere Fehler je Modellversion, der erwartete und wie alt der jüngste Verkauf ist."""
    sales = rows(path)
    errors = defaultdict(list)
    for sale in sales:
        errors[str(sale["model_version"])].append(abs(sale["price_usd"] - sale["sold_usd"]))
    error = GaugeMetricFamily("price_error_usd", "Mittlerer Fehler", labels=["model_version"])
    for version, found in sorted(errors.items()):
        error.add_metric([version], fmean(found))
    promised = GaugeMetricFamily("price_error_expected_usd", "Mittlerer Fehler im Test")
    promised.add_metric([], expected)
    latest = GaugeMetricFamily("price_label_timestamp_seconds", "Jüngster bekannter Verkauf")
    latest.add_metric([], max(seconds(sale["time"]) for sale in sales))
    return [error, promised, latest]


class Results:
    """Liest bei jedem Abruf; was nicht lesbar ist, fehlt, und `price_batch_readable` sagt es."""

    def __init__(self, drift_file: Path | None, label_file: Path | None, expected: float) -> None:
        self.sources = {
            "drift": drift_file and (lambda: drift(drift_file)),
            "labels": label_file and (lambda: labels(label_file, expected)),
        }

    def collect(self) -> Iterator[Metric]:
        """Liefert die Metriken beider Quellen."""
        readable = GaugeMetricFamily(
            "price_batch_readable", "1: die Datei war lesbar", labels=["source"]
        )
        for name, source in self.sources.items():
            if source is None:
                continue
            try:
                found = source()
            except UNREADABLE:
                found = []
            readable.add_metric([name], float(bool(found)))
            yield from found
        yield readable


def main() -> int:
    """Läuft, bis ein Signal kommt."""
    parser = argparse.ArgumentParser(description="Ergebnisse von Prüfungen als Metriken")
    parser.add_argument("--drift", type=Path, help="Ausgabe des Detektors, JSON-Zeilen")
    parser.add_argument("--labels", type=Path, help="Verkäufe, JSON-Zeilen")
    parser.add_argument("--port", type=port, default=8226)
    options = parser.parse_args()
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    registry = CollectorRegistry()
    try:
        registry.register(Results(options.drift, options.labels, load_metadata()["mae_usd"]))
        server, _ = start_http_server(options.port, addr="127.0.0.1", registry=registry)
    except ModelMissingError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError:
        print(f"Port {options.port} ist belegt.", file=sys.stderr)
        return 1
    stopped.wait()
    server.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
