"""Warten, bis etwas eintritt, statt eine feste Zeit zu schlafen.

Aufruf: `python -m examples.monitoring_alerting.watch query URL AUSDRUCK`,
`… watch message DATEI ALARM [firing|resolved] [--label NAME=WERT]` oder
`… watch alert URL ALARM active|suppressed`
Zeigt, worauf gewartet wurde, als eine Zeile JSON; nach Ablauf der Zeit endet es mit 1.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import httpx


def query(url: str, expression: str) -> list[dict]:
    """Fragt Prometheus; ein Vergleich, der nicht stimmt, ergibt eine leere Liste."""
    answer = httpx.get(f"{url}/api/v1/query", params={"query": expression}, timeout=10)
    body = answer.json()
    if body["status"] != "success":
        sys.exit(f"Prometheus lehnt die Frage ab: {body['error']}")
    return [
        {"labels": row["metric"], "value": float(row["value"][1])} for row in body["data"]["result"]
    ]


def message(path: Path, alert: str, status: str, labels: dict[str, str]) -> list[dict]:
    """Sucht Meldungen in der Datei des Webhooks; ein Alarm kann je Label mehrmals feuern."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    found = [json.loads(line) for line in lines]
    return [
        row
        for row in found
        if (row["alert"], row["status"]) == (alert, status)
        and labels.items() <= row["labels"].items()
    ]


def pair(text: str) -> tuple[str, str]:
    """Liest `name=wert`."""
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"{text!r} hat nicht die Form NAME=WERT.")
    return name, value


def alert(url: str, name: str, state: str) -> list[dict]:
    """Fragt den Alertmanager nach einem Alarm in diesem Zustand."""
    rows = httpx.get(f"{url}/api/v2/alerts", timeout=10).json()
    return [
        {
            "alert": name,
            "state": row["status"]["state"],
            "silenced": bool(row["status"]["silencedBy"]),
            "inhibited": bool(row["status"]["inhibitedBy"]),
        }
        for row in rows
        if row["labels"]["alertname"] == name and row["status"]["state"] == state
    ]


def main() -> int:
    """Fragt wieder und wieder, bis die Antwort nicht mehr leer ist."""
    parser = argparse.ArgumentParser(description="Warten, bis etwas eintritt")
    parser.add_argument("--timeout", type=float, default=60)
    what = parser.add_subparsers(dest="what", required=True)
    first = what.add_parser("query")
    first.add_argument("url")
    first.add_argument("expression")
    second = what.add_parser("message")
    second.add_argument("file", type=Path)
    second.add_argument("alert")
    second.add_argument("status", choices=["firing", "resolved"], nargs="?", default="firing")
    second.add_argument("--label", type=pair, action="append", default=[], metavar="NAME=WERT")
    third = what.add_parser("alert")
    third.add_argument("url")
    third.add_argument("alert")
    third.add_argument("state", choices=["active", "suppressed"])
    options = parser.parse_args()
    asks = {
        "query": lambda: query(options.url, options.expression),
        "message": lambda: message(
            options.file, options.alert, options.status, dict(options.label)
        ),
        "alert": lambda: alert(options.url, options.alert, options.state),
    }
    deadline, problem = time.monotonic() + options.timeout, "Die Antwort blieb leer."
    while time.monotonic() < deadline:
        try:
            if found := asks[options.what]():
                print(json.dumps(found[-1] if options.what != "query" else found))
                return 0
        except httpx.HTTPError as error:
            problem = f"Niemand antwortet: {type(error).__name__}."
        except ValueError:  # Prometheus antwortet beim Hochfahren mit Text statt JSON
            problem = "Die Antwort ist kein JSON."
        time.sleep(0.2)
    print(f"Nach {options.timeout:g} s nicht eingetreten. {problem}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
