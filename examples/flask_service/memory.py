"""Messen, wo Speicher bleibt: `parts` in einem Prozess, eine Portnummer in allen eines Dienstes.

Aufruf: python -m examples.flask_service.memory parts | PORT (eine Portnummer nur unter Linux)
"""

import json
import statistics
import sys
from collections.abc import Callable
from importlib import import_module

import psutil


def parts() -> dict[str, int]:
    """Gibt an, um wie viele MB jeder Schritt bis zum geladenen Modell den Prozess vergrößert."""
    steps: dict[str, Callable[[], object]] = {
        "Flask": lambda: import_module("flask"),
        "pydantic und Schema": lambda: import_module("examples.price_model.schema"),
        "numpy": lambda: import_module("numpy"),
        "onnxruntime": lambda: import_module("onnxruntime"),
        "Modell": lambda: import_module("examples.price_model.predict").load_model(),
    }
    grown, kept, before = {}, [], private_mb(psutil.Process())
    for name, step in steps.items():
        kept.append(step())
        now = private_mb(psutil.Process())
        grown[name], before = round(now - before), now
    return grown


def private_mb(process: psutil.Process) -> float:
    """Gibt zurück, was mit diesem Prozess verschwände: Seiten, die niemand sonst benutzt."""
    return process.memory_full_info().uss / 1e6


def service(port: int) -> dict[str, int]:
    """Misst alle Prozesse, die auf `port` lauschen, in MB.

    `private` gilt je Workerprozess; `resident` zählt Geteiltes je Prozess, `total` nur einmal.
    """
    family = [process for process in psutil.process_iter() if listens(process, port)]
    used = [process.memory_full_info() for process in family]
    workers = [process for process in family if process.parent() in family]
    if not workers:
        sys.exit(f"Auf Port {port} läuft kein Dienst mit Workerprozessen.")
    return {
        "private": round(statistics.median(map(private_mb, workers))),
        "resident": round(sum(memory.rss for memory in used) / 1e6),
        "total": round(sum(memory.pss for memory in used) / 1e6),
    }


def listens(process: psutil.Process, port: int) -> bool:
    """Sagt, ob ein Prozess den Port offen hält; Workerprozesse erben ihn."""
    try:
        return any(connection.laddr.port == port for connection in process.net_connections("tcp"))
    except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
        return False


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["parts"]:
            print(json.dumps(parts()))
        case [port] if port.isdecimal():
            print(json.dumps(service(int(port))))
        case _:
            sys.exit("Aufruf: python -m examples.flask_service.memory parts | PORT")
