"""Eine Eingabe, die das Log fälschen will, an drei Arten zu schreiben.

Aufruf: python -m examples.service_logging.forgery
"""

import json
import logging

from examples.service_logging.journal import LOGGER, JsonFormatter

FORGED = '{"event": "prediction", "price_usd": 1}'
CUT = f'Ideal"}}\n{FORGED}\n{{"x": "'


def written(value: str) -> dict[str, str]:
    """Schreibt denselben Wert als Text, als JSON von Hand und mit dem Formatter des Dienstes."""
    record = logging.makeLogRecord(
        {"name": LOGGER, "msg": "request", "levelname": "INFO", "rows": [{"cut": value}]}
    )
    return {
        "text": f"INFO request cut={value}",
        "json by hand": f'{{"event": "request", "cut": "{value}"}}',
        "formatter": JsonFormatter().format(record),
    }


def accepted(line: str) -> str:
    """Sagt, was ein Auswerter aus einer Zeile liest: das Ereignis oder nichts."""
    try:
        return json.loads(line).get("event", "other")
    except ValueError:
        return "unreadable"


def main() -> None:
    """Zeigt, was ein Auswerter jeweils liest."""
    for way, text in written(CUT).items():
        print(f"{way}: {[accepted(line) for line in text.splitlines()]}")


if __name__ == "__main__":
    main()
