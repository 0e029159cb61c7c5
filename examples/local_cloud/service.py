"""Was die Nachbildungen gemeinsam haben: ein kleiner HTTP-Dienst und Kindprozesse.

Eine Plattform ist eine Unterklasse von `App`; jede Methode mit `@route` beantwortet einen
Aufruf. Gehört wird nur auf Loopback, und jeder Aufruf steht als Zeile in der Ausgabe.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote

HOST = "127.0.0.1"
ROOT = Path(__file__).resolve().parent.parent.parent
# Der Wächter der Notebooks: Reißt die Pipe zu ihm, so beendet er sein Kind und dessen Kinder.
# So endet ein Kind auch dann, wenn jemand diesen Dienst mit SIGKILL beendet.
GUARD = ROOT / "notebooks" / "guard.py"
MAX_BODY_BYTES = 100_000_000


class Fields(dict):
    """Ein JSON-Objekt, in dem ein fehlendes Feld eine Absage ist und kein Absturz."""

    def __missing__(self, name: str) -> None:
        raise Refusal(400, f"Es fehlt das Feld {name}.")


@dataclass
class Request:
    """Ein Aufruf; `args` sind die Teile der Adresse, die in der Route in Klammern stehen."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    args: dict[str, str] = field(default_factory=dict)

    def json(self) -> Fields:
        """Liest den Inhalt als JSON-Objekt; sonst `Refusal` mit 400."""
        try:
            content = json.loads(self.body, object_hook=Fields)
        except (ValueError, RecursionError):
            raise Refusal(400, "Der Inhalt ist kein gültiges JSON.") from None
        if not isinstance(content, dict):
            raise Refusal(400, "Erwartet wird ein JSON-Objekt.")
        return content


@dataclass
class Response:
    """Eine Antwort; alles außer Bytes wird zu JSON."""

    content: object = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    media_type: str = "application/json"

    def body(self) -> bytes:
        """Der Inhalt, wie er über die Leitung geht."""
        if isinstance(self.content, bytes):
            return self.content
        text = json.dumps(self.content, ensure_ascii=False)
        return text.encode(errors="backslashreplace")  # ein halbes Zeichen bleibt als \ud800


class Refusal(Exception):  # noqa: N818 – eine Absage ist kein Fehler des Dienstes
    """Der Aufruf wird abgelehnt; `code` ist das Fehlerwort der Plattform."""

    def __init__(self, status: int, message: str, code: str = "") -> None:
        super().__init__(message)
        self.status, self.message, self.code = status, message, code


def route(method: str, pattern: str) -> Callable:
    """Meldet eine Methode an: `{name}` ist ein Teil der Adresse, `{name:path}` der Rest.

    Alles andere im Muster ist ein regulärer Ausdruck; `GET` beantwortet auch `HEAD`.
    """
    regex = re.sub(r"\{(\w+):path\}", r"(?P<\1>.*)", pattern)
    regex = re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", regex))

    def mark(function: Callable) -> Callable:
        function.routes = [*getattr(function, "routes", []), (method, regex)]
        return function

    return mark


class App:
    """Eine Plattform: beantwortet angemeldete Aufrufe und lehnt alle anderen ab."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address = ""  # steht fest, sobald der Dienst hört
        self.children: list[Child] = []
        # In der Reihenfolge des Quelltexts: Die erste passende Route gilt.
        functions = [f for kind in reversed(type(self).__mro__) for f in vars(kind).values()]
        self._routes = [
            (method, regex, function)
            for function in functions
            for method, regex in getattr(function, "routes", [])
        ]

    def authorize(self, request: Request) -> None:
        """Lehnt Aufrufe ohne gültigen Schlüssel mit `Refusal` ab; hier darf jeder."""

    def refused(self, refusal: Refusal) -> Response:
        """Die Absage in der Form der Plattform."""
        return Response({"error": refusal.message}, refusal.status)

    def answer(self, request: Request) -> Response:
        """Sucht die passende Route; Absagen und Fehler werden zu Antworten."""
        if request.path == "/health/ready":
            return Response({"status": "ready"})
        try:
            self.authorize(request)
            for method, regex, function in self._routes:
                found = regex.fullmatch(request.path)
                if found and method == ("GET" if request.method == "HEAD" else request.method):
                    request.args = found.groupdict()
                    result = function(self, request)
                    return result if isinstance(result, Response) else Response(result)
            call = f"{request.method} {request.path}"
            return self.refused(Refusal(501, f"Nicht nachgebildet: {call}", "NotImplemented"))
        except Refusal as refusal:
            return self.refused(refusal)
        except Exception:  # der Aufrufer soll eine Antwort bekommen, die Ursache steht im Protokoll
            traceback.print_exc()
            return self.refused(Refusal(500, "In der Nachbildung ist ein Fehler aufgetreten."))

    def start(self, command: list[str], env: dict[str, str], cwd: Path = ROOT) -> Child:
        """Startet ein Kind, das spätestens mit diesem Dienst endet."""
        self.children.append(Child(command, env, cwd, self.folder))
        return self.children[-1]

    def stop(self) -> None:
        """Beendet alle Kinder, alle zugleich."""
        for child in self.children:
            child.stop(wait=False)
        for child in self.children:
            child.stop()


class Child:
    """Ein Kindprozess in eigener Sitzung, etwa der Container einer Plattform."""

    def __init__(self, command: list[str], env: dict[str, str], cwd: Path, logs: Path) -> None:
        with tempfile.NamedTemporaryFile(dir=logs, suffix=".log", delete=False) as log:
            self._log = Path(log.name)
            self._guard = subprocess.Popen(
                [sys.executable, GUARD, self._log, *map(str, command)],
                cwd=cwd,
                env=env,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def exit_code(self) -> int | None:
        """`None`, solange der Prozess läuft."""
        return self._guard.poll()

    def log(self) -> str:
        """Alles, was der Prozess bisher ausgegeben hat."""
        return self._log.read_text("utf-8", "replace")

    def answers(self, url: str, timeout: float = 60) -> bool:
        """Wartet, bis `url` mit 2xx antwortet; nein, wenn der Prozess vorher endet."""
        deadline = time.monotonic() + timeout
        while self.exit_code is None and time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(url, timeout=2):
                    return True
            except (OSError, urllib.error.URLError):  # abgelehnt oder noch 503
                time.sleep(0.05)
        return False

    def stop(self, wait: bool = True) -> None:
        """Beendet den Prozess samt Kindern; ein zweiter Aufruf tut nichts."""
        # Ohne ein Wort hielte der Wächter diesen Prozess für tot und löschte das Log.
        with contextlib.suppress(OSError, ValueError):  # schon geendet oder schon geschlossen
            self._guard.stdin.write(b"stop")
            self._guard.stdin.close()
        if wait:
            self._guard.wait()


def free_port() -> int:
    """Ein Port auf Loopback, den gerade niemand benutzt."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return probe.getsockname()[1]


def say(line: str) -> None:
    """Schreibt eine Zeile ins Protokoll, am Stück: Jede Verbindung hat einen eigenen Thread."""
    # Adressen nennt, wer anfragt: Ein Umbruch darin wäre eine zweite, erfundene Zeile.
    line = "".join(sign if sign.isprintable() else "?" for sign in line)
    print(f"{line}\n", end="", flush=True)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Kopf und Inhalt gehen einzeln hinaus; der zweite wartete sonst 40 ms auf eine Bestätigung.
    disable_nagle_algorithm = True
    app: App

    def _handle(self) -> None:
        path, _, parameters = self.path.partition("?")
        path = unquote(path)
        try:
            query = {name: values[-1] for name, values in parse_qs(parameters, True).items()}
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Request(self.command, path, query, headers, self._body())
            response = self.app.answer(request)
        except Refusal as refusal:
            response = self.app.refused(refusal)
            # Sonst hielte der Server, was vom Inhalt noch kommt, für die nächste Anfrage.
            self.close_connection = True
        # Ohne die Parameter: Darin stehen bei manchen Plattformen Schlüssel.
        say(f"{self.command} {path} {response.status}")
        content = response.body()
        self.send_response(response.status)
        self.send_header("Content-Type", response.media_type)
        self.send_header("Content-Length", str(len(content)))
        if self.close_connection:
            # Unangekündigt ginge die nächste Frage des Clients verloren.
            self.send_header("Connection", "close")
        for name, value in response.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self._read(_length(self.headers.get("Content-Length") or "0"))
        body = b""
        while size := _length(self.rfile.readline().split(b";")[0], 16, len(body)):
            body += self._read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _read(self, length: int) -> bytes:
        content = self.rfile.read(length)
        if len(content) < length:
            raise Refusal(400, "Der Inhalt kam nicht vollständig an.")
        return content

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _handle  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Eine eigene Zeile je Aufruf genügt."""


def _length(text: str | bytes, base: int = 10, before: int = 0) -> int:
    """Liest, wie viele Bytes noch kommen sollen; `before` sind schon da."""
    try:
        length = int(text, base)
    except ValueError:
        length = -1
    if length < 0:
        raise Refusal(400, "Die Länge des Inhalts ist keine Zahl ab 0.")
    if before + length > MAX_BODY_BYTES:
        raise Refusal(413, "Der Inhalt ist zu groß.")
    return length


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Schweigt, wenn ein Client mittendrin auflegt."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


def run(build: Callable[[Path], App], tls: ssl.SSLContext | None = None) -> None:
    """Startet die Plattform auf dem Port der Befehlszeile und beendet sie bei SIGTERM.

    Was sie speichert, liegt in einem Ordner, der mit ihr verschwindet, außer unter Windows.
    """
    parser = argparse.ArgumentParser(description="Nachbildung einer Plattform auf 127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_args().port
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    with tempfile.TemporaryDirectory(prefix="local-cloud-", ignore_cleanup_errors=True) as folder:
        app = build(Path(folder))
        try:
            server = _Server((HOST, port), type("Handler", (_Handler,), {"app": app}))
        except (OSError, OverflowError) as error:
            sys.exit(f"Port {port} lässt sich nicht öffnen: {error}")
        if tls:
            # Begrüßt wird im Thread der Verbindung: Wer schweigt, hält nur sich selbst auf.
            server.socket = tls.wrap_socket(
                server.socket, server_side=True, do_handshake_on_connect=False
            )
        app.address = f"{'https' if tls else 'http'}://{HOST}:{server.server_port}"
        try:
            server.serve_forever(poll_interval=0.1)
        except KeyboardInterrupt:
            pass
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # Aufräumen lässt sich nicht abbrechen
            app.stop()
