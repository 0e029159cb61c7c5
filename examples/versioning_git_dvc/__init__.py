"""Ein kleines Projekt, in dem Git den Code und DVC Daten und Modell versioniert."""
