"""Derselbe Preisdienst mit Log: je Anfrage eine Zeile, je bewertetem Stein eine weitere.

Starten: uvicorn examples.service_logging.logged:app --port 8215
PRICE_LOG nennt den Ordner, PRICE_LOG_LEVEL die Ebene, PRICE_LOG_KEY den Schlüssel der
Pseudonyme; PRICE_ACCESS_LEVEL=INFO schreibt auch das Zugriffslog von uvicorn mit.
"""

import os
from pathlib import Path

from examples.fastapi_service.app import app
from examples.service_logging.journal import configure
from examples.service_logging.middleware import RequestLog

FOLDER = Path(os.environ.get("PRICE_LOG", Path(__file__).parent / "artifacts" / "log"))

configure(FOLDER, os.environ.get("PRICE_LOG_LEVEL", "INFO"))
# Zuletzt hinzugefügt heißt außen: Auch was die Größengrenze abweist, steht im Log.
app.add_middleware(RequestLog)
