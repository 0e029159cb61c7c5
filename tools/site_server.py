"""Das gebaute Buch auf diesem Rechner ausliefern: python tools/site_server.py [--port 8000].

Mit gzip und einer Content-Security-Policy, die alles Fremde verbietet: so sieht ein Fehler
schon hier wie auf einem streng eingestellten Webserver aus.
"""

import argparse
import mimetypes
import socket
import sys
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SITE = Path(__file__).resolve().parent.parent / "_build" / "html"
HOST = "127.0.0.1"
HEADERS = [
    # 'unsafe-inline': Sphinx, Theme und die Tabellen von pandas betten Skripte und Stile ein;
    # 'wasm-unsafe-eval': der Preisrechner rechnet damit.
    (
        b"content-security-policy",
        b"default-src 'self'; "
        b"script-src 'self' 'unsafe-inline' 'wasm-unsafe-eval'; "
        b"style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        b"object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    # Nach einem neuen Bau soll die Seite nie veraltet sein; unverändert heißt 304.
    (b"cache-control", b"no-cache"),
]

# Unter Windows kommen die Typen aus der Registry, und dort gilt ein Skript oft als bloßer Text.
TYPES = {
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
    ".json": "application/json",
    ".wasm": "application/wasm",
}
for ending, kind in TYPES.items():
    mimetypes.add_type(kind, ending)


class Headers:
    """Setzt die Kopfzeilen an jeder Antwort."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Ergänzt die Kopfzeilen, sobald die Antwort beginnt."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *HEADERS]
            await send(message)

        await self.app(scope, receive, send_with_headers)


def build_app(site: Path) -> Starlette:
    """Gibt die Anwendung zurück, die den Ordner ausliefert; Unbekanntes beantwortet 404.html."""
    return Starlette(
        routes=[Mount("/", StaticFiles(directory=site, html=True))],
        middleware=[Middleware(Headers), Middleware(GZipMiddleware, minimum_size=500)],
    )


def bind(port: int) -> socket.socket:
    """Belegt den Port, bevor der Server startet; 0 wählt einen freien.

    Raises:
        OSError: Der Port ist belegt.
    """
    # Mit Protokoll: sonst lässt asyncio Nagle an, und jede Antwort wartet 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    if sys.platform != "win32":
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((HOST, port))
    return listener


def main() -> None:
    """Startet den Server und nennt die Adresse."""
    parser = argparse.ArgumentParser(description="Das gebaute Buch ausliefern")
    parser.add_argument("--port", type=int, default=8000)
    port = parser.parse_args().port
    if not 0 < port < 65536:
        parser.error(f"{port} ist kein Port von 1 bis 65535.")
    if not (SITE / "index.html").exists():
        sys.exit("Das Buch ist noch nicht gebaut. Abhilfe: make book")
    try:
        listener = bind(port)
    except OSError:
        sys.exit(
            f"Port {port} ist belegt. "
            f"Abhilfe: make serve PORT={port + 1}, ohne make --port {port + 1}"
        )
    print(f"Das Buch: http://{HOST}:{port}/ (Ende mit Strg+C)", flush=True)
    server = uvicorn.Server(uvicorn.Config(build_app(SITE), log_level="warning"))
    server.run(sockets=[listener])


if __name__ == "__main__":
    main()
