"""Angaben auf der Befehlszeile lesen; was nicht passt, wird mit einem deutschen Satz abgelehnt."""

import argparse
from collections.abc import Callable
from datetime import UTC, datetime
from urllib.parse import urlsplit


def address(text: str) -> str:
    """Liest die Adresse eines Dienstes."""
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # der Port ist keine Zahl bis 65535; httpx meldete das erst beim Fragen
        good = False
    if not good:
        raise argparse.ArgumentTypeError(f"{text!r} ist keine Adresse wie http://127.0.0.1:8222.")
    return text.rstrip("/")


def fraction(text: str) -> float:
    """Liest einen Anteil von 0 bis 1."""
    try:
        number = float(text)
    except ValueError:
        number = -1
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} ist kein Anteil von 0 bis 1.")
    return number


def moment(text: str) -> datetime:
    """Liest einen Zeitpunkt; ohne Zone gilt UTC."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} ist kein Zeitpunkt nach ISO 8601.") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def port(text: str) -> int:
    """Liest einen Port; aus einer größeren Zahl macht mancher Server still einen anderen."""
    if not (text.isdecimal() and 0 < int(text) < 65536):
        raise argparse.ArgumentTypeError(f"{text!r} ist kein Port von 1 bis 65535.")
    return int(text)


def above_zero(kind: type) -> Callable[[str], float]:
    """Gibt die Funktion zurück, die eine Zahl über null liest."""

    def read(text: str) -> float:
        try:
            number = kind(text)
        except ValueError:
            number = 0
        if not 0 < number < 1e9:
            raise argparse.ArgumentTypeError(f"{text!r} ist keine Zahl über null.")
        return number

    return read
