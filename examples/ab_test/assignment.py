"""Die Zuteilung: welcher Nutzer welche Modellversion bekommt, ohne sich etwas zu merken."""

import hashlib

CONTROL, TREATMENT = "control", "treatment"


def bucket(user: str, salt: str) -> float:
    """Gibt je Nutzer und Versuch immer dieselbe Zahl in [0, 1) zurück, gleichmäßig verteilt.

    Nicht `hash()`: Das liefert in jedem Prozess etwas anderes.
    """
    digest = hashlib.sha256(f"{salt}:{user}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def assign(user: str, salt: str, share: float) -> str:
    """Teilt zu; steigt der Anteil, so wechselt niemand zurück in den Kontrollarm."""
    return TREATMENT if bucket(user, salt) < share else CONTROL
