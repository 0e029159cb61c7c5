"""Rollen prüfen, bevor sie gelten: Form, Umfang und ob es die Aktionen gibt.

Aufruf: python -m examples.azure_ml_endpoint.check_roles DATEI …
Welche Aktionen es gibt, ergibt sich aus den Aufrufen, die das SDK `azure-ai-ml` kennt: Azure
benennt sie nach deren Adressen. Nennt je Datei die Befunde; Exitcode 1, wenn es welche gibt.
"""

import functools
import importlib.util
import json
import re
from pathlib import Path

import jsonschema

from examples.local_cloud import role_files
from examples.local_cloud.azure_access import action_of

# Nur diese Aktion gehört zu keinem Aufruf der Steuerungsebene: eine Frage an den Endpunkt.
SCORE = "Microsoft.MachineLearningServices/workspaces/onlineEndpoints/score/action"
CALLS = "azure/ai/ml/_restclient/arm_ml_service/operations/_operations.py"
CALL = re.compile(
    r'_url = (?:\(\s*)?"(/subscriptions/[^"]+)".*?HttpRequest\(method="(\w+)"', re.DOTALL
)
TEXTS = {"type": "array", "items": {"type": "string"}}
SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["Name", "IsCustom", "Description", "Actions", "AssignableScopes"],
    "properties": {
        "Name": {"type": "string", "minLength": 1},
        "IsCustom": {"const": True},
        "Description": {"type": "string"},
        "Actions": {**TEXTS, "minItems": 1},
        "NotActions": TEXTS,
        "DataActions": TEXTS,
        "NotDataActions": TEXTS,
        "AssignableScopes": {
            "type": "array",
            "minItems": 1,
            # Nicht das ganze Abonnement: Eine Ressourcengruppe genügt.
            "items": {"pattern": r"^/subscriptions/[0-9a-f-]{36}/resourceGroups/[\w.()-]+$"},
        },
    },
}


@functools.cache
def known_actions() -> set[str]:
    """Alle Aktionen zu den Aufrufen des SDK, klein geschrieben."""
    package = importlib.util.find_spec("azure.ai.ml").submodule_search_locations[0]
    text = (Path(package).parents[2] / CALLS).read_text(encoding="utf-8")
    found = {action_of(method, url)[0].lower() for url, method in CALL.findall(text)}
    return found | {SCORE.lower()}


def findings(path: Path) -> list[str]:
    """Alle Befunde einer Datei als Text."""
    try:
        role = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        return [f"nicht lesbar: {error}"]
    errors = jsonschema.Draft202012Validator(SCHEMA).iter_errors(role)
    found = [f"{'.'.join(map(str, e.path)) or 'Rolle'}: {e.message}" for e in errors]
    if found:
        return found
    for action in role["Actions"] + role.get("DataActions", []):
        if "*" in action:
            found.append(f"Stern: {action}")
        elif action.lower() not in known_actions():
            found.append(f"unbekannt: {action}")
    return found


if __name__ == "__main__":
    role_files.check(findings)
