"""Das Modell als unterschriebene skops-Datei, geladen mit durchgesehenen Typen.

Speichern: python -m examples.pickle_model.skops_store save ORDNER
Fragen:    python -m examples.pickle_model.skops_store predict ORDNER '{"carat": 0.7, …}'
Den Schlüssel nennt die Umgebungsvariable MODEL_KEY.
"""

import sys
from pathlib import Path
from zipfile import ZIP_DEFLATED

from sklearn.pipeline import Pipeline
from skops.io import dumps, get_untrusted_types, loads

from examples.joblib_model.store import UnusableModelError, command_line
from examples.pickle_model import signed
from examples.price_model import MODEL_VERSION

MODEL = "model.skops"
# Durchgesehen: enthält nur Zahlen, aber scikit-learn folgt den Verweisen zwischen den Knoten
# ungeprüft. Freigegeben ist der Typ deshalb nur hinter der eigenen Unterschrift.
TRUSTED = ["sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"]


def save(pipeline: Pipeline, folder: Path) -> list[str]:
    """Schreibt das Modell unterschrieben; gibt die Namen der Dateien zurück."""
    return signed.write(folder, MODEL, dumps(pipeline, compression=ZIP_DEFLATED))


def load(folder: Path) -> tuple[Pipeline, str]:
    """Prüft Unterschrift und Typen und lädt dann; gibt auch die Version zurück."""
    data = signed.read(folder, MODEL)
    unknown = sorted(set(get_untrusted_types(data=data)) - set(TRUSTED))
    if unknown:
        raise UnusableModelError(f"Nicht freigegeben: {', '.join(unknown)}. Nicht geladen.")
    return loads(data, trusted=TRUSTED), MODEL_VERSION


if __name__ == "__main__":
    sys.exit(command_line("Preismodell als unterschriebene skops-Datei", save, load))
