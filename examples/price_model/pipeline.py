"""Die Pipeline des Preismodells, vor dem Training."""

from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OrdinalEncoder

from examples.price_model.schema import CATEGORIES


def build_pipeline() -> Pipeline:
    """Gibt Vorverarbeitung und Modell als eine untrainierte Pipeline zurück.

    Ohne Skalierung: Bäume brauchen sie nicht, und in ONNX verschöbe sie Werte in
    float32 über die Schwellen der Bäume.
    """
    encoder = OrdinalEncoder(categories=[list(grades) for grades in CATEGORIES.values()])
    prepare = ColumnTransformer([("grades", encoder, list(CATEGORIES))], remainder="passthrough")
    model = HistGradientBoostingRegressor(max_iter=300, random_state=0)
    return Pipeline([("prepare", prepare), ("model", model)])
