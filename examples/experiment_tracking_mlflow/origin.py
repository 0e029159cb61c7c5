"""Woraus ein Lauf entstand: Commit, Daten, Pakete; unabhängig davon, wer ihn mitschreibt."""

import subprocess
from importlib.metadata import distributions
from pathlib import Path

from examples.price_model import MODEL_VERSION

ROOT = Path(__file__).resolve().parents[2]


def provenance(data_sha256: str) -> dict[str, str]:
    """Woraus der Lauf entstand: Commit, ob etwas geändert war, Fingerabdruck der Daten."""
    changed = git("status", "--porcelain", "--untracked-files=no")
    return {
        "git_commit": git("rev-parse", "HEAD") or "unknown",
        "git_dirty": "unknown" if changed is None else str(bool(changed)).lower(),
        "data_sha256": data_sha256,
        "model_version": MODEL_VERSION,
    }


def git(*arguments: str) -> str | None:
    """Gibt die Ausgabe von Git zurück; ohne Git oder Repository nichts."""
    command = ["git", "-C", str(ROOT), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def environment() -> str:
    """Jedes installierte Paket mit seiner Version, eine Zeile je Paket."""
    installed = {f"{found.name}=={found.version}" for found in distributions()}
    return "\n".join(sorted(installed, key=str.lower)) + "\n"
