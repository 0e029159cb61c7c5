"""Nutzer, die ununterbrochen nach Preisen fragen, und eine Adresse, unter der gezählt wird.

Starten: python -m examples.ci_cd_pipeline.users ROUTER --port 8239 --rate 40
GET / nennt gesendete, beantwortete und gescheiterte Fragen und welche Version geantwortet hat.
"""

import argparse
import json
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import cycle

import httpx

from examples.ab_test.options import above_zero, address, port
from examples.ab_test.traffic import visits

USERS = 500
counts: Counter = Counter(answered=0, failed=0)
versions: Counter = Counter()


def ask_forever(url: str, rate: float) -> None:
    """Fragt nacheinander, höchstens `rate`-mal je Sekunde; was kein Preis ist, ist gescheitert."""
    with httpx.Client(base_url=url, timeout=10, trust_env=False) as client:
        for visit in cycle(visits(USERS, 4, seed=0)):
            due = time.monotonic() + 1 / rate
            try:
                headers = {"X-User-ID": visit["user"]}
                response = client.post("/predict", json=visit["stone"], headers=headers)
                version = response.raise_for_status().json()["model_version"]
            except (httpx.HTTPError, ValueError, KeyError):
                counts["failed"] += 1
            else:
                counts["answered"] += 1
                versions[version] += 1
            time.sleep(max(0.0, due - time.monotonic()))


class Counted(BaseHTTPRequestHandler):
    """Zeigt die Zähler."""

    def do_GET(self) -> None:
        """Antwortet mit den Zählern als JSON."""
        answered, failed = counts["answered"], counts["failed"]
        seen = {"sent": answered + failed, "answered": answered, "failed": failed}
        body = json.dumps(seen | {"by_version": dict(sorted(versions.items()))}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Schreibt nichts mit."""


def main() -> None:
    """Fragt im Hintergrund und zeigt die Zähler, bis der Prozess endet."""
    parser = argparse.ArgumentParser(description="Nutzer, die ununterbrochen fragen.")
    parser.add_argument("router", type=address, help="Adresse, die sie fragen")
    parser.add_argument("--port", type=port, default=8239, help="hier stehen die Zähler")
    parser.add_argument(
        "--rate", type=above_zero(float), default=40, help="höchstens so oft je Sekunde"
    )
    options = parser.parse_args()
    try:
        server = ThreadingHTTPServer(("127.0.0.1", options.port), Counted)
    except OSError as error:
        sys.exit(f"Port {options.port} lässt sich nicht öffnen: {error.strerror}.")
    arguments = (options.router, options.rate)
    threading.Thread(target=ask_forever, args=arguments, daemon=True).start()
    server.serve_forever()


if __name__ == "__main__":
    main()
