"""Gemeinsames aller Tests: ein Chromium des Systems, nachgebildete Plattformen."""

import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from needs import skip_or_fail, tool
from process import BROWSERS

CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)

# Wer eines davon verlangt, auch mittelbar, bekommt die Markierung `outside`.
OUTSIDE = {"needs_docker", "needs_kubernetes"}
# Was im Text jeder Datei mit einem solchen Test steht.
NAMED = re.compile(r"needs_docker|needs_kubernetes|contract\.OUTSIDE")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Liest für die wenigen Tests mit Docker und Cluster nicht auch alle anderen ein."""
    # Gefragt wird auch nach den Modellen unter tests/artefacts, und die sind kein Text.
    if config.option.markexpr != "outside" or collection_path.suffix != ".py":
        return None
    return not NAMED.search(collection_path.read_text(encoding="utf-8")) or None


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Iterator:
    """Markiert, was in CI das Netz des Rechners behält (tools/run_tests.py)."""
    report = yield
    for item in (item for item in report.result if isinstance(item, pytest.Item)):
        if OUTSIDE & set(item.fixturenames):
            item.add_marker("outside")
        # Sonst liefe er in CI nirgends. Einen `UsageError` zeigte `xdist` nicht.
        if item.get_closest_marker("outside") and not NAMED.search(item.path.read_text("utf-8")):
            report.outcome = "failed"
            report.longrepr = f"{item.path} nennt nicht, was sie braucht: {NAMED.pattern}"
    return report


@pytest.fixture(scope="session")
def needs_docker() -> None:
    """Ein laufendes Docker."""
    tool("docker")


@pytest.fixture(scope="session")
def needs_kubernetes() -> None:
    """Ein Cluster, auf den kubectl zeigt."""
    tool("kubernetes")


@pytest.fixture(scope="session")
def launcher(tmp_path_factory) -> Path:
    """Startet Chromium so, dass es Docker nicht bemerkt; Playwright verlangt dafür eine Datei."""
    path = tmp_path_factory.mktemp("launcher") / "chromium"
    program = Path(__file__).with_name("chromium.py")
    command = shlex.join([sys.executable, str(program), CHROMIUM or ""])
    path.write_text(f'#!/bin/sh\nexec {command} "$@"\n', encoding="utf-8")
    path.chmod(0o755)
    return path


# Je Modul: Solange Playwright läuft, ist in diesem Prozess kein asyncio.run möglich.
@pytest.fixture(scope="module")
def browser(launcher) -> Iterator:
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
        chromium = playwright.chromium.launch(executable_path=launcher, args=arguments)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def cloud_folder(tmp_path_factory) -> Iterator[None]:
    """Ein eigener Ordner der Nachbildung: Wer mit Gewalt endet, räumt nicht auf, pytest schon."""
    with mock.patch.dict(os.environ, {"TMPDIR": str(tmp_path_factory.mktemp("cloud"))}):
        yield


@pytest.fixture(scope="module")
def aws(cloud_folder) -> Iterator:
    """Die Nachbildung von AWS als Prozess, frisch für jede Datei."""
    # Erst hier: Der Vertrag importiert jedes Beispiel, und die meisten Tests brauchen keines.
    from aws import local_aws
    from contract import free_port, require_environment

    require_environment("local_cloud")
    with local_aws(free_port()) as aws:
        yield aws


@pytest.fixture(scope="module")
def vertex(cloud_folder) -> Iterator:
    """Die Nachbildung von Google Cloud als Prozess, frisch für jede Datei."""
    from contract import free_port, require_environment
    from vertex import local_vertex

    require_environment("local_cloud")
    with local_vertex(free_port()) as vertex:
        yield vertex


@pytest.fixture(scope="module")
def azure(tmp_path_factory) -> Iterator:
    """Die Nachbildung von Azure als Prozess, frisch für jede Datei."""
    from azure_ml import Azure
    from contract import free_port, require_environment

    require_environment("local_cloud")
    require_environment("azureml_server")
    with Azure(free_port(), tmp_path_factory.mktemp("azure")) as azure:
        yield azure
