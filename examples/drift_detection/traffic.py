"""Anfragen schicken, deren Steine driften oder nicht.

Aufruf: `python -m examples.drift_detection.traffic URL DRIFT [--stones N] [--skip N]`
Mit `--sales DATEI` kommt je beantwortetem Stein eine Zeile hinzu, was er später wirklich kostete.
"""

import argparse
import json
import os
import sys
from datetime import UTC, datetime
from typing import TextIO

import httpx
import pandas as pd

from examples.drift_detection.constructed import DRIFTS, SEED, halves
from examples.price_model.data import TARGET
from examples.price_model.schema import FEATURES

BATCH = 100


def sales(prices: list[float], answers: list[dict]) -> str:
    """Je Verkauf eine Zeile JSON, wie `examples.monitoring_alerting.batch` sie liest."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    rows = [
        {"time": now, **answer, "sold_usd": round(price, 2)}
        for price, answer in zip(prices, answers, strict=True)
    ]
    return "".join(f"{json.dumps(row)}\n" for row in rows)


def send(url: str, rows: pd.DataFrame, file: TextIO) -> dict[str, int]:
    """Schickt die Steine in Stapeln, schreibt die Verkäufe und zählt."""
    counts = {"sent": 0, "answered": 0, "failed": 0}
    with httpx.Client(base_url=url, timeout=30) as client:
        for start in range(0, len(rows), BATCH):
            batch = rows.iloc[start : start + BATCH]
            counts["sent"] += len(batch)
            answer = client.post("/predict", json=batch[list(FEATURES)].to_dict("records"))
            outcome = "answered" if answer.status_code == 200 else "failed"
            counts[outcome] += len(batch)
            if outcome == "answered":
                file.write(sales(batch[TARGET].tolist(), answer.json()))
    return counts


def main() -> int:
    """Schickt die Steine und zeigt, was gesendet, beantwortet und gescheitert ist."""
    parser = argparse.ArgumentParser(description="Anfragen mit und ohne Drift schicken")
    parser.add_argument("url")
    parser.add_argument("drift", choices=list(DRIFTS))
    parser.add_argument("--stones", type=int, default=1500)
    parser.add_argument("--skip", type=int, default=0, help="so viele Steine auslassen")
    parser.add_argument("--sales", default=os.devnull, help="hierhin die wahren Preise, angehängt")
    options = parser.parse_args()
    rows = DRIFTS[options.drift](halves()[1], SEED)
    rows = rows.iloc[options.skip : options.skip + options.stones]
    if len(rows) < options.stones:
        print(f"So viele Steine gibt es nicht: höchstens {len(rows)} ab hier.", file=sys.stderr)
        return 1
    try:
        # Zuerst geöffnet: Wo nichts zu schreiben ist, soll auch niemand gefragt werden.
        with open(options.sales, "a", encoding="utf-8") as file:
            counts = send(options.url, rows, file)
    except httpx.TransportError as error:
        print(f"Der Dienst antwortet nicht: {type(error).__name__}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"Die Verkäufe lassen sich nicht schreiben: {error.strerror}.", file=sys.stderr)
        return 1
    print(json.dumps(counts))
    return int(counts["failed"] > 0)


if __name__ == "__main__":
    sys.exit(main())
