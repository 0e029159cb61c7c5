"""Drei Fragen vor jedem Deployment: Stimmen die Daten, der Code, das Modell?"""
