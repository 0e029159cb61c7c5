"""Drift: bauen, messen und in den Zeilen eines laufenden Dienstes finden."""
