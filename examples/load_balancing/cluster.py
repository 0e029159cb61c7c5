"""Mehrere Prozesse des Preisdienstes und HAProxy davor, als ein Dienst (Linux, macOS).

Starten: python -m examples.load_balancing.cluster ORDNER [--slow s4=2] [--broken s4]
Im Ordner liegen danach `admin.sock` und `workers.json`. Ports und Strategie stehen in der
Umgebung: `PORT`, `PORT_1` bis `PORT_4`, `POLICY` und was `haproxy.cfg` sonst noch liest.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from examples.price_model.predict import ARTIFACTS, ModelMissingError, load_metadata

HERE = Path(__file__).parent
FIRST_PORTS = {"haproxy.cfg": (8162, 8163, 8164, 8165), "sticky.cfg": (8167, 8168)}
START_SECONDS = 110
STOP_SECONDS = 3
RESTART_SECONDS = 0.5
# Das Backend hält Verbindungen länger offen als HAProxy: Sonst legt es auf, während dieser fragt.
METERED = (
    "{python} -m uvicorn examples.fastapi_service.metered:app --port {port}"
    " --no-access-log --timeout-keep-alive 60"
)


class ClusterError(RuntimeError):
    """Der Verbund ließ sich nicht starten oder ist zerbrochen."""


def chosen(variable: str, default: int) -> int:
    """Liest einen Port aus der Umgebung."""
    text = os.environ.get(variable, str(default))
    if not (text.isdecimal() and 0 < int(text) < 65536):
        raise ClusterError(f"{variable}={text} ist kein Port von 1 bis 65535.")
    return int(text)


class Cluster:
    """Startet die Prozesse, ersetzt gestorbene und beendet alle; ein Kontextmanager."""

    def __init__(
        self, folder: Path, config: str, command: str, ready: str, workers_only: bool
    ) -> None:
        self.folder, self.config = folder.resolve(), HERE / config
        self.command, self.ready, self.workers_only = command, ready, workers_only
        # Die Vorgaben sind dieselben wie in der Konfiguration von HAProxy.
        self.ports = {
            f"s{n}": chosen(f"PORT_{n}", port)
            for n, port in enumerate(FIRST_PORTS[config], start=1)
        }
        self.settings: dict[str, dict[str, str]] = {name: {} for name in self.ports}
        self.broken: set[str] = set()
        self.workers: dict[str, subprocess.Popen] = {}
        self.haproxy: subprocess.Popen | None = None
        self.environment = {**os.environ, "ADMIN_SOCKET": str(self.folder / "admin.sock")}

    def __enter__(self) -> "Cluster":
        """Prüft, startet und wartet; scheitert etwas davon, bleibt kein Prozess übrig."""
        if not self.workers_only:
            self.check_config()
        check_ports([*self.ports.values(), *([] if self.workers_only else self.entrances())])
        self.watcher = watcher()
        try:
            for name in self.ports:
                self.start(name)
            self.wait_for(set(self.ports))
            if not self.workers_only:
                self.haproxy = self.child(["haproxy", "-db", "-f", self.config], self.environment)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Beendet alles, was hier gestartet wurde."""
        self.stop()

    def entrances(self) -> list[int]:
        """Die Ports, auf denen HAProxy selbst lauscht."""
        entrances = [int(os.environ.get("PORT", 8161))]
        if self.config.name == "haproxy.cfg":
            entrances.append(int(os.environ.get("TCP_PORT", 8166)))
        return entrances

    def check_config(self) -> None:
        """Lässt HAProxy seine Konfiguration lesen, bevor irgendetwas startet."""
        if not shutil.which("haproxy"):
            raise ClusterError(
                "Es fehlt HAProxy. Abhilfe: sudo apt install haproxy · macOS: brew install haproxy"
            )
        check = ["haproxy", "-c", "-f", self.config]
        done = subprocess.run(check, env=self.environment, capture_output=True, text=True)
        if done.returncode:
            found = re.search(r":(\d+)\] : (.+)", done.stderr)
            where = f"Zeile {found[1]}: {found[2]}" if found else done.stderr.strip()
            raise ClusterError(f"HAProxy lehnt {self.config.name} ab, {where}")

    def child(self, command: list, environment: dict) -> subprocess.Popen:
        """Startet einen Prozess in der Gruppe des Aufpassers."""
        return subprocess.Popen(
            list(map(str, command)),
            env=environment,
            stdin=subprocess.DEVNULL,
            process_group=self.watcher.pid,
        )

    def start(self, name: str) -> None:
        """Startet ein Backend und schreibt auf, welche Prozessnummer es hat."""
        words = [
            word.format(python=sys.executable, port=self.ports[name])
            for word in self.command.split()
        ]
        environment = {**os.environ, "SERVED_BY": name, **self.settings[name]}
        self.workers[name] = self.child(words, environment)
        state = {
            n: {"pid": worker.pid, "ready": f"http://127.0.0.1:{self.ports[n]}{self.ready}"}
            for n, worker in self.workers.items()
        }
        unfinished = self.folder / "workers.json.new"
        unfinished.write_text(json.dumps(state), encoding="utf-8")
        unfinished.replace(self.folder / "workers.json")

    def wait_for(self, waiting: set[str]) -> None:
        """Wartet, bis Backends bereit sind; ein absichtlich kaputtes muss nur antworten."""
        deadline = time.monotonic() + START_SECONDS
        while waiting:
            for name in sorted(waiting):
                if self.workers[name].poll() is not None:
                    raise ClusterError(f"Das Backend {name} endete beim Start.")
                status = ask_status(f"http://127.0.0.1:{self.ports[name]}{self.ready}")
                if status == 200 or (status and name in self.broken):
                    waiting.remove(name)
            if time.monotonic() > deadline:
                late = ", ".join(sorted(waiting))
                raise ClusterError(f"Nach {START_SECONDS} s nicht bereit: {late}.")
            time.sleep(0.05)

    def supervise(self) -> None:
        """Ersetzt Backends, die enden; endet HAProxy, so endet der Verbund."""
        while self.haproxy is None or self.haproxy.poll() is None:
            for name, worker in list(self.workers.items()):
                if worker.poll() is not None:
                    self.start(name)
            # Auch wer beim Start stirbt, wird höchstens zweimal je Sekunde ersetzt.
            time.sleep(RESTART_SECONDS)
        raise ClusterError(f"HAProxy endete mit {self.haproxy.returncode}.")

    def stop(self) -> None:
        """Erst HAProxy, damit niemand mehr fragt, dann die Backends, zuletzt mit Gewalt."""
        running = [self.haproxy] if self.haproxy else []
        for group in (running, list(self.workers.values())):
            for process in group:
                process.terminate()
            deadline = time.monotonic() + STOP_SECONDS
            for process in group:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(max(0, deadline - time.monotonic()))
        self.watcher.stdin.close()
        self.watcher.wait()
        for process in [*running, *self.workers.values()]:
            process.wait()


def watcher() -> subprocess.Popen:
    """Ein Aufpasser: Reißt die Pipe zu diesem Prozess, beendet er seine ganze Gruppe.

    Nach kill -9 läuft hier kein Aufräumen mehr; die Pipe schließt das Betriebssystem.
    """
    return subprocess.Popen(
        ["/bin/sh", "-c", "read _; kill -9 0"], stdin=subprocess.PIPE, process_group=0
    )


def check_ports(ports: list[int]) -> None:
    """Bricht ab, bevor etwas startet, wenn ein Port belegt ist."""
    for port in ports:
        with socket.socket() as probe:
            # Wie die Server selbst: Verbindungen von eben zählen nicht als belegt.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                raise ClusterError(f"Port {port} ist belegt: Läuft der Verbund schon?") from None


def ask_status(url: str) -> int | None:
    """Gibt den Status einer Antwort zurück, ohne Antwort nichts."""
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return response.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


def damaged_model(folder: Path) -> Path:
    """Legt ein Modell ab, dessen Datei mitten im Kopieren abbrach."""
    damaged = folder / "damaged"
    damaged.mkdir(exist_ok=True)
    shutil.copy(ARTIFACTS / "metadata.json", damaged)
    model = (ARTIFACTS / "price_model.onnx").read_bytes()
    (damaged / "price_model.onnx").write_bytes(model[: len(model) // 2])
    return damaged


def parse_arguments() -> argparse.Namespace:
    """Liest die Kommandozeile."""
    parser = argparse.ArgumentParser(description="Preisdienste hinter HAProxy")
    parser.add_argument("folder", type=Path, help="für admin.sock und workers.json")
    parser.add_argument("--port", help="Port von HAProxy; Vorgabe: PORT oder 8161")
    parser.add_argument("--config", choices=FIRST_PORTS, default="haproxy.cfg")
    parser.add_argument("--command", default=METERED, help="startet ein Backend auf {port}")
    parser.add_argument("--ready", default="/health/ready")
    parser.add_argument("--workers-only", action="store_true", help="ohne HAProxy")
    parser.add_argument("--slow", metavar="NAME=SEKUNDEN", action="append", default=[])
    parser.add_argument("--broken", metavar="NAME", action="append", default=[])
    return parser.parse_args()


def main() -> None:
    """Läuft, bis ein Signal kommt."""
    options = parse_arguments()
    if options.port:
        os.environ["PORT"] = options.port
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit())
    try:
        if not options.folder.is_dir():
            raise ClusterError(f"Den Ordner {options.folder.name} gibt es nicht.")
        load_metadata()  # ohne Modell würde keines der Backends je bereit
        cluster = Cluster(
            options.folder, options.config, options.command, options.ready, options.workers_only
        )
        slow = dict(entry.partition("=")[::2] for entry in options.slow)
        if unknown := {*slow, *options.broken} - set(cluster.ports):
            raise ClusterError(f"Unbekanntes Backend: {', '.join(sorted(unknown))}")
        for name, seconds in slow.items():
            if not re.fullmatch(r"\d+(\.\d+)?", seconds):
                raise ClusterError(f"{seconds!r} ist keine Zahl von Sekunden.")
            cluster.settings[name]["PRICE_DELAY_SECONDS"] = seconds
        for name in options.broken:
            cluster.broken.add(name)
            cluster.settings[name]["PRICE_MODEL_DIR"] = str(damaged_model(options.folder))
        with cluster:
            cluster.supervise()
    except (ClusterError, ModelMissingError) as error:
        sys.exit(f"Fehler: {error}")


if __name__ == "__main__":
    main()
