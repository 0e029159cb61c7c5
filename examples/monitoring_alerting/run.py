"""Prometheus oder den Alertmanager mit der Konfiguration dieses Ordners starten.

`python -m examples.monitoring_alerting.run prometheus --port 8227 --speed 60` nimmt dazu
`--target price=127.0.0.1:8225` (mehrfach), `--alertmanager 127.0.0.1:8228` und `--rules DATEI`;
`python -m examples.monitoring_alerting.run alertmanager --port 8228 --speed 60` nimmt dazu
`--webhook http://127.0.0.1:8229`.
Daten und verkürzte Konfiguration liegen in einem Ordner, der am Ende verschwindet.
"""

import argparse
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from examples.ab_test.options import port
from examples.load_balancing.cluster import ClusterError, check_ports, watcher
from examples.monitoring_alerting.rules import RuleError, read, shorten

HERE = Path(__file__).parent
# Im Zeitraffer wird jede Sekunde abgeholt und ausgewertet, nie öfter.
FAST_INTERVAL = "1s"
STOP_SECONDS = 4
# Debian nennt das Programm anders als der Hersteller.
PROGRAMS = {
    "prometheus": ["prometheus"],
    "alertmanager": ["prometheus-alertmanager", "alertmanager"],
}


def program(what: str) -> str:
    """Findet das Programm oder sagt, woher es kommt."""
    found = next(filter(None, map(shutil.which, PROGRAMS[what])), None)
    if not found:
        raise RuleError(f"Es fehlt {what}. Abhilfe: sudo apt install {PROGRAMS[what][0]}")
    return found


def prometheus(options: argparse.Namespace, folder: Path) -> list[str]:
    """Schreibt die Konfiguration mit den gewünschten Zielen und gibt den Befehl zurück."""
    config = yaml.safe_load(read(HERE / "prometheus.yml"))
    (folder / "rules.yml").write_text(shorten(read(options.rules), options.speed), encoding="utf-8")
    if options.speed > 1:
        config["global"] = {"scrape_interval": FAST_INTERVAL, "evaluation_interval": FAST_INTERVAL}
    if options.target:
        targets = [entry.partition("=")[::2] for entry in options.target]
        config["scrape_configs"] = [
            {"job_name": name, "static_configs": [{"targets": [address]}]}
            for name, address in targets
        ]
    config["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] = [options.alertmanager]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    return [
        program("prometheus"),
        "--config.file=prometheus.yml",
        "--storage.tsdb.path=data",
        f"--web.listen-address=127.0.0.1:{options.port}",
        "--log.level=warn",
    ]


def alertmanager(options: argparse.Namespace, folder: Path) -> list[str]:
    """Schreibt die Konfiguration mit der gewünschten Adresse und gibt den Befehl zurück."""
    text = shorten(read(HERE / "alertmanager.yml"), options.speed)
    config = folder / "alertmanager.yml"
    config.write_text(text.replace("http://127.0.0.1:8229", options.webhook), encoding="utf-8")
    return [
        program("alertmanager"),
        "--config.file=alertmanager.yml",
        "--storage.path=data",
        f"--web.listen-address=127.0.0.1:{options.port}",
        # Leer: kein Verbund, also kein zweiter Port, der nach außen lauscht.
        "--cluster.listen-address=",
        "--log.level=warn",
    ]


def run(command: list[str], folder: Path) -> int:
    """Läuft im Ordner bis zu einem Signal oder seinem Ende; auch nach kill -9 bleibt nichts."""
    guard = watcher()
    child = None
    try:
        child = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, process_group=guard.pid
        )
        return child.wait()
    finally:
        if child:
            child.terminate()
            try:
                child.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
        guard.stdin.close()
        guard.wait()


def main() -> int:
    """Startet das gewünschte Programm."""
    parser = argparse.ArgumentParser(description="Prometheus oder Alertmanager starten")
    what = parser.add_subparsers(dest="what", required=True)
    first = what.add_parser("prometheus")
    first.add_argument("--port", type=port, default=8227)
    first.add_argument("--target", action="append", metavar="JOB=ADRESSE", default=[])
    first.add_argument("--alertmanager", default="127.0.0.1:8228")
    first.add_argument("--rules", type=Path, default=HERE / "rules.yml")
    second = what.add_parser("alertmanager")
    second.add_argument("--port", type=port, default=8228)
    second.add_argument("--webhook", default="http://127.0.0.1:8229")
    for each in (first, second):
        each.add_argument("--speed", type=float, default=1, help="60: aus Minuten werden Sekunden")
    options = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit())
    prepare = {"prometheus": prometheus, "alertmanager": alertmanager}[options.what]
    try:
        if wrong := [entry for entry in getattr(options, "target", []) if "=" not in entry]:
            raise RuleError(f"{wrong[0]!r} hat nicht die Form JOB=ADRESSE.")
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            command = prepare(options, Path(folder))
            check_ports([options.port])
            return run(command, Path(folder))
    except RuleError as error:
        print(f"Fehler: {error}", file=sys.stderr)
    except ClusterError:
        print(f"Fehler: Port {options.port} ist belegt.", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
