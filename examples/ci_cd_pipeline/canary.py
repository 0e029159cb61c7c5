"""Den Anteil des Kandidaten stufenweise erhöhen, solange der Router nicht zurückrollt.

Der Router (examples.ab_test.router) zählt und schaltet selbst ab; dieses Programm erhöht nur.
Auch wenn es scheitert oder abgebrochen wird, steht der Anteil am Ende wieder auf 0.

Aufruf: python -m examples.ci_cd_pipeline.canary --router URL --steps 0.25 1
"""

import argparse
import signal
import sys
import time
from collections.abc import Callable

import httpx

from examples.ab_test.guardrail import Limits
from examples.ab_test.options import address


class CanaryError(RuntimeError):
    """Der Kandidat kommt nicht in Produktion."""


# [ramp]
def ramp(client: httpx.Client, steps: list[float], requests: int, timeout: float) -> None:
    """Erhöht je Stufe, wartet auf genug Fragen und hört beim ersten Rollback auf."""
    for share in steps:
        split(client, share, f"Canary {share:.0%}")
        before, deadline = assigned(client), time.monotonic() + timeout
        while (asked := assigned(client) - before) < requests:
            if time.monotonic() > deadline:
                # Ohne Verkehr hat der Kandidat nichts bewiesen.
                raise CanaryError(f"Bei {share:.0%} kamen nur {asked} von {requests} Fragen.")
            time.sleep(0.05)
        print(f"Anteil {share:.0%}: bestanden")
    assigned(client)  # ohne Stufen nur die Frage, ob inzwischen zurückgerollt wurde


# [end ramp]


def split(client: httpx.Client, share: float, reason: str) -> None:
    """Setzt den Anteil des Kandidaten."""
    client.post("/split", json={"share": share, "reason": reason}).raise_for_status()


def assigned(client: httpx.Client) -> int:
    """Wie viele Fragen der Kandidat bekam; nach einem Rollback entsteht `CanaryError`.

    Warum zurückgerollt wurde, steht unter `rollback` beim Router und in seinem Protokoll.
    """
    state = client.get("/split").raise_for_status().json()
    if state["rollback"]:
        raise CanaryError("Der Router hat zurückgerollt.")
    return state["arms"]["treatment"]["assigned"]


def fraction(text: str) -> float:
    """Liest einen Anteil über 0 bis 1."""
    try:
        number = float(text)
    except ValueError:
        number = 0
    if not 0 < number <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} ist kein Anteil über 0 bis 1.")
    return number


def stop(*_: object) -> None:
    """Macht aus SIGTERM und `SIGINT` einen geordneten Abbruch."""
    listen(lambda *_: None)
    raise CanaryError("Der Canary wurde abgebrochen.")


def listen(handler: Callable[..., None]) -> None:
    """Legt fest, was bei SIGTERM und `SIGINT` geschieht."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handler)


def main() -> int:
    """Durchläuft die Stufen; mit 100 % bleibt der Kandidat im Dienst."""
    parser = argparse.ArgumentParser(description="Den Anteil stufenweise erhöhen.")
    parser.add_argument("--router", type=address, help="Adresse des Routers", required=True)
    parser.add_argument("--steps", type=fraction, nargs="*", default=[0.25, 1.0])
    # Weniger wären nie rot: Erst ab dieser Zahl urteilt der Router.
    enough = Limits.min_requests
    parser.add_argument("--requests", type=int, default=enough, help="so viele Fragen je Stufe")
    parser.add_argument("--timeout", type=float, default=120, help="Geduld je Stufe in Sekunden")
    parser.add_argument("--stop", action="store_true", help="nur aus dem Verkehr nehmen")
    options = parser.parse_args()
    if sorted(options.steps) != options.steps or options.requests < 1:
        parser.error("Die Stufen müssen steigen, und je Stufe braucht es mindestens eine Frage.")
    listen(stop)
    with httpx.Client(base_url=options.router, timeout=10, trust_env=False) as client:
        try:
            if options.stop:
                withdraw(client, "Der Platz wird neu belegt")
            else:
                ramp(client, options.steps, options.requests, options.timeout)
        except (CanaryError, httpx.HTTPError, ValueError, KeyError) as error:
            said = error if isinstance(error, CanaryError) else "Der Router antwortet nicht."
            print(f"Canary gescheitert: {said}", file=sys.stderr)
            give_up(client)
            return 1
        except BaseException:
            give_up(client)
            raise
    return 0


def withdraw(client: httpx.Client, reason: str) -> None:
    """Nimmt den Kandidaten aus dem Verkehr, ohne ein vermerktes Rollback zu überschreiben."""
    if client.get("/split").raise_for_status().json()["share"]:
        split(client, 0, reason)


def give_up(client: httpx.Client) -> None:
    """Nach einem Fehler: den Kandidaten aus dem Verkehr nehmen oder sagen, dass es nicht ging."""
    listen(lambda *_: None)  # Aufräumen lässt sich nicht abbrechen
    try:
        withdraw(client, "Canary gescheitert")
    except (httpx.HTTPError, ValueError, KeyError):
        print("Der Anteil ließ sich nicht auf 0 setzen.", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
