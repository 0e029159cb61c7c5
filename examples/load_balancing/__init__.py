"""Lastverteilung: mehrere Prozesse hinter einer Adresse."""
