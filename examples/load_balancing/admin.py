"""Mit HAProxy im Betrieb reden: über seinen Admin-Socket, eine Datei statt eines Ports.

Aufruf: python -m examples.load_balancing.admin ORDNER BEFEHL
Befehle sind `show`, `wait s4 DOWN`, `settle` und alle, die HAProxy selbst kennt, etwa
`set server workers/s1 state drain`.
"""

import csv
import json
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

from examples.load_balancing.cluster import ask_status

WAIT_SECONDS = 110
COUNTED = {
    "status": "status",
    "requests": "stot",
    "open": "scur",
    "retries": "wretr",
}


class AdminError(RuntimeError):
    """HAProxy ist nicht da oder versteht den Befehl nicht."""


def send(folder: Path, command: str) -> str:
    """Schickt einen Befehl und gibt die Antwort zurück; eine leere heißt: ausgeführt."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        try:
            connection.connect(str(folder / "admin.sock"))
            connection.sendall(f"{command}\n".encode())
            answer = b"".join(iter(lambda: connection.recv(65_536), b"")).decode().strip()
        except OSError:
            raise AdminError("Der Admin-Socket antwortet nicht: Läuft HAProxy?") from None
    if answer and command.split()[0] in ("set", "enable", "disable", "clear"):
        raise AdminError(f"HAProxy antwortet auf {command!r}: {answer.splitlines()[0]}")
    return answer


def servers(folder: Path, backend: str = "workers") -> dict[str, dict]:
    """Liest aus `show stat`, wie es jedem Backend geht und was es beantwortet hat."""
    lines = send(folder, "show stat").removeprefix("# ").splitlines()
    return {
        row["svname"]: {
            name: int(row[column] or 0) if name != "status" else row[column]
            for name, column in COUNTED.items()
        }
        for row in csv.DictReader(lines)
        if row["pxname"] == backend and row["svname"] not in ("FRONTEND", "BACKEND")
    }


def wait(folder: Path, name: str, status: str) -> None:
    """Wartet, bis ein Backend einen Zustand hat; `UP 1/2` zählt noch nicht als `UP`."""
    if name not in servers(folder):
        raise AdminError(f"Ein Backend {name} gibt es nicht.")
    wait_until(lambda: servers(folder)[name]["status"] == status, f"{name} ist {status}")


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wartet auf eine Bedingung statt eine feste Zeit."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise AdminError(f"Nach {WAIT_SECONDS} s noch nicht so weit: {what}.")
        time.sleep(0.05)


def settle(folder: Path) -> None:
    """Wartet, bis jedes Backend selbst bereit ist und HAProxy das auch weiß."""
    try:
        workers = json.loads((folder / "workers.json").read_text(encoding="utf-8"))
    except OSError:
        raise AdminError(f"In {folder.name} läuft kein Verbund.") from None
    for name, worker in workers.items():
        wait_until(lambda url=worker["ready"]: ask_status(url) == 200, f"{name} antwortet")
        wait(folder, name, "UP")


def main() -> None:
    """Führt einen Befehl aus: `show`, `wait`, `settle` oder einen von HAProxy selbst."""
    match sys.argv[1:]:
        case [folder, "show"]:
            print(json.dumps(servers(Path(folder))))
        case [folder, "wait", name, status]:
            wait(Path(folder), name, status)
        case [folder, "settle"]:
            settle(Path(folder))
        case [folder, *words] if words:
            if answer := send(Path(folder), " ".join(words)):
                print(answer)
        case _:
            raise AdminError("Es fehlt der Befehl, etwa `show`.")


if __name__ == "__main__":
    try:
        main()
    except AdminError as error:
        sys.exit(f"Fehler: {error}")
