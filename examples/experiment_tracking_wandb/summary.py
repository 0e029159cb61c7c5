"""Offline-Läufe lesen: mit dem Leser, den W&B mitbringt, und ohne den Dienst."""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from examples.experiment_tracking_wandb import offline


def logs(folder: Path) -> list[Path]:
    """Die Dateien aller Läufe unter `folder`, der älteste zuerst."""
    found = folder.glob("wandb/offline-run-*/*.wandb")
    return sorted(found, key=lambda path: path.stat().st_ctime_ns)


def records(path: Path) -> list[dict]:
    """Alle Einträge eines Laufs, gelesen mit `wandb leet inspect`."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(path)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", env=os.environ)
    if done.returncode:
        raise offline.TrackingError(f"{path.name} ist nicht lesbar: {done.stderr.strip()}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def of_type(entries: list[dict], kind: str) -> list[dict]:
    """Die Inhalte aller Einträge einer Art, etwa `history`."""
    return [entry[kind] for entry in entries if entry["type"] == kind]


def summarise(path: Path) -> dict:
    """Was ein Lauf festhält, ohne Zeiten und Kennungen."""
    entries = records(path)
    run = (of_type(entries, "run") or [{}])[0]
    config = run.get("config", {}).get("update", {})
    history = [record["item"] for record in of_type(entries, "history")]
    return {
        "name": run.get("display_name"),
        "group": run.get("run_group"),
        # Den Eintrag `exit` schreibt nur ein Lauf, der zu Ende kam.
        "finished": bool(of_type(entries, "exit")),
        "config": {key: value for key, value in config.items() if key != "_wandb"},
        "curve": [[item["_step"], item["mae_usd"]] for item in history if "mae_usd" in item],
        "metrics": {
            key: value
            for item in history
            for key, value in item.items()
            # „tabelle.nrows“ beschreibt eine Tabelle und ist keine Metrik.
            if not key.startswith("_") and "." not in key
        },
        "artifacts": {
            artifact["name"]: sorted(artifact["aliases"])
            for artifact in of_type(entries, "artifact")
            if artifact["type"] != "run_table"  # legt W&B zu jeder Tabelle selbst an
        },
    }


def summaries(folder: Path) -> list[dict]:
    """Alle Läufe unter `folder`; keiner ist ein Fehler, denn meist stimmt dann der Ordner nicht."""
    found = [summarise(path) for path in logs(folder)]
    if not found:
        raise offline.TrackingError(f"Unter {folder.name}/wandb/ liegt kein Offline-Lauf.")
    return found


def main() -> int:
    """Nennt alle Läufe eines Ordners als JSON."""
    parser = argparse.ArgumentParser(description="Offline-Läufe von W&B zusammenfassen")
    parser.add_argument("folder", type=Path, help="der Ordner mit wandb/")
    folder = parser.parse_args().folder
    return offline.as_json(lambda: summaries(folder))


if __name__ == "__main__":
    sys.exit(main())
