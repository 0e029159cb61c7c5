"""Nachbildungen von Cloud-Plattformen auf dem eigenen Rechner, gefragt von den echten SDKs.

Nachgebildet ist nur, was die Kapitel benutzen; alles andere wird mit dem Namen des Aufrufs
abgelehnt. Verglichen mit den echten Plattformen hat sie niemand: Sie antworten so, wie die
SDKs und die Dokumentation es verlangen.
"""
