"""Ray Serve unter begrenzter Last vergrößern und wieder verkleinern lassen.

Aufruf: python -m examples.auto_scaling.scale_ray URL SPUR
SPUR ist die Datei, die der Dienst mit --trace schreibt.
"""

import argparse
import json
import sys
import time
from pathlib import Path

from examples.auto_scaling.ray_service import AUTOSCALING, REPLICA_CPUS
from examples.auto_scaling.simulate import limited, wanted
from examples.load_balancing.load import http_address, run, summary

TARGET, MAXIMUM = AUTOSCALING["target_ongoing_requests"], AUTOSCALING["max_replicas"]
CPU_TARGET_PERCENT = 60
SEGMENT_SECONDS = 3
LIMIT_SECONDS = 50


def last(trace: Path) -> dict:
    """Liest die letzte ganze Zeile der Spur; der Dienst antwortet schon kurz vor der ersten."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < deadline:
        try:
            return json.loads(trace.read_text(encoding="utf-8").split("\n")[-2])
        except (IndexError, FileNotFoundError):
            time.sleep(0.2)
        except (OSError, ValueError):
            break
    sys.exit(f"{trace.name} ist keine Spur des Dienstes.")


def running(trace: Path) -> int:
    """Gibt zurück, wie viele Replikate gerade laufen."""
    return last(trace)["running"]


def settle(trace: Path, replicas: int) -> None:
    """Wartet, bis so viele Replikate laufen und keines startet oder endet."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while True:
        line = last(trace)
        if (line["running"], line["starting"], line["stopping"]) == (replicas, 0, 0):
            return
        if time.monotonic() > deadline:
            sys.exit(f"Nach {LIMIT_SECONDS} s liefen nicht {replicas} Replikate.")
        time.sleep(0.5)


def segment(url: str, trace: Path, clients: int) -> dict:
    """Gibt ein paar Sekunden Last; zählt und misst dabei die Rechenzeit der Replikate."""
    before = last(trace)
    counted = summary(run(url, SEGMENT_SECONDS, clients=clients, timeout=30))
    after = last(trace)
    # Nur wer schon vorher lief: Ein startendes Replikat rechnet sekundenlang, ohne zu antworten.
    used = sum(
        seconds - before["cpu_seconds"][pid]
        for pid, seconds in after["cpu_seconds"].items()
        if pid in before["cpu_seconds"]
    )
    cores = used / (after["seconds"] - before["seconds"])
    kept = ("sent", "answered", "failed", "per_second", "median_ms")
    return {name: counted[name] for name in kept} | {"cores": round(cores, 3)}


def measure(url: str, trace: Path, clients: int) -> dict:
    """Gibt Last, bis alle vorausgesagten Replikate laufen, und wartet dann auf das letzte."""
    predicted = limited(wanted(1, clients, TARGET), 1, MAXIMUM)
    settle(trace, 1)
    segments = [segment(url, trace, clients)]
    deadline = time.monotonic() + LIMIT_SECONDS
    while running(trace) < predicted:
        if time.monotonic() > deadline:
            sys.exit(f"Nach {LIMIT_SECONDS} s liefen nicht {predicted} Replikate.")
        segments.append(segment(url, trace, clients))
    segments.append(segment(url, trace, clients))
    peak = running(trace)
    settle(trace, 1)
    first, final = segments[0], segments[-1]
    percent = 100 * first["cores"] / REPLICA_CPUS
    return {
        "predicted_by_queue": predicted,
        "predicted_by_cpu": limited(wanted(1, percent, CPU_TARGET_PERCENT), 1, MAXIMUM),
        "replicas": peak,
        "afterwards": running(trace),
        **{name: sum(part[name] for part in segments) for name in ("sent", "answered", "failed")},
        "with_one": first,
        "with_all": final,
    }


def main() -> None:
    """Misst einmal und zeigt das Ergebnis als JSON."""
    parser = argparse.ArgumentParser(description="Ray Serve hinauf und hinunter")
    parser.add_argument("url", type=http_address)
    parser.add_argument("trace", type=Path)
    options = parser.parse_args()
    print(json.dumps(measure(options.url, options.trace, clients=8)))


if __name__ == "__main__":
    main()
