"""Was Anleitungen von 2023 schreiben, zuletzt ein alter Aufruf mit neuem Import.

`compare` führt es in der Umgebung des Kapitels aus.
"""

OLD = [
    "from evidently.report import Report",
    "from evidently.metric_preset import DataDriftPreset",
    "from evidently.test_suite import TestSuite",
    "from evidently.dashboard import Dashboard",
    "from evidently import ColumnMapping",
    "from evidently import Report; Report(metrics=[]).run(reference_data=1, current_data=2,"
    " column_mapping=None)",
]


def attempt(statement: str) -> str:
    """Führt eine Zeile aus und gibt die Meldung zurück, ohne Pfade der Maschine."""
    try:
        exec(statement, {})
    except Exception as error:
        return f"{type(error).__name__}: {str(error).split(' (')[0]}"
    return "läuft"
