"""Experiment-Tracking mit MLflow: jeder Versuch ein Lauf mit Herkunft, Zahlen und Modell."""
