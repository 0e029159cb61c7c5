"""Vom Commit bis in den Betrieb: Prüfungen, Gate, Image, Canary und Rollback als Programme."""
