"""Die Zielumgebung: Je Platz läuft, was in STATE/<platz>.json steht, und sonst nichts.

Wer ausrollt, ändert nur die Datei; gestartet, ersetzt und neu gestartet wird hier.
Eine Datei nennt {"image": "…@sha256:…"} oder, ohne Docker, {"model": "ORDNER", "app": "…"}.

Starten: python -m examples.ci_cd_pipeline.slots STATE --slot production=8236 --slot staging=8237
SIGTERM beendet auch alles, was auf den Plätzen läuft.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from examples.ab_test.options import port

PREFIX = "ci-cd"
RESTART_SECONDS = 1.0
APP = "examples.fastapi_service.app:app"
# Nichts beschreibbar, keine Sonderrechte: wie im Kapitel über Docker.
RUN = [
    *("docker", "run", "--rm", "--read-only", "--cap-drop", "ALL"),
    *("--security-opt", "no-new-privileges", "--memory", "256m"),
]


def command(name: str, port: int, wanted: dict) -> tuple[list[str], dict]:
    """Der Befehl, der `wanted` auf einem Platz laufen lässt, und seine Umgebung."""
    # Ein Nullzeichen oder ein halbes Zeichen (\ud800) kann kein Prozess bekommen.
    if not all(isinstance(value, str) and value.isprintable() for value in wanted.values()):
        raise TypeError("Alle Angaben zu einem Platz sind Texte.")
    if "image" in wanted:
        publish = ["--name", f"{PREFIX}-{name}", "--publish", f"127.0.0.1:{port}:8000"]
        return [*RUN, *publish, wanted["image"]], {}
    app = wanted.get("app", APP)
    serve = [sys.executable, "-m", "uvicorn", app, "--port", str(port), "--log-level", "warning"]
    return serve, {"PRICE_MODEL_DIR": wanted["model"]}


class Slot:
    """Ein Platz: ein Port, auf dem höchstens ein Dienst läuft."""

    def __init__(self, name: str, port: int, state: Path) -> None:
        self.name, self.port, self.file = name, port, state / f"{name}.json"
        self.running: dict | None = None
        self.process: subprocess.Popen | None = None

    def reconcile(self) -> None:
        """Gleicht ab: Was nicht in der Datei steht, endet; was darin steht, läuft."""
        wanted = self.wanted()
        dead = self.process is not None and self.process.poll() is not None
        if wanted == self.running and not dead:
            return
        try:
            # Zuerst der Befehl: Was keiner ist, beendet nicht, was läuft, und keinen anderen Platz.
            ready = command(self.name, self.port, wanted) if wanted is not None else None
        except (KeyError, TypeError, AttributeError):
            return
        self.stop()
        self.running = wanted
        if ready:
            words, env = ready
            try:
                self.process = subprocess.Popen(words, env={**os.environ, **env})
            except OSError as error:
                print(f"{self.name} startet nicht: {type(error).__name__}", file=sys.stderr)

    def wanted(self) -> dict | None:
        """Liest die Datei; was unlesbar ist, ändert nichts."""
        try:
            return json.loads(self.file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RecursionError):  # auch zu tiefe Klammern
            return self.running

    def stop(self) -> None:
        """Beendet, was hier läuft, erst höflich."""
        if self.process is not None and self.process.poll() is None:
            if os.name == "nt" and "image" in (self.running or {}):
                # Dort gibt der Client kein Signal weiter, und der Container liefe weiter.
                subprocess.run(["docker", "stop", f"{PREFIX}-{self.name}"], capture_output=True)
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                if "image" in (self.running or {}):
                    # Das trifft nur den Client; der Container hielte Namen und Port.
                    remove = ["docker", "rm", "--force", f"{PREFIX}-{self.name}"]
                    subprocess.run(remove, capture_output=True)
        self.process = None


def slot(text: str) -> tuple[str, int]:
    """Liest NAME=PORT."""
    name, _, number = text.partition("=")
    if not name.isalpha() or not number.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} ist nicht NAME=PORT.")
    return name, port(number)


def main() -> int:
    """Gleicht ab, bis SIGTERM kommt."""
    parser = argparse.ArgumentParser(description="Die Zielumgebung.")
    parser.add_argument("state", type=Path, help="Ordner mit <platz>.json")
    parser.add_argument("--slot", type=slot, action="append", required=True, help="NAME=PORT")
    options = parser.parse_args()
    options.state.mkdir(parents=True, exist_ok=True)
    slots = [Slot(name, port, options.state) for name, port in options.slot]
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    signal.signal(signal.SIGINT, lambda *_: ended.set())
    try:
        while not ended.is_set():
            crashed = any(s.process is not None and s.process.poll() is not None for s in slots)
            # Was sofort wieder stirbt, soll den Rechner nicht beschäftigen.
            ended.wait(RESTART_SECONDS if crashed else 0.1)
            for each in [] if ended.is_set() else slots:
                each.reconcile()
    finally:
        for each in slots:
            each.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
