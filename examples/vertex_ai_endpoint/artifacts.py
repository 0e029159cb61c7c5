"""Das Modell dorthin holen, wo der Container es lädt: aus dem Objektspeicher oder einem Ordner."""

import os
import tempfile
from pathlib import Path

from google.cloud import storage


def fetch(uri: str) -> Path:
    """Lädt alles unter gs://bucket/ordner herunter; ein lokaler Ordner bleibt, wo er ist."""
    if not uri.startswith("gs://"):
        return Path(uri)
    bucket, _, prefix = uri.removeprefix("gs://").partition("/")
    # In der Cloud bekommt der Client die Zugangsdaten vom Rechner, vor der Nachbildung keine.
    anonymous = "STORAGE_EMULATOR_HOST" in os.environ
    client = storage.Client.create_anonymous_client() if anonymous else storage.Client()
    folder = Path(tempfile.mkdtemp(prefix="model-"))
    for blob in client.list_blobs(bucket, prefix=f"{prefix.rstrip('/')}/"):
        # Einen Ordner legt die Konsole als leeres Objekt an, dessen Name auf / endet.
        if name := blob.name.rpartition("/")[2]:
            blob.download_to_filename(folder / name)
    return folder
