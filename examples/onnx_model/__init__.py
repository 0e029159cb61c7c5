"""Das Preismodell als ONNX-Datei betreiben, ohne pandas und ohne scikit-learn."""
