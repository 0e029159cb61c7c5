"""Viele Load Balancer mit veralteter Sicht: was ein einzelnes HAProxy nicht zeigen kann.

Aufruf: python -m examples.load_balancing.simulate [--policies NAME …] [--ages 0 1 …]
"""

import argparse
import json
import random
from collections import deque
from collections.abc import Callable

SERVERS, UTILISATION, REQUESTS, SEED = 20, 0.9, 40_000, 7
# Eine Strategie wählt aus den Längen der Warteschlangen, so wie sie zuletzt bekannt waren.
Policy = Callable[[list[int], random.Random], int]


def pick_random(known: list[int], chance: random.Random) -> int:
    """Fragt nicht, wer wie viel zu tun hat."""
    return chance.randrange(len(known))


def least_connections(known: list[int], chance: random.Random) -> int:
    """Nimmt den, der am wenigsten zu tun hatte; bei Gleichstand irgendeinen davon."""
    least = min(known)
    return chance.choice([server for server, length in enumerate(known) if length == least])


def two_choices(known: list[int], chance: random.Random) -> int:
    """Zieht zwei und nimmt den, der weniger zu tun hatte."""
    return min(chance.sample(range(len(known)), 2), key=known.__getitem__)


POLICIES = {"random": pick_random, "leastconn": least_connections, "two choices": two_choices}


def p99(policy: Policy, age: float) -> float:
    """Das 99. Perzentil der Antwortzeit; Zeiten zählen in mittleren Bearbeitungszeiten.

    Die Sicht aller Load Balancer wird alle `age` Zeiten erneuert, bei 0 vor jeder Anfrage.
    """
    chance = random.Random(SEED)
    leaving = [deque() for _ in range(SERVERS)]  # wann welche Anfrage fertig ist
    known, refreshed, now, latencies = [0] * SERVERS, 0.0, 0.0, []
    for _ in range(REQUESTS):
        now += chance.expovariate(SERVERS * UTILISATION)
        if now >= refreshed + age:
            refreshed = now
            for queue in leaving:
                while queue and queue[0] <= now:
                    queue.popleft()
            known = [len(queue) for queue in leaving]
        queue = leaving[policy(known, chance)]
        begin = max(now, queue[-1]) if queue else now
        queue.append(begin + chance.expovariate(1))
        latencies.append(queue[-1] - now)
    return sorted(latencies)[int(0.99 * REQUESTS)]


def main() -> None:
    """Zeigt je Strategie und Alter der Sicht das 99. Perzentil als JSON."""
    parser = argparse.ArgumentParser(description="Strategien mit veralteter Sicht vergleichen")
    parser.add_argument("--policies", nargs="+", choices=POLICIES, default=list(POLICIES))
    parser.add_argument("--ages", nargs="+", type=float, default=[0, 1, 5, 20])
    options = parser.parse_args()
    print(
        json.dumps(
            {
                name: {f"{age:g}": round(p99(POLICIES[name], age)) for age in options.ages}
                for name in options.policies
            }
        )
    )


if __name__ == "__main__":
    main()
