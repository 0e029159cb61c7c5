"""Schlüssel für die Nachbildung des Hubs: frisch erzeugt, mit den Rechten aus access.yml.

Aufruf: python -m examples.huggingface_space.access
Gibt als JSON aus, welcher Schlüssel zu welcher Rolle gehört und was er darf. Auf dem echten
Hub werden dieselben Schlüssel unter https://huggingface.co/settings/tokens angelegt.
"""

import json
import secrets
from pathlib import Path

import yaml

FILE = Path(__file__).resolve().parent / "access.yml"
FREE = "gratis"  # ein Konto ohne Abonnement, das nur eigene Repositorys beschreibt


def load() -> dict[str, list[dict]]:
    """Liest je Rolle die Rechte ihres Schlüssels."""
    return yaml.safe_load(FILE.read_text(encoding="utf-8"))


def create() -> dict[str, dict]:
    """Erzeugt je Rolle einen Schlüssel, dazu einen für ein Konto ohne Abonnement."""
    own = {"entity": {"type": "user", "name": FREE}}
    scopes = load() | {"free": [own | {"permissions": ["repo.content.read", "repo.write"]}]}
    tokens = {role: f"hf_{secrets.token_hex(17)}" for role in scopes}
    accounts = {
        tokens[role]: {
            "name": FREE if role == "free" else "kurs",
            "isPro": role != "free",
            "scoped": scoped,
        }
        for role, scoped in scopes.items()
    }
    return {"tokens": tokens, "accounts": accounts}


if __name__ == "__main__":
    print(json.dumps(create()))
