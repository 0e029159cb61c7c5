"""Dateien, die zusammengehören, zusammen schreiben."""

import os
from pathlib import Path


def write_together(folder: Path, files: dict[str, bytes]) -> list[str]:
    """Schreibt Dateien, die zusammengehören; gibt ihre Namen zurück.

    Geschrieben wird in Nebendateien: Bis zum Umbenennen am Schluss gilt der alte Stand, und
    keine Datei ist je halb. Ob alle zusammenpassen, sagt danach nur ein Fingerabdruck.
    """
    folder.mkdir(parents=True, exist_ok=True)
    partial = {name: folder / f"{name}.{os.getpid()}.part" for name in files}
    try:
        for name, path in partial.items():
            path.write_bytes(files[name])
        for name, path in partial.items():
            path.replace(folder / name)
    finally:
        for path in partial.values():
            path.unlink(missing_ok=True)
    return list(files)
