"""Vom Commit bis in den Betrieb: Prüfungen, Gate, Image, Canary und Rollback als Programme."""

# Wie in price_model.data, dessen Import aber den Datensatz samt Zeichenbibliothek mitbringt.
TARGET = "price"
