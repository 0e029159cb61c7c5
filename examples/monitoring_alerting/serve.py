"""Den überwachten Dienst mit mehreren Workern starten, deren Metriken zusammengehören.

Aufruf: python -m examples.monitoring_alerting.serve --port 8225 --workers 4 [--log ORDNER]
"""

import argparse
import os
import secrets
import signal
import socket
import sys
import tempfile
from pathlib import Path

import uvicorn
from uvicorn.supervisors import Multiprocess

APPS = {
    "monitored": "examples.monitoring_alerting.monitored:app",
    "failing": "examples.monitoring_alerting.failing:app",
    "separate": "examples.fastapi_service.metered:app",
}


class Config(uvicorn.Config):
    """Wie uvicorn, aber auch mehrere Worker antworten, ohne auf Bestätigungen zu warten."""

    def bind_socket(self) -> socket.socket:
        """Öffnet den Port; ohne das Protokoll schaltet asyncio den Nagle-Algorithmus nicht ab.

        https://github.com/Kludex/uvicorn/issues/3149
        """
        opened = super().bind_socket()
        return socket.socket(opened.family, opened.type, socket.IPPROTO_TCP, opened.detach())


def main() -> None:
    """Läuft, bis ein Signal kommt; der gemeinsame Ordner ist bei jedem Start leer."""
    parser = argparse.ArgumentParser(description="Überwachter Preisdienst")
    parser.add_argument("--port", type=int, default=8225)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--app", choices=APPS, default="monitored")
    parser.add_argument("--log", type=Path, help="Ordner des Logs; sonst verschwindet es am Ende")
    options = parser.parse_args()
    if not 0 < options.port < 65536:
        parser.error(f"{options.port} ist kein Port von 1 bis 65535.")
    if options.workers < 1:
        sys.exit("Es braucht mindestens einen Worker.")
    # Endet der Start vorzeitig, soll der Ordner trotzdem verschwinden.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    with tempfile.TemporaryDirectory(prefix="metriken-", ignore_cleanup_errors=True) as folder:
        # Vor dem ersten Import von prometheus_client, und so, dass die Worker es erben.
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        if options.app == "separate":
            del os.environ["PROMETHEUS_MULTIPROC_DIR"]
        os.environ["PRICE_LOG"] = str(options.log or Path(folder) / "log")
        # Sonst gäbe jeder Worker demselben Aufrufer ein anderes Pseudonym.
        os.environ.setdefault("PRICE_LOG_KEY", secrets.token_hex(32))
        config = Config(
            APPS[options.app],
            port=options.port,
            workers=options.workers,
            access_log=False,
            log_level="warning",
        )
        Multiprocess(config, sockets=[config.bind_socket()]).run()


if __name__ == "__main__":
    main()
