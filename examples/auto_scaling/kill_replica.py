"""Ein Replikat von Ray Serve unter Last mit SIGKILL beenden und zählen, was verloren geht.

Aufruf: python -m examples.auto_scaling.kill_replica http://127.0.0.1:8171 [--attempts 2]
Getroffen wird nur, was zum Cluster des Dienstes auf diesem Port gehört.
"""

import argparse
import json
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import psutil

from examples.load_balancing.load import Client, http_address

REPLICA = "ray::ServeReplica:price"
CLIENTS = 8
MAX_REQUESTS = 5000
LIMIT_SECONDS = 50
SECONDS_AFTERWARDS = 4  # so lange nach dem Ende des Replikats noch Last


def replicas(port: int) -> list[psutil.Process]:
    """Findet die Replikate des Dienstes: Geschwister des Prozesses, der auf `port` lauscht."""
    for process in psutil.process_iter():
        try:
            ports = [
                connection.laddr.port
                for connection in process.net_connections("tcp")
                if connection.status == psutil.CONN_LISTEN
            ]
            if port in ports:
                family = process.parent().children()
                return [p for p in family if " ".join(p.cmdline()).startswith(REPLICA)]
        except psutil.Error:
            continue
    return []


def ask(client: Client, attempts: int) -> str:
    """Fragt, bei einem Fehler bis zu `attempts` Mal; /predict verändert nichts und darf das."""
    for _ in range(attempts):
        result, _ = client.ask()
        if result == "200":
            break
    return result


def load(url: str, ended: threading.Event, attempts: int) -> Counter:
    """Gibt Last, bis `ended` eintritt oder genug gefragt ist; zählt nach dem Ergebnis."""

    def work(_: int) -> Counter:
        client, results = Client(url, timeout=60, keep=True), Counter()
        while not ended.is_set() and results.total() < MAX_REQUESTS / CLIENTS:
            results[ask(client, attempts)] += 1
        client.close()
        return results

    with ThreadPoolExecutor(CLIENTS) as pool:
        return sum(pool.map(work, range(CLIENTS)), Counter())


def kill_one(port: int) -> int:
    """Wartet auf ein zweites Replikat und tötet dann eines; gibt zurück, wie viele liefen."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while len(found := replicas(port)) < 2 and time.monotonic() < deadline:
        time.sleep(0.5)
    if found:
        found[0].kill()
    return len(found)


def main() -> None:
    """Gibt Last, tötet dabei ein Replikat und zeigt die Zählung als JSON."""
    parser = argparse.ArgumentParser(description="Ein Replikat unter Last beenden")
    parser.add_argument("url", type=http_address)
    parser.add_argument("--attempts", type=int, default=1, help="Versuche je Frage")
    options = parser.parse_args()
    if options.attempts < 1:
        parser.error("Versuche zählen ab eins.")
    port = urlsplit(options.url).port
    if not replicas(port):
        sys.exit("Auf diesem Port läuft kein Dienst von Ray Serve.")
    ended = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(load, options.url, ended, options.attempts)
        time.sleep(1)
        running = kill_one(port)
        time.sleep(SECONDS_AFTERWARDS)
        ended.set()
        results = loading.result()
    failed = {result: count for result, count in sorted(results.items()) if result != "200"}
    counted = {"sent": results.total(), "answered": results["200"], "failed": sum(failed.values())}
    print(json.dumps({"replicas": running} | counted | {"errors": failed}))


if __name__ == "__main__":
    main()
