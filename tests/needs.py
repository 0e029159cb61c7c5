"""Was eine Prüfung braucht: Fehlt es, wird sie übersprungen, in CI schlägt sie fehl."""

import os
import shutil
import sys
from pathlib import Path
from typing import NoReturn

import pytest


def skip_or_fail(reason: str) -> NoReturn:
    """Überspringt den Test; in CI, wo alles da sein muss, schlägt er fehl."""
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def program(name: str, remedy: str) -> str:
    """Gibt den Pfad eines Programms zurück, zuerst gesucht in dieser Umgebung."""
    here = str(Path(sys.executable).parent)
    found = shutil.which(name, path=os.pathsep.join([here, os.environ.get("PATH", "")]))
    return found or skip_or_fail(f"{name} fehlt. Abhilfe: {remedy}")
