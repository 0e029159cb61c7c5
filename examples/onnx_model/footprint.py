"""Wie viel Platz Pakete samt ihren Abhängigkeiten brauchen, als JSON in MB.

Aufruf: python -m examples.onnx_model.footprint PAKET …
"""

import json
import sys
from importlib.metadata import PackageNotFoundError, distribution

from packaging.requirements import Requirement


def footprint(names: list[str]) -> dict[str, float]:
    """Gibt je Paket die Summe seiner Dateien in MB zurück, ohne übersetzten Bytecode."""
    waiting, sizes = list(names), {}
    while waiting:
        package = distribution(waiting.pop())
        if package.name in sizes:
            continue
        # Bytecode zählt nicht mit: er entsteht erst nach dem Installieren.
        kept = [file for file in package.files if file.suffix != ".pyc"]
        sizes[package.name] = sum(file.size or 0 for file in kept) / 1e6
        for requirement in map(Requirement, package.requires or []):
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement.name)
    return sizes


if __name__ == "__main__":
    try:
        print(json.dumps(footprint(sys.argv[1:])))
    except PackageNotFoundError as error:
        sys.exit(f"Das Paket {error.name} ist nicht installiert.")
