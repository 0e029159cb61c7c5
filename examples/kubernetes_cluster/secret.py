"""Ein Secret mit zufälligem Inhalt anlegen: `python -m examples.kubernetes_cluster.secret price`.

Der Wert entsteht hier, geht über die Standardeingabe an kubectl und steht danach nur im Cluster:
in keiner Datei, in keiner Prozessliste und in keiner Ausgabe.
"""

import base64
import json
import secrets
import sys

from examples.kubernetes_cluster.kubectl import as_command, run

NAME, KEY = "price-secret", "api-key"


def manifest(value: str) -> dict:
    """Das Secret als Objekt; base64 ist eine Schreibweise, keine Verschlüsselung."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": NAME},
        "type": "Opaque",
        "data": {KEY: base64.b64encode(value.encode()).decode()},
    }


def create(namespace: str) -> str:
    """Legt das Secret an oder gibt ihm einen neuen Wert."""
    # --server-side: sonst stünde der Wert ein zweites Mal in einer Anmerkung des Objekts.
    apply = ["kubectl", "-n", namespace, "apply", "--server-side", "-f", "-"]
    run(apply, stdin=json.dumps(manifest(secrets.token_urlsafe(32))))
    return f"{NAME} hat einen neuen, zufälligen Wert."


if __name__ == "__main__":
    sys.exit(as_command("secret NAMENSRAUM", create))
