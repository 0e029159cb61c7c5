"""Das Log als Datei: eine Zeile JSON je Ereignis, je Tag eine Datei, nach einer Frist gelöscht."""

import json
import logging
import os
import sys
import traceback
from collections.abc import Iterator
from contextvars import ContextVar
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

KEPT_DAYS = 30
LOGGER = "price"
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
ROUTES = {"/predict", "/health", "/health/live", "/health/ready", "/metrics", "/docs"}
ROUTES |= {"/openapi.json"}
# Je Anfrage ein Wert: Jede Zeile, auch die von uvicorn, gehört damit zu ihrer Anfrage.
request_id: ContextVar[str | None] = ContextVar("request_id", default=None)


def route(path: str) -> str:
    """Gibt eine bekannte Adresse zurück; alles andere ist freier Text und bleibt draußen."""
    path = path.split("?")[0]
    return path if path in ROUTES else "other"


class JsonFormatter(logging.Formatter):
    """Macht aus einem Ereignis eine Zeile JSON.

    `extra={"rows": [{…}, …]}` ergibt je Eintrag eine Zeile mit dessen Feldern.
    Umbrüche in Werten maskiert json.dumps; ensure_ascii auch die aus Unicode.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Gibt die Zeilen ohne Umbruch am Ende zurück."""
        moment = datetime.fromtimestamp(record.created, UTC)
        line = {
            "time": moment.isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "event": record.getMessage() if record.name == LOGGER else record.name,
            "request_id": request_id.get(),
        }
        if record.name == "uvicorn.access":
            # Nur Methode, Adresse und Status: Absender und Query gehören nicht ins Log.
            _, method, path, _, status = record.args
            line |= {"method": method, "route": route(path), "status": status}
        elif record.name != LOGGER:
            line["message"] = record.getMessage()
        if record.exc_info:
            line |= describe(record.exc_info[1])
        rows = getattr(record, "rows", [{}])
        return "\n".join(json.dumps(line | row, ensure_ascii=True) for row in rows)


def describe(error: BaseException) -> dict[str, object]:
    """Beschreibt eine Ausnahme in einem Feld; ihre Meldung fehlt, denn sie zitiert Eingaben."""
    frames = traceback.extract_tb(error.__traceback__)
    stack = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]
    return {"exception": type(error).__name__, "stack": stack}


class DayFile(logging.Handler):
    """Schreibt in `JJJJ-MM-TT.jsonl` und löscht, was älter als die Frist ist.

    Jede Zeile ist ein einziger Aufruf des Betriebssystems, angehängt ans Ende der Datei:
    So geraten die Zeilen mehrerer Prozesse nicht ineinander, außer unter Windows. Ein Fehler
    kostet die Zeile, nie die Antwort; wie viele fehlen, steht in der ersten Zeile danach.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder, self.day, self.lost = folder, None, 0

    def emit(self, record: logging.LogRecord) -> None:
        """Hängt das Ereignis an die Datei des Tages an."""
        try:
            text = self.format(record)
            self.turn(datetime.fromtimestamp(record.created, UTC).date())
            # Nach einem Fehler kann eine halbe Zeile am Ende stehen: neu beginnen.
            before = f"\n{self.gap(record)}\n" if self.lost else ""
            self.append(f"{before}{text}\n".encode())
            self.lost = 0
        except Exception:
            self.handleError(record)

    def append(self, data: bytes) -> None:
        """Schreibt alles oder meldet OSError, auch wenn nur ein Teil auf die Platte passte."""
        path = self.folder / f"{self.day}.jsonl"
        with open(path, "ab", buffering=0) as file:
            if file.write(data) != len(data):
                raise OSError("Die Zeile wurde nur zum Teil geschrieben.")

    def gap(self, record: logging.LogRecord) -> str:
        """Die Zeile, die eine Lücke im Log nennt."""
        missing = logging.makeLogRecord(
            {"name": LOGGER, "msg": "lines_lost", "levelname": "ERROR", "created": record.created}
        )
        missing.rows = [{"lost": self.lost}]
        return self.format(missing)

    def turn(self, today: date) -> None:
        """Löscht beim ersten Ereignis eines Tages, was älter als die Frist ist."""
        if today != self.day:
            self.day = today
            try:
                forget(self.folder, today)
            except OSError as error:  # die Frist ist verletzt, das Log läuft weiter
                kind = type(error).__name__
                print(f"Alte Tage lassen sich nicht löschen ({kind}).", file=sys.stderr, flush=True)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 – so heißt es in logging
        """Zählt die verlorene Zeile und meldet die erste auf stderr."""
        self.lost += 1
        if self.lost == 1:
            kind = sys.exc_info()[0].__name__
            print(f"Das Log lässt sich nicht schreiben ({kind}).", file=sys.stderr, flush=True)


def forget(folder: Path, today: date) -> None:
    """Löscht die Dateien der Tage, die länger als KEPT_DAYS zurückliegen."""
    oldest = f"{today - timedelta(days=KEPT_DAYS)}.jsonl"
    for path in folder.glob("????-??-??.jsonl"):
        if path.name < oldest:
            path.unlink(missing_ok=True)


def read(folder: Path) -> Iterator[dict | None]:
    """Liest alle Zeilen der Reihe nach; `None` steht für eine, die kein JSON-Objekt ist."""
    for path in sorted(folder.glob("????-??-??.jsonl")):
        # Nicht mit `splitlines`: Das trennt auch an U+2028, das in JSON erlaubt ist.
        for line in path.read_bytes().split(b"\n"):
            if not line.strip():
                continue
            try:
                found = json.loads(line)
            except ValueError:
                found = None
            yield found if isinstance(found, dict) else None


def seen(line: dict) -> dict:
    """Gibt aus der Zeile eines Steins flach zurück, was ein Vergleich auf Drift braucht."""
    return {
        "day": line["time"][:10],
        "model_version": line["model_version"],
        **line["features"],
        "price_usd": line["price_usd"],
    }


def configure(folder: Path, level: str) -> DayFile:
    """Hängt das Log an den Logger des Dienstes und an die von uvicorn."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        sys.exit(f"Der Ordner {folder.name} für das Log lässt sich nicht anlegen.")
    access_level = os.environ.get("PRICE_ACCESS_LEVEL", "WARNING")
    for name, chosen in {"PRICE_LOG_LEVEL": level, "PRICE_ACCESS_LEVEL": access_level}.items():
        if chosen not in LEVELS:
            sys.exit(f"{name} muss {', '.join(LEVELS)} sein.")
    handler = DayFile(folder)
    handler.setFormatter(JsonFormatter())
    # uvicorn nennt bei `WebSocket` Absender und Query; dieser Dienst hat keine.
    handler.addFilter(lambda record: "WebSocket" not in str(record.msg))
    handler.turn(datetime.now(UTC).date())
    own, errors, access = map(logging.getLogger, (LOGGER, "uvicorn.error", "uvicorn.access"))
    own.handlers, own.propagate = [handler], False
    own.setLevel(level)
    errors.addHandler(handler)
    # Das Zugriffslog nennt die Adresse des Absenders: nur noch zur Fehlersuche und ohne sie.
    access.handlers, access.propagate = [handler], False
    access.setLevel(access_level)
    return handler
