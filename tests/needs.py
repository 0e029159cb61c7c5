"""Was eine Prüfung braucht: Fehlt es, wird sie übersprungen, in CI schlägt sie fehl."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

from tools.run_nbval import NETWORK_REMEDY, REQUIREMENTS, note_skipped, without_network


def skip_or_fail(reason: str) -> NoReturn:
    """Überspringt den Test; in CI, wo alles da sein muss, schlägt er fehl."""
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    note_skipped(reason)
    pytest.skip(reason)


def own_network() -> list[str]:
    """Beginn eines Befehls, der nur Loopback sieht; ist das nicht erlaubt, wird übersprungen."""
    prefix = without_network()
    if prefix and subprocess.run([*prefix, "true"], capture_output=True).returncode:
        skip_or_fail(f"Ein eigenes Netz ist hier nicht erlaubt. Abhilfe: {NETWORK_REMEDY}")
    return prefix


def program(name: str, remedy: str) -> str:
    """Gibt den Pfad eines Programms zurück, zuerst gesucht in dieser Umgebung."""
    here = str(Path(sys.executable).parent)
    found = shutil.which(name, path=os.pathsep.join([here, os.environ.get("PATH", "")]))
    return found or skip_or_fail(f"{name} fehlt. Abhilfe: {remedy}")


def tool(name: str) -> None:
    """Überspringt, wenn fehlt, was auch Notebooks verlangen können, etwa `docker`."""
    command, remedy = REQUIREMENTS[name]
    if not shutil.which(command[0]) or subprocess.run(command, capture_output=True).returncode:
        skip_or_fail(f"{name} fehlt. Abhilfe: {remedy}")
