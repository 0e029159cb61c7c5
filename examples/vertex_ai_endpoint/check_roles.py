"""Rollen prüfen, bevor sie gelten: Form, Rechte, die es gibt, und keines, das mehr verschafft.

Aufruf: python -m examples.vertex_ai_endpoint.check_roles DATEI …
Nennt je Datei die Befunde; ohne Befund steht da „in Ordnung“. Exitcode 1 bei Befunden.
"""

import json
from collections import Counter
from pathlib import Path

import yaml

from examples.local_cloud import role_files

KNOWN = Path(__file__).parents[1] / "local_cloud" / "google_permissions.json"
FIELDS = {"title", "description", "stage", "includedPermissions"}
STAGES = ("ALPHA", "BETA", "GA", "DEPRECATED", "DISABLED", "EAP")
# Wer eines davon hat, verschafft sich jedes andere.
ESCALATING = (
    "iam.roles.update",
    "iam.serviceAccounts.getAccessToken",
    "resourcemanager.projects.setIamPolicy",
)


def findings(path: Path) -> list[str]:
    """Alle Befunde einer Rollendatei."""
    try:
        role = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError:
        return ["MALFORMED_YAML"]
    if not isinstance(role, dict):
        return ["MALFORMED_ROLE"]
    found = [f"MISSING_FIELD {name}" for name in sorted(FIELDS - set(role))]
    found += [f"UNKNOWN_FIELD {name}" for name in sorted(set(role) - FIELDS)]
    if role.get("stage") not in STAGES:
        found.append(f"UNKNOWN_STAGE {role.get('stage')}")
    granted = [str(name) for name in role.get("includedPermissions") or []]
    known = set(json.loads(KNOWN.read_text(encoding="utf-8")))
    for name, times in Counter(granted).items():
        if "*" in name:
            found.append(f"WILDCARD_PERMISSION {name}")
        elif name not in known:
            found.append(f"UNKNOWN_PERMISSION {name}")
        if name in ESCALATING:
            found.append(f"ESCALATING_PERMISSION {name}")
        if times > 1:
            found.append(f"DUPLICATE_PERMISSION {name}")
    return found


if __name__ == "__main__":
    role_files.check(findings)
