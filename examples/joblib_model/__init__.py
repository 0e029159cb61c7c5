"""Das Preismodell als joblib-Datei mit Beipackzettel."""
