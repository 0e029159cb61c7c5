"""Ein Replikat von Ray Serve unter Last mit SIGKILL beenden und zählen, was verloren geht.

Aufruf: python -m examples.auto_scaling.kill_replica http://127.0.0.1:8171 --seconds 6
Getroffen wird nur, was zum Cluster des Dienstes auf diesem Port gehört.
"""

import argparse
import json
import sys
import threading
from urllib.parse import urlsplit

import psutil

from examples.load_balancing.load import run, summary

REPLICA = "ray::ServeReplica:price"


def replicas(port: int) -> list[psutil.Process]:
    """Findet die Replikate des Dienstes: Geschwister des Prozesses, der auf `port` lauscht."""
    for process in psutil.process_iter(["name"]):
        if not process.info["name"].startswith("ray::"):
            continue
        listening = [c for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
        if port in (connection.laddr.port for connection in listening):
            family = process.parent().children()
            return [p for p in family if " ".join(p.cmdline()).startswith(REPLICA)]
    return []


def main() -> None:
    """Gibt Last, tötet in der Mitte ein Replikat und zeigt die Zählung als JSON."""
    parser = argparse.ArgumentParser(description="Ein Replikat unter Last beenden")
    parser.add_argument("url")
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--clients", type=int, default=8)
    options = parser.parse_args()
    found = replicas(urlsplit(options.url).port)
    if not found:
        sys.exit("Auf diesem Port läuft kein Dienst von Ray Serve.")
    killer = threading.Timer(options.seconds / 3, found[0].kill)
    killer.start()
    answers = run(options.url, options.seconds, clients=options.clients, max_requests=5000)
    killer.join()
    counted = summary(answers)
    kept = ("sent", "answered", "failed", "by_status", "p99_ms")
    print(json.dumps({"replicas": len(found)} | {name: counted[name] for name in kept}))


if __name__ == "__main__":
    main()
