"""Gemeinsames der Seitentests: das gebaute Buch, der lokale Server."""

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
import yaml

from tools import site_server


@pytest.fixture(scope="session")
def site() -> Path:
    """Ordner der gebauten Seite."""
    index = site_server.SITE / "index.html"
    if not index.exists():
        pytest.fail("Das Buch ist nicht gebaut. Abhilfe: make book", pytrace=False)
    # Jeder Bau schreibt diese Datei neu; eine geänderte Seite wäre sonst in der alten Fassung grün.
    sources = [*Path().glob("_*.yml"), *Path("notebooks").glob("*.ipynb")]
    sources += [path for path in Path("book").rglob("*.*") if path.suffix != ".pyc"]
    if max(path.stat().st_mtime for path in sources) > index.stat().st_mtime:
        pytest.fail("Das Buch ist älter als seine Quellen. Abhilfe: make book", pytrace=False)
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


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Liefert einen Ordner mit gzip und CSP aus, wie `make serve`; gibt die Adresse zurück."""
    listener = site_server.bind(0)
    server = uvicorn.Server(uvicorn.Config(site_server.build_app(folder), log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.02)
    yield f"http://{site_server.HOST}:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join(timeout=10)
    listener.close()


@pytest.fixture(scope="session")
def base_url(site: Path) -> Iterator[str]:
    """Adresse des gebauten Buchs."""
    with serving(site) as address:
        yield address


@pytest.fixture(scope="session")
def serve_folder():
    """Für Prüfungen, die anderes als das Buch ausliefern."""
    return serving
