"""Den Dienst in einem Pod mit SIGKILL beenden: `python -m examples.kubernetes_cluster.crash price`.

So endet ein Prozess, dem der Speicher ausgeht: ohne Abschied, mitten in der Antwort. Braucht
faults/shared_processes, denn als Prozess 1 seines Containers wäre er vor dem Signal geschützt.
"""

import sys

from examples.kubernetes_cluster.kubectl import ClusterError, as_command, items, ready, run
from examples.kubernetes_cluster.state import restarts

# Läuft im Pod, ohne Shell und ohne `pkill`; der eigene Prozess nennt den Namen auch.
KILL = """
import os, pathlib
for entry in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
    number = int(entry.parent.name)
    if number not in (1, os.getpid()) and b"metered:app" in entry.read_bytes():
        os.kill(number, 9)
        print("beendet")
"""


def crash(namespace: str) -> str:
    """Beendet den Dienst in einem bereiten Pod."""
    # Wer schon einmal neu gestartet ist, müsste vor dem nächsten Mal warten.
    pods = sorted(filter(ready, items(namespace, "pods")), key=restarts)
    if not pods:
        raise ClusterError(f"Im Namensraum {namespace} ist kein Pod bereit.")
    name = pods[0]["metadata"]["name"]
    said = run(["kubectl", "-n", namespace, "exec", name, "--", "python", "-c", KILL])
    if "beendet" not in said:
        raise ClusterError(f"In {name} ist der Dienst Prozess 1; kill -9 wirkt dort nicht.")
    return "Der Dienst eines Pods ist beendet."


if __name__ == "__main__":
    sys.exit(as_command("crash NAMENSRAUM", crash))
