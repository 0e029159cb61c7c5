"""Startet den Stapel ganz oder gar nicht: python -m examples.compose_stack.start.

Scheitert `docker compose up`, so bleiben Netze und halbe Container zurück. Dieser Aufruf prüft
vorher den Port, nennt den Grund in einem Satz und räumt auf.
"""

import argparse
import os
import socket
import subprocess
import sys
from pathlib import Path

from examples.ab_test.options import port
from examples.compose_stack import secret

COMPOSE = Path(__file__).parent / "compose.yaml"
PORT = 8141


def start(project: str, port: int, profiles: list[str]) -> str | None:
    """Gibt den Grund zurück, aus dem nichts läuft, oder nichts."""
    command = ["docker", "compose", "-f", str(COMPOSE), "-p", project]
    # Wie Compose: Leer heißt Vorgabe, und ein kurzer Pfad zählt ab compose.yaml.
    try:
        secret.create(COMPOSE.parent / (os.environ.get("PRICE_SECRETS") or secret.FOLDER))
    except OSError as error:
        return f"Der Ordner für das Passwort lässt sich nicht anlegen: {error.strerror}."
    environment = {**os.environ, "PRICE_PORT": str(port)}

    def compose(*arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [*command, *arguments], env=environment, capture_output=True, encoding="utf-8"
        )

    before = compose("ps", "--all", "--quiet")
    if before.returncode:
        return last_line(before.stderr)
    if not before.stdout and taken(port):
        return f"Port {port} ist belegt. Ein anderer geht mit --port."
    chosen = [part for profile in profiles for part in ("--profile", profile)]
    up = None
    try:
        up = compose(*chosen, "up", "--detach", "--wait")
    finally:  # auch nach einem Abbruch von Hand
        if not before.stdout and (up is None or up.returncode):
            compose("--profile", "*", "down")
    return last_line(up.stderr) if up.returncode else None


def taken(port: int) -> bool:
    """Sagt, ob auf Loopback schon jemand unter dieser Nummer antwortet."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def last_line(text: str) -> str:
    """Gibt die letzte Zeile einer Meldung zurück; dort steht bei Docker der Grund."""
    return (text.strip().splitlines() or ["ohne Meldung"])[-1]


def main() -> int:
    """Startet und nennt die Adresse, oder den Grund mit Exitcode 1."""
    parser = argparse.ArgumentParser(description="Den Stapel starten, ganz oder gar nicht.")
    parser.add_argument("--project", default="price", help="Name des Projekts in Compose")
    parser.add_argument("--port", type=port, default=PORT, help="Port auf diesem Rechner")
    parser.add_argument("--profile", action="append", default=[], help="monitoring, registry")
    options = parser.parse_args()
    try:
        problem = start(options.project, options.port, options.profile)
    except FileNotFoundError:
        problem = "Docker ist nicht installiert."
    except KeyboardInterrupt:
        problem = "Der Start wurde abgebrochen."
    if problem:
        print(f"Nichts gestartet: {problem}", file=sys.stderr)
        return 1
    print(f"http://127.0.0.1:{options.port}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
