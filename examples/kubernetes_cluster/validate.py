"""Manifeste streng gegen das Schema der aktuellen Kubernetes-Version prüfen, ohne Cluster.

Aufruf: python -m examples.kubernetes_cluster.validate DATEI ORDNER …
Ein Ordner mit kustomization.yaml wird erst zusammengesetzt. Das Programm kubernetes-validate
warnt bei einer unbekannten Art nur und meldet Erfolg; hier ist sie ein Fehler.
"""

import sys
from pathlib import Path

import yaml

from examples.kubernetes_cluster.kubectl import ClusterError, run

PACKAGE = "kubernetes-validate"


def documents(path: Path) -> list[dict]:
    """Liest alle Objekte einer Datei oder eines Ordners für Kustomize."""
    if not path.exists():
        raise ClusterError(f"{path.name} gibt es nicht.")
    # Bytes: So ist auch ein Bild nur kein YAML.
    text = run(["kubectl", "kustomize", str(path)]) if path.is_dir() else path.read_bytes()
    try:
        found = [document for document in yaml.safe_load_all(text) if document is not None]
    except (yaml.YAMLError, ValueError, RecursionError):
        raise ClusterError(f"{path.name} ist kein gültiges YAML.") from None
    if not found or not all(isinstance(document, dict) for document in found):
        raise ClusterError(f"{path.name} enthält kein Objekt für Kubernetes.")
    return found


def problem(document: dict) -> str:
    """Sagt, was an einem Objekt nicht stimmt; leer, wenn alles stimmt."""
    try:
        import kubernetes_validate as checker
    except ImportError:
        raise ClusterError(f"{PACKAGE} fehlt. Abhilfe: python tools/setup.py all") from None
    try:
        checker.validate(document, checker.latest_version(), strict=True)
    except checker.SchemaNotFoundError:
        return f"{document.get('apiVersion')} kennt die aktuelle Version nicht"
    except checker.ValidationError as error:
        return error.message
    except (checker.InvalidSchemaError, KeyError, AttributeError, IndexError):
        return "apiVersion oder kind fehlt"
    return ""


def main() -> int:
    """Nennt je Objekt das Urteil; Exitcode 1, sobald eines nicht besteht."""
    if len(sys.argv) < 2:
        print("Aufruf: python -m examples.kubernetes_cluster.validate DATEI …", file=sys.stderr)
        return 2
    failed = False
    try:
        for path in map(Path, sys.argv[1:]):
            for document in documents(path):
                reason = problem(document)
                failed = failed or bool(reason)
                print(f"{document.get('kind', path.name)}: {reason or 'gültig'}")
    except ClusterError as error:
        print(error, file=sys.stderr)
        return 1
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
