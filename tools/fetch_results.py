"""Ergebnisse für Stempel und Stand nach _build holen: die Läufe dieses Workflows und latest.yml.

Ruft das Programm gh. Was es noch nicht gibt, nennen die Seiten so.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

BUILD = Path(__file__).resolve().parent.parent / "_build"
# Andere Auslöser können von fremden Kopien des Repositorys kommen.
TRUSTED = {"schedule", "workflow_dispatch"}
LISTED = 20


def gh(*arguments: str) -> subprocess.CompletedProcess:
    """Führt gh aus; seine Meldungen bleiben sichtbar."""
    return subprocess.run(["gh", *arguments], stdout=subprocess.PIPE, encoding="utf-8")


def download(run: str, name: str, folder: Path) -> bool:
    """Holt ein Artefakt; falsch, wenn der Lauf es nicht hat."""
    done = gh("run", "download", run, "--name", name, "--dir", str(folder))
    return done.returncode == 0


def latest_runs() -> list[str]:
    """Die Läufe von latest.yml auf `main`, der jüngste zuerst."""
    query = ("--workflow", "latest.yml", "--branch", "main", "--status", "completed")
    done = gh("run", "list", *query, "--limit", str(LISTED), "--json", "databaseId,event")
    if done.returncode:
        sys.exit("Die Läufe von latest.yml lassen sich nicht abfragen; der Grund steht darüber.")
    found = json.loads(done.stdout)
    return [str(run["databaseId"]) for run in found if run["event"] in TRUSTED]


def main() -> None:
    """Holt beides; ein fehlendes Ergebnis hält das Buch nicht auf."""
    if not download(os.environ["GITHUB_RUN_ID"], "runs", BUILD / "runs"):
        print("Dieser Lauf hat keine Ergebnisse der Notebooks.")
    # Dort lief, was eben erst erschien: Aus dem Artefakt zählt diese eine Datei, sonst nichts.
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder)
        if not any(download(run, "latest", fresh) for run in latest_runs()):
            print("Noch kein Ergebnis mit neuesten Versionen.")
        elif (fresh / "latest.json").is_file():
            BUILD.mkdir(exist_ok=True)
            shutil.copyfile(fresh / "latest.json", BUILD / "latest.json")


if __name__ == "__main__":
    main()
