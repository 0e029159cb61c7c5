"""Gemeinsames aller Tests: ein Chromium des Systems."""

import os
import shutil
from collections.abc import Iterator

import pytest

from needs import skip_or_fail

CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)


# Je Modul: Solange Playwright läuft, ist in diesem Prozess kein asyncio.run möglich.
@pytest.fixture(scope="module")
def browser() -> Iterator:
    """Ein Chromium für alle Tests einer Datei."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        skip_or_fail("Playwright fehlt. Abhilfe: make test richtet es ein")
    if not CHROMIUM:
        skip_or_fail("Chromium fehlt. Abhilfe: sudo apt install chromium")
    with sync_playwright() as playwright:
        # Als root läuft Chromium nur ohne Sandbox; besucht wird allein der eigene Rechner.
        arguments = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield chromium
        chromium.close()
