"""Der Preisdienst mit dem Modell aus der Registry; er folgt dem Alias ohne Neustart.

Starten: python -m examples.model_registry.service --tracking-uri URL --port 8232 [--log ORDNER]
"""

import argparse
import asyncio
import logging
import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

# Ein Stein lohnt keine Aufteilung auf Threads; gelesen wird das beim Import von scikit-learn.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import uvicorn
from fastapi import FastAPI, Request
from fastapi_offline import FastAPIOffline
from pydantic import BaseModel, ConfigDict

from examples.ab_test.options import port
from examples.experiment_tracking_mlflow.tracking import TrackingError
from examples.fastapi_service import app as service
from examples.model_registry.loading import ModelVersion, UnusableError, load
from examples.model_registry.registry import CHAMPION, GRANTED, MODEL, Registry

logger = logging.getLogger("uvicorn.error")


class Health(BaseModel):
    """Welche Version antwortet und ob es die gewünschte ist."""

    model_config = ConfigDict(protected_namespaces=())

    status: str
    alias: str
    registry_version: str | None
    model_version: str | None
    problem: str | None


class Follower(threading.Thread):
    """Fragt den Alias ab und tauscht das Modell, wenn die neue Version jede Prüfung besteht."""

    def __init__(self, app: FastAPI, uri: str, name: str, alias: str, poll: float) -> None:
        super().__init__(daemon=True)  # ein hängender Server hält das Beenden nicht auf
        self.app, self.registry, self.alias, self.poll = app, Registry(uri, name), alias, poll
        self.serving: ModelVersion | None = None
        self.problem: str | None = "Das Modell wird noch geladen."
        self.stopped = threading.Event()

    def run(self) -> None:
        """Sieht nach, bis der Dienst endet; kein Fehler beendet die Schleife."""
        while not self.stopped.is_set():
            try:
                self.follow()
                problem = None
            except (TrackingError, UnusableError) as error:
                problem = str(error)
            except Exception as error:
                problem = f"Unerwartet: {type(error).__name__}."
            if problem and problem != self.problem:
                logger.error("%s", problem)
            self.problem = self.app.state.waiting_for = problem
            self.stopped.wait(self.poll)

    def follow(self) -> None:
        """Lädt die gewünschte Version neben der alten und tauscht erst danach."""
        wanted = self.registry.target(self.alias)
        if wanted is None:
            raise UnusableError(f"Den Alias {self.alias} gibt es nicht.")
        if self.serving and identity(wanted) == identity(self.serving):
            return
        # Den Alias kann jeder am Programm vorbei setzen: Der Dienst fragt selbst nach.
        if self.alias == CHAMPION and wanted.tags.get("approval") != GRANTED:
            raise UnusableError(f"Version {wanted.version} ist nicht freigegeben.")
        try:
            model = load(wanted)
        except UnusableError as error:
            raise UnusableError(f"Version {wanted.version}: {error}") from error
        # Eine Zuweisung: Jede Anfrage liest sie einmal und sieht ganz alt oder ganz neu.
        self.app.state.model = model
        self.serving = wanted
        logger.info("Version %s (Modell %s) antwortet.", wanted.version, model.version)


def identity(entry: ModelVersion) -> tuple[str, str | None]:
    """Woran eine Version zu erkennen ist, auch wenn ihre Nummer neu vergeben wurde."""
    return entry.version, entry.tags.get("model_sha256")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Beginnt nachzusehen, sobald der Dienst läuft."""
    app.state.follower.start()
    yield
    app.state.follower.stopped.set()


async def health(request: Request) -> Health:
    """Sagt auch, warum gerade noch die alte Version antwortet; der Status ist immer 200."""
    follower = request.app.state.follower
    status = "starting" if follower.serving is None else "stale" if follower.problem else "current"
    return Health(
        status=status,
        alias=follower.alias,
        registry_version=follower.serving and follower.serving.version,
        model_version=follower.serving and follower.serving.tags["model_version"],
        problem=follower.problem,
    )


def predict(question: service.Question, request: Request) -> service.Price | list[service.Price]:
    """Wie im Kapitel FastAPI, aber im Thread: scikit-learn hielte die Ereignisschleife auf."""
    return asyncio.run(service.predict(question, request))


def create_app(uri: str, name: str = MODEL, alias: str = CHAMPION, poll: float = 5) -> FastAPI:
    """Baut den Dienst aus den Endpunkten des Kapitels FastAPI; neu ist, woher das Modell kommt."""
    app = FastAPIOffline(
        title="Preisdienst mit Registry", version="1.0.0", lifespan=lifespan, redoc_url=None
    )
    app.state.model, app.state.waiting_for = None, "Das Modell wird noch geladen."
    app.state.follower = Follower(app, uri, name, alias, poll)
    app.exception_handlers |= service.app.exception_handlers
    app.add_middleware(service.BodyLimit)
    problems = {"model": service.Problems}
    app.get("/health")(health)
    app.get("/health/live")(service.live)
    app.get("/health/ready", responses={503: problems})(service.ready)
    app.post("/predict", responses=dict.fromkeys((400, 413, 422, 503), problems))(predict)
    return app


def observe(app: FastAPI, folder: Path) -> None:
    """Führt das Log des Kapitels Logging und zählt, was Prometheus unter /metrics abholt."""
    # Erst hier: Ein eigenes Log gehört zu einem Prozess, nicht zu jedem Import.
    from examples.fastapi_service.metered import Metered, metrics
    from examples.service_logging.journal import configure
    from examples.service_logging.middleware import RequestLog

    configure(folder, os.environ.get("PRICE_LOG_LEVEL", "INFO"))
    app.get("/metrics", include_in_schema=False)(metrics)
    app.add_middleware(RequestLog)
    # Zuletzt hinzugefügt heißt außen: Sie zählt auch den Absturz, den erst das Log beantwortet.
    app.add_middleware(Metered)


def main() -> None:
    """Startet den Dienst auf Loopback."""
    parser = argparse.ArgumentParser(description="Preisdienst mit dem Modell aus der Registry.")
    parser.add_argument("--tracking-uri", required=True, help="Adresse des MLflow-Servers")
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--alias", default=CHAMPION)
    parser.add_argument("--port", type=port, default=8232)
    parser.add_argument("--poll", type=float, default=5, help="Sekunden zwischen zwei Blicken")
    parser.add_argument("--log", type=Path, help="Ordner des Logs; dann auch mit /metrics")
    given = parser.parse_args()
    app = create_app(given.tracking_uri, given.model, given.alias, given.poll)
    if given.log:
        observe(app, given.log)
    uvicorn.run(app, host="127.0.0.1", port=given.port, access_log=False)


if __name__ == "__main__":
    main()
