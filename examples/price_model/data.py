"""Daten des Falls: 53 940 Diamanten aus dem Paket plotnine, ohne Download."""

import hashlib
from importlib.metadata import distribution

import pandas as pd

from examples.price_model.schema import CATEGORIES, FEATURES

TARGET = "price"


def load_diamonds() -> tuple[pd.DataFrame, dict[str, int]]:
    """Gibt die bereinigten Daten zurück und wie viele Zeilen dabei entfielen.

    Entfernt werden Steine mit einer Kantenlänge von 0 mm und Duplikate.
    Duplikate müssen vor der Teilung weg, sonst steht derselbe Stein in beiden Teilen.
    """
    # Nur diese Datei: `plotnine.data` liest alle Datensätze und lädt die ganze Zeichenbibliothek.
    diamonds = pd.read_csv(distribution("plotnine").locate_file("plotnine/data/diamonds.csv"))
    possible = diamonds[(diamonds[["x", "y", "z"]] > 0).all(axis="columns")]
    clean = possible.drop_duplicates().reset_index(drop=True)
    # ONNX und skops kennen den pandas-Typ category nicht.
    clean = clean[[*FEATURES, TARGET]].astype(dict.fromkeys(CATEGORIES, object))
    rows = {
        "raw": len(diamonds),
        "zero_dimension": len(diamonds) - len(possible),
        "duplicate": len(possible) - len(clean),
        "used": len(clean),
    }
    return clean, rows


def split(
    table: pd.DataFrame,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.Series, pd.Series]:
    """Teilt in X_train, X_test, y_train, y_test; immer gleich, 20 % Testdaten."""
    # Erst hier: Wer nur die Daten braucht, etwa der Preisrechner, lädt scikit-learn nicht.
    from sklearn.model_selection import train_test_split

    return train_test_split(table[list(FEATURES)], table[TARGET], test_size=0.2, random_state=0)


def fingerprint(table: pd.DataFrame) -> str:
    """Gibt den SHA-256 des Tabelleninhalts als Hexzeichen zurück."""
    content = table.to_csv(index=False, lineterminator="\n")
    return hashlib.sha256(content.encode()).hexdigest()
