"""Dateien mit einem geheimen Schlüssel unterschreiben und vor dem Laden prüfen.

Die Unterschrift (HMAC mit SHA-256) gilt dem Beipackzettel, und darin steht der
Fingerabdruck des Modells: So deckt eine Unterschrift beide Dateien.
"""

import hashlib
import hmac
import json
import os
from importlib.metadata import version
from pathlib import Path

from examples.joblib_model.store import MANIFEST, UnusableModelError
from examples.price_model import MODEL_VERSION
from examples.price_model.schema import FEATURES
from examples.price_model.storage import write_together

SIGNATURE = "manifest.hmac"
KEY = "MODEL_KEY"
KEY_BYTES = 32
PACKAGES = ("scikit-learn", "numpy")


def key() -> bytes:
    """Liest den Schlüssel aus der Umgebung; er steht nie im Code und nie neben dem Modell."""
    text = os.environ.get(KEY)
    if not text:
        raise UnusableModelError(f"Die Umgebungsvariable {KEY} mit dem Schlüssel fehlt.")
    try:
        secret = bytes.fromhex(text)
    except ValueError:
        raise UnusableModelError(f"{KEY} besteht nicht aus Paaren von Hexzeichen.") from None
    if len(secret) < KEY_BYTES:
        raise UnusableModelError(f"{KEY} hat {len(secret)} Byte, nötig sind {KEY_BYTES}.")
    return secret


def sign(message: bytes, secret: bytes) -> bytes:
    """Gibt die Unterschrift als Hexzeichen zurück."""
    return hmac.new(secret, message, hashlib.sha256).hexdigest().encode()


def expected(name: str) -> dict:
    """Was auf dem Beipackzettel stehen muss, damit das Modell zu diesem Dienst passt."""
    return {
        "file": name,
        "model_version": MODEL_VERSION,
        "features": list(FEATURES),
        **{package: version(package) for package in PACKAGES},
    }


def write(folder: Path, name: str, data: bytes) -> list[str]:
    """Schreibt Modell, Beipackzettel und Unterschrift; gibt die Namen der Dateien zurück."""
    secret = key()
    slip = expected(name) | {"sha256": hashlib.sha256(data).hexdigest()}
    manifest = (json.dumps(slip, indent=2) + "\n").encode()
    files = {name: data, MANIFEST: manifest, SIGNATURE: sign(manifest, secret)}
    return write_together(folder, files)


def read(folder: Path, name: str) -> bytes:
    """Gibt den Inhalt der Modelldatei zurück, nachdem alles geprüft ist.

    Jede Datei wird einmal gelesen: Geladen werden genau die Bytes, die geprüft wurden.
    """
    secret = key()
    try:
        data, manifest, signature = (
            (folder / part).read_bytes() for part in (name, MANIFEST, SIGNATURE)
        )
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UnusableModelError(f"{Path(error.filename).name} fehlt in {folder.name}/.") from None
    if not hmac.compare_digest(signature, sign(manifest, secret)):
        raise UnusableModelError(f"Die Unterschrift passt nicht zu {MANIFEST}. Nicht geladen.")
    slip = json.loads(manifest)
    if hashlib.sha256(data).hexdigest() != slip["sha256"]:
        raise UnusableModelError(f"{name} ist nicht die unterschriebene Datei. Nicht geladen.")
    for field, needed in expected(name).items():
        if slip.get(field) != needed:
            raise UnusableModelError(
                f"{field}: unterschrieben ist {slip.get(field)}, gebraucht wird {needed}."
            )
    return data
