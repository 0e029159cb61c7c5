"""Modell-Registry mit MLflow: freigeben, umsetzen, zurücknehmen, und ein Dienst, der folgt."""
