"""Das Modell als unterschriebene pickle-Datei, geladen mit einer Freigabeliste.

Speichern: python -m examples.pickle_model.store save ORDNER
Fragen:    python -m examples.pickle_model.store predict ORDNER '{"carat": 0.7, …}'
Den Schlüssel nennt die Umgebungsvariable MODEL_KEY.
"""

import io
import pickle
import sys
from pathlib import Path

from sklearn.pipeline import Pipeline

from examples.joblib_model.store import UnusableModelError, command_line
from examples.pickle_model import signed
from examples.price_model import MODEL_VERSION

MODEL = "model.pickle"
# Fest statt Vorgabe: Python 3.11 und 3.14 schreiben sonst verschieden.
PROTOCOL = 5
# Durchgesehen: Klassen des Modells und was NumPy zum Wiederaufbau von Feldern braucht.
ALLOWED = {
    "builtins": {"slice"},
    "numpy": {"dtype", "float64", "ndarray"},
    "numpy._core.multiarray": {"_reconstruct", "scalar"},
    "numpy._core.numeric": {"_frombuffer"},
    "numpy.random._pcg64": {"PCG64"},
    "numpy.random._pickle": {"__bit_generator_ctor", "__generator_ctor"},
    "numpy.random.bit_generator": {"SeedSequence", "__pyx_unpickle_SeedSequence"},
    "sklearn._loss._loss": {"CyHalfSquaredError"},
    "sklearn._loss.link": {"IdentityLink", "Interval"},
    "sklearn._loss.loss": {"HalfSquaredError"},
    "sklearn.compose._column_transformer": {"ColumnTransformer"},
    "sklearn.ensemble._hist_gradient_boosting.binning": {"_BinMapper"},
    "sklearn.ensemble._hist_gradient_boosting.gradient_boosting": {"HistGradientBoostingRegressor"},
    "sklearn.ensemble._hist_gradient_boosting.predictor": {"TreePredictor"},
    "sklearn.pipeline": {"Pipeline"},
    "sklearn.preprocessing._encoders": {"OrdinalEncoder"},
    "sklearn.preprocessing._function_transformer": {"FunctionTransformer"},
}


class RestrictedUnpickler(pickle.Unpickler):
    """Gibt nur Namen heraus, die auf der Freigabeliste stehen."""

    def find_class(self, module: str, name: str) -> object:
        """Wird für jeden Namen in der Datei gefragt, bevor ihn etwas aufruft."""
        if name not in ALLOWED.get(module, ()):
            raise UnusableModelError(f"{module}.{name} ist nicht freigegeben. Nicht geladen.")
        return super().find_class(module, name)


def save(pipeline: Pipeline, folder: Path) -> list[str]:
    """Schreibt das Modell unterschrieben; gibt die Namen der Dateien zurück."""
    return signed.write(folder, MODEL, pickle.dumps(pipeline, protocol=PROTOCOL))


def load(folder: Path) -> tuple[Pipeline, str]:
    """Prüft die Unterschrift und lädt mit der Freigabeliste; gibt auch die Version zurück."""
    data = signed.read(folder, MODEL)
    return RestrictedUnpickler(io.BytesIO(data)).load(), MODEL_VERSION


if __name__ == "__main__":
    sys.exit(command_line("Preismodell als unterschriebene pickle-Datei", save, load))
