"""Was Anleitungen von 2023 schreiben und was Evidently heute dazu sagt.

Aufruf: `python -m examples.drift_detection.outdated`, in der Umgebung des Kapitels.
"""

import json

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


if __name__ == "__main__":
    for line in OLD:
        print(json.dumps({"line": line, "today": attempt(line)}, ensure_ascii=False))
