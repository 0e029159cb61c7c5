"""Aufräumen nach einem Kurs: Container und Netz der Klasse, auf Wunsch auch alle Dateien.

Aufruf: python -m examples.classroom_hub.remove [--files]
"""

import os
import re
import subprocess
import sys

from examples.classroom_hub import passwords


def docker(*words: str) -> list[str]:
    """Ruft `docker` auf und gibt die Zeilen seiner Ausgabe zurück."""
    try:
        done = subprocess.run(["docker", *words], capture_output=True, encoding="utf-8")
    except FileNotFoundError:
        sys.exit("Docker ist nicht installiert.")
    if done.returncode:
        sys.exit(done.stderr.strip())
    return done.stdout.split()


def left(prefix: str) -> dict[str, list[str]]:
    """Nennt, was von der Klasse noch da ist."""
    # Namen von Personen haben keinen Bindestrich: `classroom-abend-anna` ist nicht von hier.
    mine = re.compile(rf"{re.escape(prefix)}-{passwords.NAME.pattern}")
    containers = docker("ps", "--all", "--format", "{{.Names}}")
    volumes = docker("volume", "ls", "--format", "{{.Name}}")
    return {
        "container": list(filter(mine.fullmatch, containers)),
        "network": docker("network", "ls", "--format", "{{.Name}}", "--filter", f"name=^{prefix}$"),
        "volume": list(filter(mine.fullmatch, volumes)),
    }


def remove(prefix: str, files: bool) -> dict[str, list[str]]:
    """Entfernt Container und Netz, mit `files` auch die Volumes; gibt zurück, was weg ist."""
    found = left(prefix)
    if not files:
        found["volume"] = []
    for kind, names in found.items():
        if names:
            docker(kind, "rm", *(["--force"] if kind == "container" else []), *names)
    return found


if __name__ == "__main__":
    if sys.argv[1:] not in ([], ["--files"]):
        sys.exit("Aufruf: python -m examples.classroom_hub.remove [--files]")
    for kind, names in remove(
        os.environ.get("CLASSROOM_NAME", "classroom"), "--files" in sys.argv
    ).items():
        print(kind, *names)
