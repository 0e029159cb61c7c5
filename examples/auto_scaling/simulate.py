"""Den HPA nachrechnen: die Formel, eine mitgeschriebene Spur und ein Modell zum Ausprobieren.

Aufruf: `python -m examples.auto_scaling.simulate WAS [SPUR]`
`replay` stellt Voraussage und Wirklichkeit nebeneinander, `fit` passt das Modell an die Spur an,
`windows` vergleicht Stabilisierungsfenster und braucht keine Spur.
"""

import argparse
import json
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

TOLERANCE = 0.1
# Einstellungen des Clusters dieses Buches; die Vorgaben von Kubernetes sind 15 s und 300 s.
SYNC_SECONDS = 5
WINDOW_SECONDS = 20
# Die Spur hat je Sekunde eine Zeile, und was darin steht, ist bis zu einen Takt alt.
SLACK_SECONDS = 2 * SYNC_SECONDS
# So lange liegt im Kapitel die Last an.
LOAD_SECONDS = 45


class TraceError(ValueError):
    """Die Spur fehlt, ist unlesbar oder enthält keinen vollständigen Lauf."""


def wanted(replicas: int, utilization: float, target: float, measured: int | None = None) -> int:
    """Die Formel des HPA: aufgerundet `replicas · utilization / target`, ±10 % ohne Änderung.

    `measured` ist die Zahl der Pods mit Messwert; fehlende gelten beim Vergrößern als untätig.
    """
    ratio = utilization / target
    if ratio > 1 and measured is not None and measured < replicas:
        ratio = max(1.0, ratio * measured / replicas)
    if abs(ratio - 1) <= TOLERANCE:
        return replicas
    return math.ceil(replicas * ratio)


def limited(replicas: int, minimum: int, maximum: int) -> int:
    """Hält eine Zahl in den Grenzen des HPA."""
    return min(max(replicas, minimum), maximum)


def read(path: Path) -> list[dict]:
    """Liest eine Spur; die Zeit zählt danach ab der ersten Zeile."""
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        began = lines[0]["time"]
        return [
            # Solange es keine Messwerte gibt, lässt der HPA alles, wie es ist.
            line | {"time": line["time"] - began, "utilization": line["utilization"] or 0}
            for line in lines
        ]
    except FileNotFoundError:
        raise TraceError(f"Die Spur {path.name} gibt es nicht.") from None
    except OSError:
        raise TraceError(f"Die Spur {path.name} lässt sich nicht lesen.") from None
    except (ValueError, KeyError, TypeError, IndexError):
        raise TraceError(f"{path.name} ist keine Spur von examples.auto_scaling.record.") from None


def replay(trace: list[dict], window: float = WINDOW_SECONDS) -> list[dict]:
    """Sagt zu jeder Zeile voraus, wie viele Replikate der HPA wollen müsste.

    Er nimmt das Größte, was die Formel im Fenster ergab. Die API nennt nur ganze Prozent, daher
    reicht die Voraussage von `low` bis `high`.
    """
    predictions = []
    for now in trace:
        recent = [line for line in trace if 0 <= now["time"] - line["time"] <= window]
        bounds = []
        for more in (0, 0.999):
            numbers = [
                wanted(line["replicas"], line["utilization"] + more, line["target"], measured)
                for line in recent
                for measured in [line.get("measured")]
            ]
            bounds.append(limited(max(numbers), now["minimum"], now["maximum"]))
        predictions.append({"time": now["time"], "low": bounds[0], "high": bounds[1]})
    return predictions


def explained(trace: list[dict]) -> list[dict]:
    """Nennt jede Entscheidung des HPA und ob die Formel sie zu dieser Zeit voraussagt."""
    predictions = replay(trace)
    return [
        {
            "from": before["desired"],
            "to": after["desired"],
            "predicted": any(
                guess["low"] <= after["desired"] <= guess["high"]
                for guess in predictions
                if abs(guess["time"] - after["time"]) <= SLACK_SECONDS
            ),
        }
        for before, after in pairwise(trace)
        if before["desired"] != after["desired"]
    ]


@dataclass
class Model:
    """Was das Modell von Cluster und Dienst weiß; Zeiten in s, Last in Prozent der `requests`."""

    demand: float
    lag: int
    start: int
    target: float = 60
    maximum: int = 4
    window: int = WINDOW_SECONDS


def simulate(load: Callable[[int], float], seconds: int, model: Model) -> list[dict]:
    """Rechnet Sekunde für Sekunde: Last, gemessene Auslastung, gewünschte und bereite Replikate.

    Gemessen wird der Mittelwert der letzten `lag` Sekunden; ein neues Replikat antwortet nach
    `start` Sekunden. `overloaded` heißt: Die bereiten Replikate liegen über dem Ziel des HPA.
    """
    history, numbers, steps = [], [], []
    desired, starting = 1, []
    for second in range(seconds):
        ready = max(1, desired - sum(second < at for at in starting))
        history.append(load(second) / ready)
        if second % SYNC_SECONDS == 0:
            recent = history[-max(1, model.lag) :]
            number = wanted(desired, sum(recent) / len(recent), model.target, ready)
            numbers.append((second, limited(number, 1, model.maximum)))
            chosen = max(n for at, n in numbers if second - at <= model.window)
            starting += [second + model.start] * (chosen - desired)
            desired = chosen
        overloaded = history[-1] > model.target * (1 + TOLERANCE)
        steps.append({"time": second, "desired": desired, "ready": ready, "overloaded": overloaded})
    return steps


def rectangle(begin: float, end: float, demand: float) -> Callable[[float], float]:
    """Eine Last, die zwischen zwei Zeitpunkten anliegt."""
    return lambda second: demand if begin <= second < end else 0.0


def pulses(period: int, demand: float) -> Callable[[float], float]:
    """Eine Last, die eine halbe Periode anliegt und eine halbe ausbleibt."""
    return lambda second: demand if second % period < period / 2 else 0.0


def fit(trace: list[dict], load_seconds: float) -> dict:
    """Sucht Beginn der Last, Verzögerung der Messung und Startzeit, die am besten passen.

    `difference` ist der mittlere Abstand zwischen Modell und Wirklichkeit in Replikaten.
    """
    peak = max(line["desired"] for line in trace)
    if peak == trace[0]["desired"] or trace[-1]["desired"] == peak:
        raise TraceError("Die Spur enthält keinen Lauf hinauf und wieder hinunter.")
    full = [line for line in trace if line["replicas"] == line["ready"] == peak]
    if not full:
        raise TraceError("In der Spur waren nie alle Replikate bereit.")
    busy = sorted(line["utilization"] * line["replicas"] for line in full)
    demand = busy[int(len(busy) * 0.75)]
    seconds = math.ceil(trace[-1]["time"]) + 1
    best = None
    for lag in range(5, 31, 5):
        for start in (1, 2, 5, 10):
            for begin in range(-15, 16, 5):
                model = Model(demand, lag, start, trace[0]["target"], trace[0]["maximum"])
                load = rectangle(begin, begin + load_seconds, demand)
                steps = simulate(load, seconds, model)
                off = [abs(steps[int(line["time"])]["desired"] - line["desired"]) for line in trace]
                found = (sum(off) / len(off), lag, start, begin, steps)
                best = found if best is None or found[:4] < best[:4] else best
    difference, lag, start, begin, steps = best
    return {
        "demand": round(demand),
        "lag": lag,
        "start": start,
        "begin": begin,
        "difference": round(difference, 2),
        "desired": [step["desired"] for step in steps],
    }


def windows(model: Model, period: int, sizes: list[int], seconds: int = 600) -> list[dict]:
    """Vergleicht Stabilisierungsfenster bei pulsierender Last."""
    rows = []
    for size in sizes:
        chosen = replace(model, window=size)
        steps = simulate(pulses(period, model.demand), seconds, chosen)
        rows.append(
            {
                "window": size,
                "changes": sum(a["desired"] != b["desired"] for a, b in pairwise(steps)),
                "overloaded_seconds": sum(step["overloaded"] for step in steps),
                "replica_seconds": sum(step["desired"] for step in steps),
            }
        )
    return rows


def main() -> int:
    """Rechnet und zeigt das Ergebnis als JSON, die Tabelle der Fenster zeilenweise."""
    parser = argparse.ArgumentParser(description="Den HPA nachrechnen")
    parser.add_argument("what", choices=["replay", "fit", "windows"])
    parser.add_argument("trace", nargs="?", type=Path, help="Spur von examples.auto_scaling.record")
    parser.add_argument(
        "--demand", type=float, default=240, help="Last in Prozent dessen, was ein Pod anfordert"
    )
    parser.add_argument("--lag", type=int, default=15, help="Verzögerung der Messung in s")
    parser.add_argument("--start", type=int, default=5, help="Startzeit eines Replikats in s")
    parser.add_argument("--period", type=int, default=60, help="Periode der pulsierenden Last in s")
    parser.add_argument("--window", type=int, nargs="*", default=[0, 20, 60, 300])
    options = parser.parse_args()
    if options.period < 1 or min(options.window, default=0) < 0:
        parser.error("Die Periode liegt über null, ein Fenster nie darunter.")
    try:
        if options.what == "windows":
            model = Model(options.demand, options.lag, options.start)
            for row in windows(model, options.period, options.window):
                print(json.dumps(row))
        elif options.trace is None:
            parser.error("Hier fehlt die Spur.")
        elif options.what == "replay":
            trace = read(options.trace)
            print(json.dumps({"decisions": explained(trace), "predictions": replay(trace)}))
        else:
            print(json.dumps(fit(read(options.trace), LOAD_SECONDS)))
    except TraceError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
