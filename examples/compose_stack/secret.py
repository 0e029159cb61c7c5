"""Erzeugt das Passwort für Monitoring und Registry, zufällig und nur, wenn es noch keins gibt.

Der Load Balancer bekommt den Hash als Secret, der Client liest das Passwort. Beide Dateien
liegen in einem Ordner, den Git nicht kennt.

Aufruf: python -m examples.compose_stack.secret [ordner]
"""

import base64
import hashlib
import secrets
import sys
from pathlib import Path

FOLDER = Path(__file__).parent / "artifacts"
USER = "leserin"


def create(folder: Path = FOLDER) -> None:
    """Legt Passwort und Hash an; vorhandene bleiben, sonst passten Client und Dienst nicht mehr."""
    password, hashed = folder / "monitoring.password", folder / "monitoring.htpasswd"
    if password.exists() and hashed.exists():
        return
    # Andere Benutzer des Rechners kommen nicht in den Ordner; der Container hängt die Datei
    # einzeln ein und muss sie unter seiner eigenen Benutzernummer lesen können.
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    value = secrets.token_urlsafe(24)
    password.write_text(value, encoding="utf-8")
    password.chmod(0o600)
    hashed.write_text(f"{USER}:{ssha(value)}\n", encoding="utf-8")
    hashed.chmod(0o644)


def ssha(password: str) -> str:
    """Hash mit Salz in der Form, die nginx versteht; bei 192 zufälligen Bit genügt SHA-1."""
    salt = secrets.token_bytes(8)
    digest = hashlib.sha1(password.encode() + salt).digest()
    return "{SSHA}" + base64.b64encode(digest + salt).decode()


if __name__ == "__main__":
    try:
        create(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
    except OSError as error:
        sys.exit(f"Der Ordner für das Passwort lässt sich nicht anlegen: {error.strerror}.")
