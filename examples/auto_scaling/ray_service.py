"""Der Preisdienst auf Ray Serve: ein eigener kleiner Cluster, Replikate nach Warteschlange.

Starten: python -m examples.auto_scaling.ray_service --port 8171
Mit --trace DATEI schreibt er mit, wie viele Replikate laufen; braucht die Umgebung des Kapitels.
"""

import argparse
import asyncio
import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from examples.ab_test.options import port
from examples.price_model.predict import ModelMissingError, load_metadata

ROOT = Path(__file__).resolve().parents[2]
NAME = "price"
CPUS = 2
OBJECT_STORE_BYTES = 80 * 1024 * 1024
TRACE_SECONDS = 0.5
ATTEMPTS = 3
# Der Weg zu einem Unix-Socket hat höchstens 107 Zeichen; Ray hängt selbst gut 60 an.
SHORT_FOLDER = "/tmp" if os.path.isdir("/tmp") else None
# Ein Replikat belegt ein Fünftel Kern; gezählt werden wartende und laufende Anfragen.
REPLICA_CPUS = 0.2
AUTOSCALING = {
    "min_replicas": 1,
    "max_replicas": 4,
    "target_ongoing_requests": 2,
    # Die Vorgaben, 30 s hinauf und 600 s hinunter, gelten dem Betrieb; hier soll es schnell gehen.
    "metrics_interval_s": 0.5,
    "look_back_period_s": 2,
    "upscale_delay_s": 2,
    "downscale_delay_s": 8,
}
SETTINGS = {
    # Sonst meldet Ray seinem Hersteller, wie es benutzt wird, ebenso onnxruntime.
    "RAY_USAGE_STATS_ENABLED": "0",
    "ORT_DISABLE_TELEMETRY": "1",
    # Auch unter Linux nur Loopback; die Vorgabe wäre die Adresse im Netz, Metriken auf allen.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_enable_metrics_collection": "0",
    # Nur wer das Token kennt, darf dem Cluster Code schicken; es bleibt im Speicher.
    "RAY_AUTH_MODE": "token",
    # Die Vorgabe von 10 s gälte auch für einen schnellen Autoscaler.
    "RAY_SERVE_HANDLE_AUTOSCALING_METRIC_PUSH_INTERVAL_S": "0.5",
    # Sonst steht nach jedem SIGTERM ein Stapel von Adressen im Log.
    "RAY_DISABLE_FAILURE_SIGNAL_HANDLER": "1",
    # Die Arbeitsprozesse finden damit die Module des Projekts.
    "PYTHONPATH": str(ROOT),
}


def build_app():
    """Gibt in jedem Replikat die Anwendung des Kapitels FastAPI zurück, unverändert."""
    from ray import serve
    from ray.serve._private import replica

    # Fest verdrahtet öffnet jedes Replikat einen Port auf allen Adressen; er nimmt pickle an.
    open_port = replica.add_port_to_grpc_server
    replica.add_port_to_grpc_server = lambda server, _: open_port(server, "127.0.0.1:0")
    os.environ["SERVED_BY"] = serve.get_replica_context().replica_id.unique_id
    from examples.fastapi_service.metered import app

    return app


class PriceService:
    """Ein Replikat; Ray Serve schickt ihm Anfragen, sobald `check_health` gelingt."""

    async def check_health(self) -> None:
        """Wartet auf das Modell: Nach /health/ready fragt Ray Serve nicht."""
        from examples.fastapi_service.metered import app

        for _ in range(1000):
            if getattr(app.state, "model", None):
                return
            await asyncio.sleep(0.01)
        raise RuntimeError(app.state.waiting_for)


def start_cluster(folder: str) -> None:
    """Startet einen Cluster auf diesem Rechner; ist er stark belastet, mit weiteren Versuchen."""
    import ray

    for attempt in range(1, ATTEMPTS + 1):
        try:
            ray.init(
                num_cpus=CPUS,
                object_store_memory=OBJECT_STORE_BYTES,
                include_dashboard=False,
                log_to_driver=False,
                logging_level="warning",
                _node_ip_address="127.0.0.1",
                _temp_dir=folder,
            )
            return
        except Exception as error:
            # Ray gibt sich selbst 30 s; was dabei liegen bleibt, beendet am Ende der Wächter.
            if attempt == ATTEMPTS:
                sys.exit(f"Der Cluster kam nicht hoch: {error}")


def start(port: int, folder: str) -> None:
    """Startet Cluster und Dienst; kehrt zurück, wenn ein Replikat antworten kann."""
    from ray import serve

    start_cluster(folder)
    # Erst hier: ray.init setzt eine eigene Behandlung.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    deployment = serve.deployment(
        serve.ingress(build_app)(PriceService),
        name=NAME,
        autoscaling_config=AUTOSCALING,
        ray_actor_options={"num_cpus": REPLICA_CPUS},
        # Was darüber hinausgeht, wartet vor den Replikaten und zählt für den Autoscaler mit.
        max_ongoing_requests=2,
    )
    serve.run(deployment.bind(), name=NAME)


def stop() -> None:
    """Lässt laufende Anfragen zu Ende bringen und fährt den Cluster herunter."""
    import ray
    from ray import serve

    if ray.is_initialized():
        serve.shutdown()
        ray.shutdown()


def replicas() -> dict[str, int]:
    """Zählt die Replikate, die laufen, starten und enden."""
    from ray import serve

    status = serve.status().applications[NAME].deployments[NAME]
    states = {str(state): count for state, count in status.replica_states.items()}
    return {name: states.get(name.upper(), 0) for name in ("running", "starting", "stopping")}


def cpu_seconds() -> dict[int, float]:
    """Gibt die Rechenzeit je Prozess eines Replikats zurück; wer schon beendet ist, fehlt."""
    seconds = {}
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error, IndexError):
            if process.cmdline()[0].startswith(f"ray::ServeReplica:{NAME}"):
                seconds[process.pid] = round(sum(process.cpu_times()[:2]), 2)
    return seconds


def watch(trace: Path | None) -> None:
    """Wartet auf das Ende und schreibt dabei die Spur: Sekunden, Replikate, Rechenzeit."""
    started = time.monotonic()
    with trace.open("w", encoding="utf-8", buffering=1) if trace else contextlib.nullcontext() as f:
        while True:
            if f:
                seconds = round(time.monotonic() - started, 2)
                line = {"seconds": seconds, **replicas(), "cpu_seconds": cpu_seconds()}
                f.write(json.dumps(line) + "\n")
            time.sleep(TRACE_SECONDS)


def guard(folder: str) -> subprocess.Popen:
    """Startet den Wächter; er beendet den Cluster, sobald dieser Prozess endet."""
    command = [sys.executable, "-m", "examples.auto_scaling.guard", folder, str(os.getpid())]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    return subprocess.Popen(command, cwd=ROOT, start_new_session=True, **pipes)


def check(port: int, trace: Path | None) -> None:
    """Bricht mit einem deutschen Satz ab, bevor ein einziger Prozess von Ray läuft."""
    try:
        load_metadata()
    except ModelMissingError as error:
        sys.exit(str(error))
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            sys.exit(f"Port {port} ist belegt: Läuft der Dienst schon?")
    if trace and not trace.parent.is_dir():
        sys.exit(f"Den Ordner für die Spur gibt es nicht: {trace.parent}")


def main() -> None:
    """Startet den Dienst und beendet ihn bei SIGTERM samt Cluster."""
    parser = argparse.ArgumentParser(description="Preisdienst auf Ray Serve")
    parser.add_argument("--port", type=port, default=8171)
    parser.add_argument("--trace", type=Path, help="Datei für die Spur der Replikate")
    options = parser.parse_args()
    check(options.port, options.trace)
    folder = tempfile.mkdtemp(prefix="ray-", dir=SHORT_FOLDER)
    os.environ |= SETTINGS | {"RAY_AUTH_TOKEN": secrets.token_hex(32)}
    watcher = guard(folder)
    try:
        start(options.port, folder)
        watch(options.trace)
    finally:
        stop()
        watcher.stdin.close()
        watcher.stdout.read()


if __name__ == "__main__":
    main()
