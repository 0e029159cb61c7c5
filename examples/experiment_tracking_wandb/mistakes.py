"""Die Fehler der Praxis, mit Absicht gemacht; jeder nennt als JSON, was danach bleibt."""

import argparse
import subprocess
import sys
import time
from pathlib import Path

import psutil
import wandb

from examples.experiment_tracking_wandb import offline, summary

PATIENCE_SECONDS = 60
VALUES = 5


def careless(folder: Path, password: str) -> dict:
    """Ein Lauf mit allen Vorgaben und einem Passwort in `config`: Wo steht es danach?"""
    offline.connect(folder)
    settings = wandb.Settings(silent=True)
    config = {"max_iter": 40, "db_password": password}
    project = {"project": offline.PROJECT, "dir": str(folder), "settings": settings}
    with wandb.init(name="careless", config=config, **project) as run:
        run.log({"mae_usd": 400.0})
        print("Training beginnt", file=sys.stderr)
    wandb.teardown()  # erst danach steht sicher alles auf der Platte
    place = summary.logs(folder)[-1].parent
    secret = password.encode()
    found = [file for file in place.rglob("*") if file.is_file() and secret in file.read_bytes()]
    # Der Name enthält die Kennung des Laufs; sie ist jedes Mal eine andere.
    names = [file.relative_to(place).as_posix().replace(run.id, "…") for file in found]
    return {"found_in": sorted(names)}


def guarded(folder: Path, password: str) -> dict:
    """Dasselbe mit der Liste des Beispiels; es kommt nicht zu einem Lauf."""
    offline.connect(folder)
    config = {"max_iter": 40, "db_password": password}
    with offline.run(folder, "guarded", config):
        return {}


def backwards(folder: Path) -> dict:
    """Ein Schritt, der kleiner ist als der letzte."""
    offline.connect(folder)
    with offline.run(folder, "backwards", {}) as run:
        for step in (10, 20, 30, 15):
            run.log({"mae_usd": float(step)}, step=step)
    wandb.teardown()
    return {"steps": [step for step, _ in summary.summarise(summary.logs(folder)[-1])["curve"]]}


def server_only(folder: Path) -> dict:
    """Was ein Artefakt erst vom Server bekommt, und was Lesen offline antwortet."""
    offline.connect(folder)
    found = {}
    with offline.run(folder, "server only", {}) as run:
        artifact = wandb.Artifact("notes", type="dataset")
        with artifact.new_file("notes.txt", encoding="utf-8") as file:
            file.write("Datenstand")
        run.log_artifact(artifact, aliases=["candidate"])
        found["digest"] = len(artifact.digest)
        for name, ask in {
            "version": lambda: artifact.version,
            "use_artifact": lambda: run.use_artifact("notes:candidate"),
        }.items():
            try:
                ask()
            except (TypeError, AttributeError) as error:
                found[name] = type(error).__name__
    return found


def write_and_wait(folder: Path, flush: float) -> None:
    """Schreibt Werte mit und wartet darauf, getötet zu werden."""
    offline.connect(folder)
    settings = {"silent": True, "x_transaction_log_flush_interval": flush, **offline.PRIVATE}
    place = {"project": offline.PROJECT, "dir": str(folder)}
    run = wandb.init(name="crash", settings=wandb.Settings(**settings), **place)
    for step in range(1, VALUES + 1):
        run.log({"mae_usd": 100.0 / step}, step=step)
    # W&B hält den jüngsten Schritt zurück, bis der nächste beginnt.
    run.log({}, step=VALUES + 1)
    print("ready", flush=True)
    time.sleep(PATIENCE_SECONDS)


def crash(folder: Path, flush: float) -> dict:
    """Tötet einen Lauf samt dem Programm, das für ihn schreibt; was steht in der Datei?"""
    command = [sys.executable, "-m", __spec__.name, "write_and_wait", str(folder)]
    command += ["--flush", str(flush)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8") as child:
        child.stdout.readline()
        path = summary.logs(folder)[-1]
        deadline = time.monotonic() + PATIENCE_SECONDS / 2
        # Nur wer oft schreibt, darf auf die Platte warten; sonst ginge nichts verloren.
        while flush < 1 and time.monotonic() < deadline:
            time.sleep(0.5)
            if len(summary.summarise(path)["curve"]) == VALUES:
                break
        family = [*psutil.Process(child.pid).children(recursive=True), child]
        for process in family:
            process.kill()
    found = summary.summarise(path)
    return {"logged": VALUES, "kept": len(found["curve"]), "finished": found["finished"]}


def main() -> int:
    """Macht einen Fehler und nennt das Ergebnis als JSON."""
    parser = argparse.ArgumentParser(description="Fehler beim Mitschreiben mit W&B")
    actions = (careless, guarded, backwards, server_only, crash, write_and_wait)
    parser.add_argument("action", choices=[action.__name__ for action in actions])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--password", default="nicht-weitersagen", help="careless, guarded")
    parser.add_argument("--flush", type=float, default=15.0, help="Sekunden; 15 ist die Vorgabe")
    arguments = parser.parse_args()
    (action,) = (action for action in actions if action.__name__ == arguments.action)
    extra = {
        careless: {"password": arguments.password},
        guarded: {"password": arguments.password},
        crash: {"flush": arguments.flush},
        write_and_wait: {"flush": arguments.flush},
    }
    return offline.as_json(lambda: action(arguments.folder, **extra.get(action, {})))


if __name__ == "__main__":
    sys.exit(main())
