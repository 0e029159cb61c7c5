"""Deutsche Worte für die Oberflächen: Merkmale, Stufen, Zahlen."""

LABELS = {
    "carat": "Gewicht (Karat)",
    "cut": "Schliff",
    "color": "Farbe",
    "clarity": "Reinheit",
    "depth": "Gesamthöhe (% des Durchmessers)",
    "table": "Tafelbreite (% des Durchmessers)",
    "x": "Länge (mm)",
    "y": "Breite (mm)",
    "z": "Höhe (mm)",
}
HINTS = {
    "carat": "1 Karat sind 0,2 Gramm.",
    "cut": "Wie gut der Stein das Licht zurückwirft.",
    "color": "Je weniger Gelb, desto wertvoller.",
    "clarity": "Wie leicht Einschlüsse unter zehnfacher Lupe zu finden sind.",
}
# Von der schlechtesten zur besten Stufe, wie im Schema.
GRADES = {
    "cut": {
        "Fair": "viel Licht geht verloren",
        "Good": "gute Brillanz",
        "Very Good": "sehr gute Brillanz",
        "Premium": "hohe Brillanz",
        "Ideal": "höchste Brillanz",
    },
    "color": {
        "J": "fast farblos, unterste Stufe",
        "I": "fast farblos",
        "H": "fast farblos",
        "G": "fast farblos, oberste Stufe",
        "F": "farblos, unterste Stufe",
        "E": "farblos",
        "D": "farblos, oberste Stufe",
    },
    "clarity": {
        "I1": "sofort zu sehen",
        "SI2": "leicht zu sehen",
        "SI1": "zu sehen",
        "VS2": "mit etwas Mühe zu sehen",
        "VS1": "mit Mühe zu sehen",
        "VVS2": "schwer zu finden",
        "VVS1": "kaum zu finden",
        "IF": "innen keine",
    },
}


def german(number: float, digits: int = 0) -> str:
    """Schreibt eine Zahl mit Dezimalkomma und schmalem, geschütztem Leerzeichen."""
    return f"{number:,.{digits}f}".translate({ord(","): "\u202f", ord("."): ","})
