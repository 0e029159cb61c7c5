"""`kubectl` aufrufen: mit Frist und mit Fehlern, die sagen, was zu tun ist."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable

TIMEOUT_SECONDS = 120
APP = "app=price-api"


class ClusterError(RuntimeError):
    """Ein Befehl an den Cluster ist gescheitert oder hat zu lange gedauert."""


def run(command: list[str], stdin: str | None = None) -> str:
    """Führt `command` aus und gibt die Standardausgabe zurück."""
    if shutil.which(command[0]) is None:
        raise ClusterError(f"{command[0]} fehlt auf diesem Rechner.")
    try:
        done = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            encoding="utf-8",
            timeout=TIMEOUT_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise ClusterError(
            f"{command[0]} war nach {TIMEOUT_SECONDS} s nicht fertig: {' '.join(command[:4])} …"
        ) from None
    if done.returncode:
        raise ClusterError(f"{' '.join(command[:4])} …: {done.stderr.strip()}")
    return done.stdout


def items(namespace: str, kind: str, selector: str = APP) -> list[dict]:
    """Gibt alle Objekte einer Art mit diesem Label zurück."""
    return json.loads(run(["kubectl", "-n", namespace, "get", kind, "-l", selector, "-o", "json"]))[
        "items"
    ]


def ready(pod: dict) -> bool:
    """Sagt, ob ein Pod Anfragen bekommt; einer, der gerade geht, zählt nicht."""
    conditions = {c["type"]: c["status"] for c in pod["status"].get("conditions", [])}
    return conditions.get("Ready") == "True" and "deletionTimestamp" not in pod["metadata"]


def replaced(namespace: str) -> bool:
    """Sagt, ob jedes Deployment nur noch Pods seiner letzten Fassung hat."""
    for deployment in items(namespace, "deployments"):
        status, wanted = deployment["status"], deployment["spec"]["replicas"]
        if status.get("observedGeneration") != deployment["metadata"]["generation"]:
            return False
        if not wanted == status.get("updatedReplicas", 0) == status.get("replicas", 0):
            return False
    return True


def as_command(usage: str, action: Callable[[str], str]) -> int:
    """Ruft `action` mit dem einen Argument der Befehlszeile und zeigt den Satz, den sie gibt.

    Ein Fehler ist eine Zeile und der Exitcode 1, ein falscher Aufruf 2.
    """
    if len(sys.argv) != 2:
        print(f"Aufruf: python -m examples.kubernetes_cluster.{usage}", file=sys.stderr)
        return 2
    try:
        print(action(sys.argv[1]))
    except ClusterError as error:
        print(error, file=sys.stderr)
        return 1
    return 0
