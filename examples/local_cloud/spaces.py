"""Der Space-Runner: holt einen Commit, prüft die Karte und startet die Anwendung als Prozess.

Anders als auf dem Hub entsteht kein Container: Pakete werden nicht installiert, sondern nur
nachgesehen, und die Anwendung läuft mit dem Python dieser Umgebung.
"""

import os
import platform
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from examples.local_cloud.cards import WORDS, check
from examples.local_cloud.repositories import Repository
from examples.local_cloud.service import HOST, Child, free_port

START_SECONDS = 120
# Mehr sieht eine Anwendung von diesem Rechner nicht; Schlüssel der Nutzer schon gar nicht.
INHERITED = ("PATH", "SYSTEMROOT", "TMPDIR", "TEMP", "LANG", "LD_LIBRARY_PATH")


class Space:
    """Eine Anwendung und ihr Zustand; jeder neue Commit baut sie neu."""

    def __init__(
        self, name: str, repository: Repository, start: Callable[..., Child], hub: str
    ) -> None:
        self.name, self._repository, self._start, self._hub = name, repository, start, hub
        self.secrets: dict[str, str] = {}
        self.variables: dict[str, str] = {}
        self.url = ""
        self._stage, self._error, self._build_log = "NO_APP_FILE", "", ""
        self._child: Child | None = None
        self._workspace, self._folder = repository.path.parent, None
        # Das erste hält, wer baut; das zweite Auftrag, Zustand und Prozess.
        self._lock, self._state = threading.Lock(), threading.Lock()
        self._newest = 0

    @property
    def stage(self) -> str:
        """Der Zustand in den Worten des Hubs."""
        with self._state:
            if self._stage == "RUNNING" and self._child.exit_code is not None:
                self._stage, self._error = "RUNTIME_ERROR", self._last_words()
            return self._stage

    @property
    def error(self) -> str | None:
        """Woran es lag, wenn der Zustand ein Fehler ist."""
        return self._error or None

    def log(self, kind: str) -> str:
        """Das Protokoll des Baus (`build`) oder der Anwendung (`run`)."""
        return self._build_log if kind == "build" else (self._child.log() if self._child else "")

    def rebuild(self) -> None:
        """Baut und startet im Hintergrund neu; nur der neueste Auftrag zählt."""
        order = self._cancel("BUILDING")
        threading.Thread(target=self._build, args=(order,), daemon=True).start()

    def pause(self) -> None:
        """Hält die Anwendung an."""
        self._cancel("PAUSED")
        with self._lock:
            self._end()

    def _cancel(self, stage: str) -> int:
        with self._state:
            self._newest += 1
            self._stage, self._error = stage, ""
            if self._child:
                self._child.stop(wait=False)
            return self._newest

    def _build(self, order: int) -> None:
        with self._lock:
            if order == self._newest:
                self._end()
                steps = self._steps(order)
                while step := self._next(steps):
                    with self._state:
                        if order != self._newest:
                            return  # inzwischen überholt oder angehalten
                        self._stage, self._error = step

    def _next(self, steps: Iterator[tuple[str, str]]) -> tuple[str, str] | None:
        try:
            return next(steps, None)
        except Exception as error:  # sonst hieße der Zustand für immer `BUILDING`
            return "BUILD_ERROR", f"{type(error).__name__}: {error}"

    def _steps(self, order: int) -> Iterator[tuple[str, str]]:
        """Die Zustände, die ein Bau durchläuft, jeder mit seinem Fehler."""
        self._folder = folder = Path(tempfile.mkdtemp(prefix="space-", dir=self._workspace))
        self._repository.checkout("main", folder)
        readme = folder / "README.md"
        text = readme.read_text("utf-8", "replace") if readme.exists() else ""
        card, errors, _ = check(text, "space")
        if errors:
            yield "CONFIG_ERROR", "\n".join(errors)
            return
        static = card["sdk"] == "static"
        file = card.get("app_file", "index.html" if static else "app.py")
        if not (folder / file).is_file():
            yield "NO_APP_FILE", ""
            return
        if not static and (missing := self._packages(folder / "requirements.txt", card)):
            yield "BUILD_ERROR", "\n".join(missing)
            return
        yield "APP_STARTING", ""
        port = free_port()
        self.url = f"http://{HOST}:{port}"
        command = ["-m", "http.server", "--bind", HOST, str(port)] if static else [file]
        env = self._environment(folder, port, card.get("title", ""))
        child = self._start([sys.executable, *command], env, folder)
        with self._state:
            self._child = child
            if order != self._newest:
                child.stop(wait=False)
        if self._child.answers(self.url, START_SECONDS):
            yield "RUNNING", ""
        else:
            yield "RUNTIME_ERROR", self._last_words()

    def _packages(self, requirements: Path, card: dict) -> list[str]:
        """Schreibt das Protokoll des Baus und nennt Pakete, die es hier nicht gibt."""
        lines = requirements.read_text("utf-8").splitlines() if requirements.exists() else []
        lines += [f"gradio=={card['sdk_version']}"] if "sdk_version" in card else []
        problems, log = [], [_compare("python", card.get("python_version", "3.10"), _python())]
        for line in filter(None, (line.partition("#")[0].strip() for line in lines)):
            try:
                wanted = Requirement(line)
                if wanted.marker is None or wanted.marker.evaluate():
                    log.append(_compare(wanted.name, str(wanted.specifier), version(wanted.name)))
            except InvalidRequirement:
                problems.append(f"{line}: Das ist keine Angabe eines Pakets.")
            except PackageNotFoundError:
                problems.append(f"{line}: Dieses Paket gibt es hier nicht.")
        self._build_log = "\n".join([*log, *problems]) + "\n"
        return problems

    def _environment(self, folder: Path, port: int, title: str) -> dict[str, str]:
        author, name = self.name.split("/")
        inherited = {key: os.environ[key] for key in INHERITED if key in os.environ}
        return inherited | {
            **{"HOME": str(folder), "USERPROFILE": str(folder)},  # das zweite liest Windows
            **{"PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1", "NO_COLOR": "1"},
            **{"SYSTEM": "spaces", "SPACE_ID": self.name, "SPACE_HOST": f"{HOST}:{port}"},
            **{"SPACE_AUTHOR_NAME": author, "SPACE_REPO_NAME": name, "SPACE_TITLE": title},
            **{"GRADIO_SERVER_NAME": HOST, "GRADIO_SERVER_PORT": str(port)},
            **{"GRADIO_SSR_MODE": "true"},  # wie auf dem Hub
            **{"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"},
            **{"HF_HUB_DISABLE_PROGRESS_BARS": "1"},
            # Auf dem Hub unnötig: dort ist die Vorgabe der Hub selbst.
            **{"HF_ENDPOINT": self._hub, "HF_HUB_DISABLE_XET": "1"},
            **self.variables,
            **self.secrets,
        }

    def _last_words(self) -> str:
        code = self._child.exit_code
        if code is None:
            return f"Nach {START_SECONDS} s antwortet niemand."
        reason = "".join(self._child.log().splitlines(keepends=True)[-5:])
        return WORDS["exit"].format(code=code, reason=reason)

    def _end(self) -> None:
        if self._child:
            self._child.stop()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)


def _python() -> str:
    return ".".join(platform.python_version_tuple()[:2])


def _compare(name: str, wanted: str, here: str) -> str:
    wanted = wanted.removeprefix("==")
    return f"{name} {here}" if wanted in ("", here) else f"{name} {here}, verlangt ist {wanted}"
