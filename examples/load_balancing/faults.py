"""Störungen unter Last, gezählt: was gesendet, beantwortet und gescheitert ist.

Aufruf: python -m examples.load_balancing.faults ORDNER URL STÖRUNG
Der Ordner ist der des Verbunds. `crash` trifft ein Backend mit kill -9; `drain` tauscht alle
nacheinander geordnet aus, `abrupt` ebenso, aber mit kill -9.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from examples.load_balancing import admin
from examples.load_balancing.cluster import ask_status
from examples.load_balancing.load import http_address

# Nach Zeit und Zahl begrenzt, auch wenn hier etwas hängen bleibt.
LIMITS = ["--seconds", "120", "--max-requests", "6000"]


def worker(folder: Path, name: str) -> dict:
    """Liest Prozessnummer und Adresse eines Backends."""
    return json.loads((folder / "workers.json").read_text(encoding="utf-8"))[name]


def replace(folder: Path, name: str, kill: signal.Signals) -> None:
    """Beendet ein Backend und wartet, bis der Nachfolger selbst bereit ist."""
    old = worker(folder, name)
    os.kill(old["pid"], kill)
    admin.wait_until(lambda: worker(folder, name)["pid"] != old["pid"], f"{name} wird ersetzt")
    admin.wait_until(lambda: ask_status(old["ready"]) == 200, f"{name} ist bereit")


def crash(folder: Path, name: str) -> None:
    """Ein `kill -9`: keine Zeit für eine letzte Antwort, keine Ankündigung."""
    replace(folder, name, signal.SIGKILL)
    admin.wait(folder, name, "UP")


def drain(folder: Path, name: str) -> None:
    """Nimmt ein Backend geordnet heraus, tauscht es aus und nimmt es wieder auf."""
    admin.send(folder, f"set server workers/{name} state drain")
    admin.wait_until(lambda: admin.servers(folder)[name]["open"] == 0, f"{name} ist leer")
    replace(folder, name, signal.SIGTERM)
    admin.wait(folder, name, "DRAIN")
    admin.send(folder, f"set server workers/{name} state ready")
    admin.wait(folder, name, "UP")


def run(fault: str, folder: Path, url: str, rate: int) -> dict:
    """Gibt Last, stört und beendet die Last; das Ergebnis ist die Zählung des Lastgenerators."""
    names = list(admin.servers(folder))
    admin.settle(folder)
    command = [sys.executable, "-m", "examples.load_balancing.load", url, "--rate", str(rate)]
    load = subprocess.Popen([*command, *LIMITS], stdout=subprocess.PIPE, encoding="utf-8")
    try:
        answered = sum(server["requests"] for server in admin.servers(folder).values())
        admin.wait_until(
            lambda: sum(s["requests"] for s in admin.servers(folder).values()) > answered + rate,
            "die Last läuft",
        )
        for name in names if fault in ("drain", "abrupt") else names[1:2]:
            drain(folder, name) if fault == "drain" else crash(folder, name)
        time.sleep(0.5)
    finally:
        load.terminate()  # der Lastgenerator zählt zu Ende und meldet, was war
        report, _ = load.communicate(timeout=30)
    return json.loads(report)


def main() -> None:
    """Zeigt das Ergebnis als JSON."""
    parser = argparse.ArgumentParser(description="Unter Last stören und zählen")
    parser.add_argument("folder", type=Path)
    parser.add_argument("url", type=http_address)
    parser.add_argument("fault", choices=("crash", "drain", "abrupt"))
    options = parser.parse_args()
    try:
        print(json.dumps(run(options.fault, options.folder, options.url, rate=40)))
    except admin.AdminError as error:
        sys.exit(f"Fehler: {error}")


if __name__ == "__main__":
    main()
