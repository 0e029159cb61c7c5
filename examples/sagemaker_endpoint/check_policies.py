"""Policies prüfen, bevor sie gelten: gegen die Liste der Aktionen und Ressourcen von AWS.

Aufruf: python -m examples.sagemaker_endpoint.check_policies DATEI …
Nennt je Befund Datei, Art und Stelle; ohne Befund steht da „in Ordnung“. Exitcode 1 bei Befunden.
"""

import json
import warnings
from pathlib import Path

from examples.local_cloud import role_files

with warnings.catch_warnings():
    # parliament benutzt pkg_resources, das in setuptools ausläuft.
    warnings.simplefilter("ignore", UserWarning)
    import parliament


def findings(path: Path) -> list[str]:
    """Alle Befunde einer Datei als Text."""
    text = path.read_text(encoding="utf-8")
    found = [describe(finding) for finding in parliament.analyze_policy_string(text).findings]
    if any(finding.startswith("MALFORMED") for finding in found):
        return found
    # Gültig ist ein Stern überall; die geringsten Rechte sind es nicht.
    granted = [
        action
        for statement in as_list(json.loads(text)["Statement"])
        for action in as_list(statement.get("Action", "*"))
    ]
    return found + [f"WILDCARD_ACTION {action}" for action in granted if "*" in action]


def as_list(value: object) -> list:
    """Policies schreiben einen Wert auch ohne Liste."""
    return value if isinstance(value, list) else [value]


def describe(finding: parliament.finding.Finding) -> str:
    """Art des Befunds und woran er hängt."""
    place = finding.location or {}
    parts = [finding.issue, str(finding.detail or ""), str(place.get("action", ""))]
    return " ".join(part for part in parts if part)


if __name__ == "__main__":
    role_files.check(findings)
