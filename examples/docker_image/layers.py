"""Durchsucht ein Image nach einem Wert: jede Layer und die Beschreibung samt allen Schritten.

Gefunden wird der Wert, wie er ist; verschlüsselt oder gepackt sähe ihn niemand.

Aufruf: python -m examples.docker_image.layers IMAGE DATEI-MIT-DEM-WERT
"""

import gzip
import io
import json
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path


def search(image: str, value: bytes) -> Iterator[str]:
    """Nennt jede Fundstelle: „Layer 3 von oben: srv/token“ oder „Beschreibung“."""
    with tempfile.TemporaryFile() as saved:
        subprocess.run(["docker", "save", image], stdout=saved, check=True)
        saved.seek(0)
        with tarfile.open(fileobj=saved) as archive:
            yield from search_archive(archive, value)


def search_archive(archive: tarfile.TarFile, value: bytes) -> Iterator[str]:
    """Durchsucht, was `docker save` schreibt.

    Gezählt wird von oben: Wie viele Layer die Basis hat, ist je Basis verschieden.
    """
    (manifest,) = json.loads(archive.extractfile("manifest.json").read())
    if value in archive.extractfile(manifest["Config"]).read():
        yield "Beschreibung"
    for number, name in enumerate(reversed(manifest["Layers"]), 1):
        content = archive.extractfile(name).read()
        if content.startswith(b"\x1f\x8b"):
            content = gzip.decompress(content)
        if value in content:
            yield from (f"Layer {number} von oben: {place}" for place in files_with(content, value))


def files_with(layer: bytes, value: bytes) -> Iterator[str]:
    """Nennt die Dateien einer Layer, die den Wert enthalten."""
    with tarfile.open(fileobj=io.BytesIO(layer)) as files:
        for file in files:
            if file.isfile() and value in files.extractfile(file).read():
                yield file.name


def main() -> int:
    """Gibt die Fundstellen aus, je Zeile eine; gesucht wird der Inhalt der Datei."""
    if len(sys.argv) != 3:
        print("Aufruf: python -m examples.docker_image.layers IMAGE DATEI", file=sys.stderr)
        return 2
    image, path = sys.argv[1:]
    try:
        value = Path(path).read_bytes().strip()
    except OSError as error:
        print(f"Die Datei mit dem Wert ist nicht lesbar: {error.strerror}.", file=sys.stderr)
        return 1
    if not value:
        print("Der gesuchte Wert ist leer.", file=sys.stderr)
        return 1
    try:
        found = list(search(image, value))
    except FileNotFoundError:
        print("Docker ist nicht installiert.", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError:
        print(f"Das Image {image} lässt sich nicht lesen.", file=sys.stderr)
        return 1
    print("\n".join(found) or "nichts gefunden")
    return 0


if __name__ == "__main__":
    sys.exit(main())
