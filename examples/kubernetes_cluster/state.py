"""Warten, bis der Cluster einen Zustand meldet, und sagen, wer dann noch bedient.

Aufruf: `python -m examples.kubernetes_cluster.state price OOMKilled`
Kubernetes meldet Gründe an vier Stellen: am Container, an seinem letzten Ende, am Pod und am
Deployment. Gewartet wird auf einen der genannten, egal wo er steht.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator

from examples.kubernetes_cluster.kubectl import APP, ClusterError, items, ready, replaced


def container_reasons(pod: dict) -> Iterator[str]:
    """Nennt, warum ein Container wartet, endete oder schon einmal endete."""
    for container in pod["status"].get("containerStatuses", []):
        for when in ("state", "lastState"):
            for how in ("waiting", "terminated"):
                yield container.get(when, {}).get(how, {}).get("reason", "")


def condition_reasons(thing: dict) -> Iterator[str]:
    """Nennt die Gründe, aus denen eine Bedingung nicht erfüllt ist."""
    for condition in thing["status"].get("conditions", []):
        if condition["status"] == "False":
            yield condition.get("reason", "")


def restarts(pod: dict) -> int:
    """Wie oft der Container dieses Pods neu gestartet wurde."""
    return sum(c["restartCount"] for c in pod["status"].get("containerStatuses", []))


def seen(namespace: str) -> tuple[set[str], list[dict]]:
    """Gibt alle gemeldeten Gründe und die Pods des Dienstes zurück."""
    pods = items(namespace, "pods")
    found = {reason for pod in pods for reason in container_reasons(pod)}
    found |= {
        r for thing in items(namespace, "deployments") + pods for r in condition_reasons(thing)
    }
    return found, pods


def wait_for(namespace: str, reasons: list[str], storm: int, timeout: float) -> dict:
    """Wartet auf einen der Gründe oder darauf, dass jeder Pod `storm` Mal neu gestartet ist."""
    deadline = time.monotonic() + timeout
    while True:
        found, pods = seen(namespace)
        hits = sorted(found & set(reasons))
        # Erst wenn keine alten Pods mehr da sind: Deren Neustarts haben andere Gründe.
        stormy = bool(storm and pods) and all(restarts(pod) >= storm for pod in pods)
        stormy = stormy and replaced(namespace)
        if hits or stormy:
            serving = sum(map(ready, pods))
            return {"seen": hits[0] if hits else "neu gestartet", "still_ready": serving}
        if time.monotonic() > deadline:
            told = ", ".join(sorted(found - {""})) or "nichts"
            wanted = ", ".join(reasons) or f"{storm} Neustarts je Pod"
            raise ClusterError(f"Nach {timeout:g} s noch nicht: {wanted}. Gemeldet ist: {told}.")
        time.sleep(1)


def main() -> int:
    """Zeigt den Zustand als eine Zeile JSON; ein Fehler ist eine Zeile und der Exitcode 1."""
    parser = argparse.ArgumentParser(description=f"Auf einen Zustand der Pods mit {APP} warten.")
    parser.add_argument("namespace", help="Namensraum mit dem Dienst")
    parser.add_argument("reasons", nargs="*", help="Gründe, auf die gewartet wird")
    parser.add_argument("--restarts", type=int, default=0, help="oder Neustarts je Pod")
    parser.add_argument("--timeout", type=float, default=90, help="Geduld in Sekunden")
    options = parser.parse_args()
    if not options.reasons and not options.restarts:
        parser.error("Worauf soll gewartet werden? Ein Grund oder --restarts fehlt.")
    try:
        print(
            json.dumps(
                wait_for(options.namespace, options.reasons, options.restarts, options.timeout),
                ensure_ascii=False,
            )
        )
    except ClusterError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
