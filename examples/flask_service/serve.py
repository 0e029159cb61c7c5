"""Den Dienst unter waitress starten; läuft auf Linux, macOS und Windows.

Starten: python -m examples.flask_service.serve --port 8103
"""

import argparse
import signal
import sys

import waitress

from examples.flask_service.app import create_app

# waitress liest eine Anfrage ganz, bevor Flask sie sieht; die Vorgabe ist 1 GiB.
MAX_READ_BYTES = 1024 * 1024


def main() -> None:
    """Lauscht auf Loopback, bis ein Signal kommt; laufende Antworten gehen noch hinaus.

    Unter Windows gibt es dieses Signal nicht, und sie brechen ab.
    """
    parser = argparse.ArgumentParser(description="Preisdienst unter waitress")
    parser.add_argument("--port", type=int, default=8103)
    port = parser.parse_args().port
    if not 0 < port < 65536:
        parser.error(f"{port} ist kein Port von 1 bis 65535.")
    # waitress kennt SIGTERM nicht: ohne diese Zeile verlöre jeder Neustart laufende Antworten.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    app = create_app()
    try:
        waitress.serve(
            app,
            listen=f"127.0.0.1:{port}",
            threads=4,
            max_request_body_size=MAX_READ_BYTES,
        )
    except OSError as error:
        sys.exit(f"Port {port} lässt sich nicht öffnen: {error.strerror}.")


if __name__ == "__main__":
    main()
