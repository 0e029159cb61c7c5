"""Woran die Prüfungen arbeiten: --stones, --testset und --model auf der Befehlszeile."""

from pathlib import Path

import pandas as pd
import pytest

from examples.price_model.predict import load_model

OPTIONS = {"stones": "CSV mit Trainingsdaten", "testset": "CSV mit dem Prüfsatz"}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Nimmt die Pfade an, über die geurteilt wird."""
    for name, text in {**OPTIONS, "model": "Ordner des Kandidaten"}.items():
        parser.addoption(f"--{name}", type=Path, help=text)


def path(config: pytest.Config, name: str) -> Path:
    """Ein verlangter Pfad; fehlt er, scheitert die Prüfung, statt übersprungen zu werden."""
    found = config.getoption(name)
    if found is None or not found.exists():
        pytest.fail(f"--{name} fehlt oder zeigt auf nichts.", pytrace=False)
    return found


@pytest.fixture(scope="session")
def stones(pytestconfig) -> pd.DataFrame:
    """Die Trainingsdaten."""
    return pd.read_csv(path(pytestconfig, "stones"))


@pytest.fixture(scope="session")
def testset(pytestconfig) -> pd.DataFrame:
    """Der feste Prüfsatz."""
    return pd.read_csv(path(pytestconfig, "testset"))


@pytest.fixture(scope="session")
def model(pytestconfig):
    """Der Kandidat in der Form, die ausgeliefert wird."""
    return load_model("onnx", path(pytestconfig, "model"))
