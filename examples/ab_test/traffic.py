"""Nutzer, die nach Preisen fragen: immer dieselben, und am Ende steht, was verkauft wurde.

Aufruf: python -m examples.ab_test.traffic URL --users 600 --log outcomes.jsonl
Jeder Nutzer fragt zweimal nach einem Stein aus den Testdaten, deren Preis bekannt ist. Ein
Verkauf kommt zustande, wenn das Angebot höchstens zehn Prozent danebenliegt. Das Ergebnis steht
je Anfrage in --log; mit dem Protokoll des Routers verbindet es nur die Kennung der Anfrage.
Die Ausgabe zählt, was gesendet, beantwortet und gescheitert ist.
"""

import argparse
import asyncio
import json
import random
import sys
import time
import uuid
from pathlib import Path

import httpx

from examples.ab_test import TOLERANCE
from examples.ab_test.options import above_zero, address
from examples.load_balancing.load import summary
from examples.price_model.data import load_diamonds, split


def visits(users: int, per_user: int, seed: int) -> list[dict]:
    """Gibt je Besuch Nutzer, Kennung, Stein und wahren Preis zurück, in gemischter Reihenfolge."""
    _, X_test, _, y_test = split(load_diamonds()[0])
    stones, prices = X_test.to_dict("records"), y_test.tolist()
    rng = random.Random(seed)
    found = []
    for number in range(users):
        for _ in range(per_user):
            row = rng.randrange(len(stones))
            found.append(
                {
                    "user": f"user-{number:06d}",
                    "request_id": str(uuid.UUID(int=rng.getrandbits(128), version=4)),
                    "stone": stones[row],
                    "value_usd": prices[row],
                }
            )
    rng.shuffle(found)
    return found


async def send(
    url: str, wanted: list[dict], clients: int, timeout: float
) -> tuple[list[tuple[float, float, str, str]], list[dict]]:
    """Stellt alle Fragen, höchstens `clients` zugleich; gibt Antworten und Verkäufe zurück."""
    started, answers, outcomes, waiting = time.perf_counter(), [], [], iter(wanted)

    async def work(client: httpx.AsyncClient) -> None:
        for visit in waiting:
            headers = {"X-User-ID": visit["user"], "X-Request-ID": visit["request_id"]}
            asked = time.perf_counter()
            try:
                response = await client.post(f"{url}/predict", json=visit["stone"], headers=headers)
                result, arm = str(response.status_code), response.headers.get("x-served-by", "")
            except httpx.HTTPError as error:
                result, arm = type(error).__name__, ""
            answers.append((asked - started, time.perf_counter() - asked, result, arm))
            if result == "200":
                outcomes.append(outcome(visit, response.json()["price_usd"]))

    limits = httpx.Limits(max_connections=clients)
    async with httpx.AsyncClient(trust_env=False, timeout=timeout, limits=limits) as client:
        await asyncio.gather(*(work(client) for _ in range(clients)))
    return answers, outcomes


def outcome(visit: dict, price: float) -> dict:
    """Was aus einem Angebot wurde; der Nutzer kommt darin nicht vor."""
    error = abs(price - visit["value_usd"])
    return {
        "request_id": visit["request_id"],
        "sold": bool(error <= TOLERANCE * visit["value_usd"]),
        "error_usd": round(error, 2),
        "value_usd": visit["value_usd"],
    }


def main() -> int:
    """Fragt, schreibt die Ergebnisse und zählt."""
    parser = argparse.ArgumentParser(description="Nutzer fragen nach Preisen")
    parser.add_argument("url", type=address)
    parser.add_argument("--users", type=above_zero(int), default=600)
    parser.add_argument("--per-user", type=above_zero(int), default=2, help="Fragen je Nutzer")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clients", type=above_zero(int), default=8, help="so viele zugleich")
    parser.add_argument("--timeout", type=above_zero(float), default=30.0)
    parser.add_argument("--log", type=Path, help="hierhin die Ergebnisse, angehängt")
    options = parser.parse_args()
    wanted = visits(options.users, options.per_user, options.seed)
    answers, outcomes = asyncio.run(send(options.url, wanted, options.clients, options.timeout))
    if options.log:
        try:
            with open(options.log, "a", encoding="utf-8") as file:
                file.writelines(f"{json.dumps(row)}\n" for row in outcomes)
        except OSError as error:
            print(f"Die Ergebnisse fehlen: {error.strerror}.", file=sys.stderr)
            return 1
    print(json.dumps(summary(answers)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
