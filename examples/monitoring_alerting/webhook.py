"""Der Empfänger: schreibt je gemeldetem Alarm eine Zeile JSON in eine Datei.

Aufruf: python -m examples.monitoring_alerting.webhook DATEI --port 8229
Der Alertmanager schickt an /page, was jemanden weckt, und an /ticket, was warten kann.
"""

import argparse
import json
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from examples.ab_test.options import port

RECEIVERS = {"/page", "/ticket"}
MAX_BYTES = 1024 * 1024


def lines(receiver: str, message: dict) -> list[dict]:
    """Macht aus einer Meldung des Alertmanagers je Alarm einen Eintrag."""
    return [
        {
            "receiver": receiver,
            "status": alert["status"],
            "alert": alert["labels"]["alertname"],
            "grouped": len(message["alerts"]),
            "labels": alert["labels"],
            "annotations": alert["annotations"],
            "starts_at": alert["startsAt"],
            "ends_at": alert["endsAt"],
        }
        for alert in message["alerts"]
    ]


class Webhook(BaseHTTPRequestHandler):
    """Nimmt Meldungen an; geantwortet wird erst, wenn sie in der Datei stehen."""

    file: Path
    lock = threading.Lock()

    def do_GET(self) -> None:
        """Beantwortet den Health-Check."""
        self.answer(200 if self.path == "/health/ready" else 404)

    def do_POST(self) -> None:
        """Schreibt die Alarme auf; ohne 2xx versucht es der Alertmanager noch einmal."""
        try:
            size = int(self.headers.get("Content-Length", 0))
        except ValueError:
            return self.answer(400)
        if self.path not in RECEIVERS or not 0 <= size <= MAX_BYTES:
            self.close_connection = True
            return self.answer(404 if self.path not in RECEIVERS else 413)
        try:
            found = lines(self.path.strip("/"), json.loads(self.rfile.read(size)))
        except (ValueError, KeyError, TypeError, RecursionError):
            return self.answer(400)
        try:
            text = "".join(f"{json.dumps(line)}\n" for line in found).encode()
            with self.lock, open(self.file, "ab", buffering=0) as file:
                end = file.tell()
                # Auf voller Platte kommt nur der Anfang an; eine halbe Zeile verdirbt die nächste.
                if file.write(text) < len(text):
                    file.truncate(end)
                    raise OSError
        except OSError:
            return self.answer(503)
        self.answer(200)

    def answer(self, status: int) -> None:
        """Schickt eine leere Antwort."""
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Schweigt: Was ankam, steht in der Datei."""


def main() -> int:
    """Läuft, bis ein Signal kommt."""
    parser = argparse.ArgumentParser(description="Meldungen des Alertmanagers annehmen")
    parser.add_argument("file", type=Path, help="hier kommt je Alarm eine Zeile hinzu")
    parser.add_argument("--port", type=port, default=8229)
    options = parser.parse_args()
    try:
        options.file.touch()
        server = ThreadingHTTPServer(
            ("127.0.0.1", options.port), type("Bound", (Webhook,), {"file": options.file})
        )
    except OSError as error:
        what = f"Port {options.port} ist belegt" if error.filename is None else "Datei unbrauchbar"
        print(f"{what}: {error.strerror}", file=sys.stderr)
        return 1
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
    with server:
        server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
