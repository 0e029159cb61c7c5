"""Ein Keras-Modell mit Vorverarbeitung im Graphen, ausgeliefert als SavedModel ohne Keras."""

import os

# Gilt nur vor dem Import von TensorFlow. oneDNN rechnet je nach Prozessor in anderer
# Reihenfolge; die letzten Stellen wären dann von Rechner zu Rechner verschieden.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
# Hinweise zum Prozessor stören die Ausgabe; was scheitert, bleibt eine Ausnahme.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
