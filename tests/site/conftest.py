"""Gemeinsames der Seitentests: das gebaute Buch, der lokale Server, ein Chromium für alle."""

import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
import yaml

from tools import site_server

CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)


def skip_or_fail(reason: str) -> None:
    """Überspringt den Test; in CI, wo alles da sein muss, schlägt er fehl."""
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def site() -> Path:
    """Ordner der gebauten Seite."""
    if not (site_server.SITE / "index.html").exists():
        pytest.fail("Das Buch ist nicht gebaut. Abhilfe: make book", pytrace=False)
    return site_server.SITE


@pytest.fixture(scope="session")
def toc_pages() -> list[str]:
    """Alle Seiten aus _toc.yml, ohne Endung."""
    toc = yaml.safe_load(Path("_toc.yml").read_text(encoding="utf-8"))
    pages = [toc["root"]]

    def collect(entries: list[dict]) -> None:
        for entry in entries:
            pages.append(entry["file"])
            collect(entry.get("sections", []))

    for part in toc["parts"]:
        collect(part["chapters"])
    return pages


@pytest.fixture(scope="session")
def base_url(site: Path) -> Iterator[str]:
    """Adresse des lokalen Servers, der die Seite mit gzip und CSP ausliefert."""
    listener = site_server.bind(0)
    server = uvicorn.Server(uvicorn.Config(site_server.build_app(site), log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.02)
    yield f"http://{site_server.HOST}:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join(timeout=10)
    listener.close()


@pytest.fixture(scope="session")
def browser() -> Iterator:
    """Ein Chromium des Systems für alle Tests."""
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
