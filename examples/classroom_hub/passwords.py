"""Die Kennwörter der Klasse: aus Name und Kursschlüssel berechnet, nirgends gespeichert.

Aufruf: CLASSROOM_USERS=klasse.txt CLASSROOM_KEY=… python -m examples.classroom_hub.passwords
"""

import os
import re
import sys
from pathlib import Path

LENGTH = 12  # Zeichen aus 16 möglichen: 48 Bit, zu viele zum Raten über HTTP
KEY_LENGTH = 32
NAME = re.compile(r"[a-z][a-z0-9]{0,31}")  # wird Teil von Containername und Adresse


def class_list() -> list[str]:
    """Gibt die Namen aus der Datei CLASSROOM_USERS zurück; der erste gehört der Lehrkraft."""
    path = Path(os.environ.get("CLASSROOM_USERS", ""))
    if not path.is_file():
        sys.exit("CLASSROOM_USERS muss eine Datei nennen, mit einem Namen je Zeile.")
    try:
        # „-sig“: Editoren unter Windows setzen eine Marke davor.
        names = path.read_text(encoding="utf-8-sig").split()
    except UnicodeDecodeError:
        sys.exit(f"{path.name} ist kein Text in UTF-8. Abhilfe: im Editor als UTF-8 speichern.")
    for name in names:
        if not NAME.fullmatch(name) or names.count(name) > 1:
            rule = "kein Name aus a–z und 0–9, vorn ein Buchstabe, höchstens 32 Zeichen"
            sys.exit(f"{path.name}: {name!r} ist doppelt oder {rule}.")
    if not names:
        sys.exit(f"{path.name} enthält keinen Namen.")
    return names


def key() -> str:
    """Gibt den Kursschlüssel aus CLASSROOM_KEY zurück."""
    found = os.environ.get("CLASSROOM_KEY", "")
    if len(found) < KEY_LENGTH:
        sys.exit(f"CLASSROOM_KEY fehlt oder hat weniger als {KEY_LENGTH} Zeichen.")
    return found


def main() -> None:
    """Gibt je Person eine Zeile aus, zum Ausdrucken und Zerschneiden."""
    secret, names = key(), class_list()
    # Erst hier: Der Import holt JupyterHub nach, und ein Tippfehler meldet sich sofort.
    from hashauthenticator import generate_password_digest

    for name in names:
        print(f"{name},{generate_password_digest(name, secret, LENGTH)}")


if __name__ == "__main__":
    main()
