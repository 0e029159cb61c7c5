"""Den überwachten Dienst mit mehreren Workern starten, deren Metriken zusammengehören.

Aufruf: python -m examples.monitoring_alerting.serve --port 8225 --workers 4 [--log ORDNER]
"""

import argparse
import os
import signal
import sys
import tempfile
from pathlib import Path

import uvicorn

APPS = {
    "monitored": "examples.monitoring_alerting.monitored:app",
    "failing": "examples.monitoring_alerting.failing:app",
    "separate": "examples.fastapi_service.metered:app",
}


def main() -> None:
    """Läuft, bis ein Signal kommt; der gemeinsame Ordner ist bei jedem Start leer."""
    parser = argparse.ArgumentParser(description="Überwachter Preisdienst")
    parser.add_argument("--port", type=int, default=8225)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--app", choices=APPS, default="monitored")
    parser.add_argument("--log", type=Path, help="Ordner des Logs; sonst verschwindet es am Ende")
    options = parser.parse_args()
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
        uvicorn.run(
            APPS[options.app],
            port=options.port,
            workers=options.workers,
            access_log=False,
            log_level="warning",
        )


if __name__ == "__main__":
    main()
