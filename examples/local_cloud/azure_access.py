"""Wer bei Azure was darf: Token, Rollen und die Aktion, die zu einem Aufruf gehört."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from examples.local_cloud.service import Refusal, Request, say

VERBS = {"GET": "read", "HEAD": "read", "PUT": "write", "PATCH": "write", "DELETE": "delete"}
VARIABLE = "LOCAL_AZURE_TOKENS"
# Status, Fehlerwort und Wortlaut; englisch wie bei Azure.
ERRORS = json.loads(Path(__file__).with_name("azure_errors.json").read_text(encoding="utf-8"))


def refusal(name: str, /, **values: object) -> Refusal:
    """Eine Absage, wie Azure sie formuliert."""
    status, code, message = ERRORS[name]
    return Refusal(status, message.format(**values), code)


@dataclass
class Principal:
    """Ein Mensch oder eine Pipeline mit genau einer Rolle."""

    name: str
    role: dict = field(default_factory=dict)

    def may(self, action: str) -> bool:
        """Erlaubt ist, was `Actions` nennt und `NotActions` nicht wieder ausnimmt."""
        return matches(action, self.role.get("Actions", [])) and not matches(
            action, self.role.get("NotActions", [])
        )


class Access:
    """Die Token, die gelten; wie bei Azure trägt jeder Aufruf eines im Header."""

    def __init__(self) -> None:
        known = json.loads(os.environ.get(VARIABLE, "{}"))
        self._principals = {token: Principal(**principal) for token, principal in known.items()}

    def caller(self, request: Request) -> Principal:
        """Wer fragt; ohne gültiges Token eine Absage."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer" or token not in self._principals:
            raise refusal("bad_token")
        return self._principals[token]

    def check(self, caller: Principal, action: str, scope: str) -> None:
        """Lehnt ab, was die Rolle nicht erlaubt, und schreibt alles auf."""
        say(f"{action} ({caller.name})")
        if not caller.may(action):
            raise refusal("denied", who=caller.name, action=action, scope=scope)


def matches(action: str, patterns: list[str]) -> bool:
    """Azure unterscheidet Groß und Klein nicht, und * steht für beliebig viel."""
    return any(fnmatchcase(action.lower(), pattern.lower()) for pattern in patterns)


def action_of(method: str, path: str) -> tuple[str, str]:
    """Die Aktion eines Aufrufs und die Ressource, um die es geht.

    Aus `PUT …/workspaces/w/onlineEndpoints/e` wird `…/workspaces/onlineEndpoints/write`,
    aus `POST …/onlineEndpoints/e/listKeys` wird `…/onlineEndpoints/listKeys/action`.
    """
    scope, found, tail = path.rpartition("/providers/")
    if not found:  # eine Auflistung über die Ressourcengruppe
        return "Microsoft.Resources/subscriptions/resourceGroups/resources/read", path
    provider, *parts = tail.strip("/").split("/")
    kinds, verb = parts[::2], VERBS.get(method, "action")
    if verb == "action":
        parts = parts[:-1]
    return "/".join([provider, *kinds, verb]), "/".join([scope, "providers", provider, *parts])
