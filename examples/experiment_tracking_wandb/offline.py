"""Ein Lauf mit W&B, der den Rechner nicht verlässt, und was er mitschreibt."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

# Vor dem Import. Sonst meldet sich auch der Leser der Dateien bei seinem Hersteller.
os.environ.setdefault("WANDB_ERROR_REPORTING", "false")

import wandb
from wandb.errors import Error, UsageError

PROJECT, MODEL_ARTIFACT = "price", "price-model"
ALLOWED = {"learning_rate", "max_iter", "train_rows", "seed"}
ALLOWED |= {"git_commit", "git_dirty", "data_sha256", "model_version"}
# Ohne diese Angaben schreibt W&B Rechnername, Befehlszeile, Pfade, Pakete und Konsole mit.
PRIVATE = {
    "disable_git": True,
    "disable_code": True,
    "console": "off",
    "x_disable_meta": True,
    "x_disable_machine_info": True,
    "x_disable_stats": True,
    "x_save_requirements": False,
    "host": "",
}


class TrackingError(RuntimeError):
    """Ein Lauf ließ sich nicht anlegen, schreiben oder lesen."""


def as_json(work: Callable[[], object]) -> int:
    """Zeigt das Ergebnis als JSON; ein Fehler ist eine Zeile und der Exitcode 1."""
    try:
        print(json.dumps(work()))
    except (TrackingError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    except Error as error:  # der Dienst fehlt oder nimmt den Schlüssel nicht
        said = (str(error) or type(error).__name__).splitlines()[0]
        print(f"W&B lehnt ab: {said}", file=sys.stderr)
        return 1
    return 0


def connect(folder: Path, mode: str = "offline") -> None:
    """Legt fest, wohin W&B schreibt; online ohne Schlüssel ist schon hier ein Fehler."""
    os.environ["WANDB_MODE"] = mode
    folder.mkdir(parents=True, exist_ok=True)
    # Artefakte lägen sonst im Ordner des Benutzers, weit weg von ihrem Lauf.
    for name in ("DATA", "CACHE", "CONFIG"):
        os.environ[f"WANDB_{name}_DIR"] = str(folder.resolve() / name.lower())
    if mode == "online":
        try:
            wandb.login()
        except UsageError as error:
            raise TrackingError("Ohne Schlüssel (WANDB_API_KEY) nimmt W&B nichts an.") from error


def approved(config: dict) -> dict:
    """Gibt die Angaben zurück, wenn jede freigegeben ist: Was im Lauf steht, lesen viele."""
    unknown = sorted(config.keys() - ALLOWED)
    if unknown:
        raise TrackingError(f"Nicht zum Mitschreiben freigegeben: {', '.join(unknown)}.")
    return config


@contextmanager
def run(folder: Path, name: str, config: dict, **options: object) -> Iterator[wandb.Run]:
    """Ein Lauf, der nur schreibt, was freigegeben ist; er endet mit dem Block."""
    settings = wandb.Settings(silent=True, **PRIVATE)
    chosen = {"project": PROJECT, "dir": str(folder), "settings": settings, **options}
    with wandb.init(name=name, config=approved(config), **chosen) as started:
        yield started
