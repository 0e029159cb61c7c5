"""Prozesse für die Notebooks: starten, abwarten, zeigen, beenden.

Jeder Dienst läuft unter einem Wächter in eigener Sitzung. Endet der Kernel, auch durch
SIGKILL, so reißt die Pipe zum Wächter, und dieser beendet den Dienst samt Kindern.
"""

from __future__ import annotations

import ast
import atexit
import contextlib
import http.client
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import textwrap
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import psutil

if TYPE_CHECKING:
    from IPython.display import Image, Markdown

ROOT = Path(__file__).resolve().parent.parent
GUARD = Path(__file__).with_name("guard.py")
LANGUAGES = {".py": "python", ".yml": "yaml", ".yaml": "yaml", ".json": "json", ".toml": "toml"}
# Das erste ist dasselbe ohne Fenster und braucht weit weniger Rechenzeit.
BROWSERS = (
    "chromium-headless-shell",
    "chromium",
    "chromium-browser",
    "google-chrome",
    "chrome",
    "msedge",
)
# Das sagt der Kernel dem Wächter, bevor er die Pipe schließt; wer stirbt, sagt nichts mehr.
STOP = b"stop"
# So lange darf ein abgebrochener Befehl noch aufräumen, etwa Container beenden.
TIDY_SECONDS = 20
# Der Wächter eines Befehls: Stirbt der Kernel zuerst, beendet er ihn und, außer unter Windows,
# seine Kinder. Windows kennt keine Prozessgruppen.
COMMAND_GUARD = f"""
import os, sys
if not sys.stdin.buffer.read():
    import time
    group = int(sys.argv[1])
    if not hasattr(os, "killpg"):
        sys.exit(os.kill(group, 9))
    os.killpg(group, {int(signal.SIGINT)})
    for _ in range({10 * TIDY_SECONDS}):
        os.killpg(group, 0)  # scheitert, sobald alle geendet sind
        time.sleep(0.1)
    os.killpg(group, 9)
"""
# Schulen stellen oft einen Proxy ein; was auf diesem Rechner läuft, liegt nicht dahinter.
# Beide Namen zugleich: Der kleine geht vor, und was nur im großen stand, gälte sonst nicht mehr.
_kept = f"{os.environ.get('no_proxy', '')},{os.environ.get('NO_PROXY', '')}".split(",")
_kept = [host for host in map(str.strip, _kept) if host]
if "*" not in _kept:  # das nimmt schon alles aus, aber nur, wenn es allein steht
    # Sonst gälte unter Windows und macOS der Proxy des Systems nicht mehr.
    for _scheme, _proxy in urllib.request.getproxies().items():
        if _scheme != "no":
            os.environ.setdefault(f"{_scheme}_proxy", _proxy)
    _kept = ",".join(dict.fromkeys([*_kept, "127.0.0.1", "localhost"]))
    os.environ.update(no_proxy=_kept, NO_PROXY=_kept)


class ProcessError(RuntimeError):
    """Ein Prozess ließ sich nicht starten oder endete mit einem Fehler."""


class Service:
    """Ein laufender Dienst; er endet mit `stop()` und spätestens mit dem Kernel."""

    def __init__(self, guard: subprocess.Popen, log: Path) -> None:
        self._guard, self._log = guard, log
        self._said: str | None = None  # was im Log stand, als der Dienst endete
        atexit.register(self.stop)

    def log(self, lines: int = 10) -> str:
        """Gibt die letzten Zeilen zurück, die der Dienst ausgegeben hat."""
        said = self._log.read_text("utf-8", "replace") if self._said is None else self._said
        return "\n".join(said.splitlines()[-lines:])

    def stop(self) -> None:
        """Beendet den Dienst samt Kindern; ein zweiter Aufruf tut nichts."""
        if not self._guard.stdin.closed:
            with contextlib.suppress(OSError):  # der Dienst kann schon von selbst geendet haben
                self._guard.stdin.write(STOP)
                self._guard.stdin.close()
        self._guard.wait()
        if self._said is None:
            # Nicht erst mit dem Kernel: Den beendet nbval mit SIGKILL, und die Datei bliebe.
            self._said = ""
            with contextlib.suppress(OSError):  # Windows löscht keine Datei, die noch offen ist
                self._said = self._log.read_text("utf-8", "replace")
                self._log.unlink()


def serve(
    command: list[str],
    url: str,
    timeout: float = 30,
    env: dict | None = None,
    workers: int = 1,
) -> Service:
    """Startet `command` im Projektordner und wartet, bis `url` mit 200 antwortet.

    „python“ meint das Python dieser Umgebung, „python:kapitel“ das eines Kapitels mit
    eigenem Lock; `timeout` zählt in Sekunden. Mit `workers` müssen so viele verschiedene
    Prozesse hinter `url` geantwortet haben: Sonst lädt der zweite noch, wenn der erste bereit
    ist. Ein belegter Port, ein vorzeitiges Ende und eine abgelaufene Zeit ergeben `ProcessError`.
    """
    with socket.socket() as probe:
        if probe.connect_ex((urlsplit(url).hostname, urlsplit(url).port)) == 0:
            raise ProcessError(f"Port {urlsplit(url).port} ist belegt: Läuft der Dienst schon?")
    called = _command(command)
    handle, log = tempfile.mkstemp(prefix="dienst-", suffix=".log")
    guard = subprocess.Popen(
        [sys.executable, GUARD, log, *called],
        cwd=ROOT,
        env=_environment(env),
        stdin=subprocess.PIPE,
        stdout=handle,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # sonst stirbt der Wächter mit der Prozessgruppe des Kernels
    )
    os.close(handle)
    service = Service(guard, Path(log))
    # Neu bei jedem Start: Das Zertifikat aus SSL_CERT_FILE kann eben erst entstanden sein.
    trusted = ssl.create_default_context() if url.startswith("https:") else None
    deadline = time.monotonic() + timeout
    answered: set[int] = set()
    try:
        while guard.poll() is None and time.monotonic() < deadline:
            try:
                if workers > 1:
                    answered |= _ready_worker(guard.pid, url)
                    if len(answered) == workers:
                        return service
                else:
                    with urllib.request.urlopen(url, timeout=2, context=trusted) as response:
                        if response.status == 200:
                            return service
            except (OSError, http.client.HTTPException):
                pass  # abgelehnt, zurückgesetzt oder noch 503: weiter warten
            time.sleep(0.05)
    except (
        BaseException
    ):  # auch „Kernel unterbrechen“: Danach hielte niemand den Dienst in der Hand
        service.stop()
        raise
    ended = guard.poll() is not None
    service.stop()
    late = f"mit {len(answered)} von {workers} Workern" if workers > 1 else "nicht"
    problem = "endete beim Start" if ended else f"war nach {timeout:g} s {late} bereit"
    raise ProcessError(f"Der Dienst {problem}. Zuletzt meldete er:\n{service.log()}")


def _ready_worker(guard: int, url: str) -> set[int]:
    """Gibt die Nummer des Prozesses zurück, der auf `url` mit 200 antwortet, sonst nichts."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=2)
    try:
        connection.request("GET", parts.path)
        ready = connection.getresponse().status == 200
        mine = connection.sock.getsockname()[1] if connection.sock else None
        # Wem das andere Ende der Verbindung gehört, weiß nur das Betriebssystem.
        return {
            member.pid
            for member in psutil.Process(guard).children(recursive=True)
            for other in (member.net_connections("tcp") if ready and mine else ())
            if other.raddr and other.raddr.port == mine
        }
    except psutil.Error:  # ein Kind endete gerade
        return set()
    finally:
        connection.close()


def output(command: list[str], timeout: float = 120, env: dict | None = None) -> str:
    """Führt `command` aus und gibt die Standardausgabe zurück; scheitert er, auch die Zelle."""
    done = _call(_command(command), timeout, env)
    if done.returncode:
        said = f"{done.stdout}{done.stderr}".strip()
        raise ProcessError(f"Befehl endete mit {done.returncode}:\n{said}")
    return done.stdout


def run(command: list[str], timeout: float = 120, env: dict | None = None) -> None:
    """Wie `output`, zeigt die Standardausgabe aber gleich an."""
    print(output(command, timeout, env), end="")


def show(path: str, name: str | None = None) -> Markdown:
    """Zeigt eine Datei des Projekts oder daraus eine Funktion, Klasse, Methode oder Zuweisung."""
    from IPython.display import Markdown

    text = (ROOT / path).read_text(encoding="utf-8")
    found = ast.parse(text) if name else None
    for part in name.split(".") if name else []:
        for node in getattr(found, "body", []):
            targets = getattr(node, "targets", [getattr(node, "target", None)])
            targets = [getattr(target, "id", "") for target in targets]
            if part in (getattr(node, "name", ""), *targets):
                found = node
                break
        else:
            raise LookupError(f"In {path} gibt es kein {name}.")
    if name:
        first = min([found, *getattr(found, "decorator_list", [])], key=lambda n: n.lineno).lineno
        text = textwrap.dedent("\n".join(text.splitlines()[first - 1 : found.end_lineno]))
    return Markdown(f"```{LANGUAGES.get(Path(path).suffix, 'text')}\n{text.rstrip()}\n```")


def screenshot(url: str, alt: str, width: int = 1000, height: int = 700) -> Image | Markdown:
    """Fotografiert `url` mit Chromium; `alt` sagt, was zu sehen ist.

    Ohne Browser erscheint ein Hinweis mit der Adresse.
    """
    from IPython.display import Image, Markdown

    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        return Markdown(f"Kein Chromium gefunden. Die laufende Seite zum Selbstöffnen: <{url}>")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        picture = Path(folder) / "page.png"
        options = ["--headless", "--disable-gpu", "--hide-scrollbars", "--no-first-run"]
        options += ["--disable-background-networking", f"--user-data-dir={folder}/profile"]
        options += [f"--window-size={width},{height}", f"--screenshot={picture}"]
        # Chromium verweigert root die Sandbox; in CI ist root üblich.
        options += ["--no-sandbox"] if getattr(os, "geteuid", lambda: 1)() == 0 else []
        budget = ["--virtual-time-budget=15000", "--lang=de"]
        with contextlib.suppress(subprocess.TimeoutExpired):
            _call([browser, *options, *budget, url], timeout=90)
        if not picture.exists():
            if os.environ.get("CI"):
                raise ProcessError("Der Browser schrieb kein Bild.")
            return Markdown(f"Der Browser schrieb kein Bild. Die Seite zum Selbstöffnen: <{url}>")
        return Image(picture.read_bytes(), format="png", width=width, alt=alt)


def _call(
    command: list[str], timeout: float, env: dict | None = None
) -> subprocess.CompletedProcess:
    """Wie `subprocess.run`; mit der Frist und mit dem Kernel enden auch die Kinder."""
    child = subprocess.Popen(
        command,
        cwd=ROOT,
        env=_environment(env),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        start_new_session=True,
    )
    # Ohne `site` (-S) startet Python in einem Bruchteil der Zeit.
    guard = subprocess.Popen(
        [sys.executable, "-ISc", COMMAND_GUARD, str(child.pid)],
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    with guard, child:
        try:
            said = child.communicate(timeout=timeout)
        except BaseException:  # auch „Kernel unterbrechen“
            _abort(child)
            raise
        finally:
            with contextlib.suppress(OSError):
                guard.stdin.write(STOP)
                guard.stdin.close()
    return subprocess.CompletedProcess(command, child.returncode, *said)


def _abort(child: subprocess.Popen) -> None:
    if not hasattr(os, "killpg"):
        return child.kill()
    with contextlib.suppress(ProcessLookupError):  # geendet und keine Kinder mehr
        os.killpg(child.pid, signal.SIGINT)  # Python räumt danach auf, nach SIGTERM nicht
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(TIDY_SECONDS)
        os.killpg(child.pid, signal.SIGKILL)


def _command(command: list[str]) -> list[str]:
    name, slug = command[0], command[0].removeprefix("python:")
    if slug != name:
        folder = ROOT / ".environments" / slug / ("Scripts" if os.name == "nt" else "bin")
        program = shutil.which("python", path=folder)
        if program is None:
            raise ProcessError(f"Es fehlt die Umgebung. Abhilfe: python tools/setup.py {slug}")
    else:
        # Auch Programme dieser Umgebung, wenn sie nicht aktiviert ist, etwa `hf`.
        path = _environment(None)["PATH"]
        program = sys.executable if name == "python" else shutil.which(name, path=path)
    if program is None:
        raise ProcessError(f"Das Programm {name} ist nicht installiert.")
    return [program, *map(str, command[1:])]


def _environment(env: dict | None) -> dict:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    fixed = {"PATH": path, "PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1", "NO_COLOR": "1"}
    given = {name: str(value) for name, value in (env or {}).items()}  # Windows nimmt nur Text
    return {**os.environ, **fixed, **given}
