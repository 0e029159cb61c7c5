"""Die Entscheidungen eines HPA mitschreiben: jede Sekunde eine Zeile JSON.

Aufruf: python -m examples.auto_scaling.record SPUR --until 4 --limit 90
Endet, sobald so viele Replikate gewünscht und bereit sind; nach `limit` Sekunden mit Fehler.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

NAMESPACE = "price-scaling"


METRICS = f"/apis/metrics.k8s.io/v1beta1/namespaces/{NAMESPACE}/pods?labelSelector=app%3D"


def kubectl(*arguments: str) -> dict:
    """Fragt den Cluster nach JSON; ein Fehler wird zu einem deutschen Satz."""
    command = ["kubectl", "--namespace", NAMESPACE, "get", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=20)
    except FileNotFoundError:
        sys.exit("Das Programm `kubectl` ist nicht installiert.")
    except subprocess.TimeoutExpired:
        sys.exit("Der Cluster antwortet nicht.")
    if done.returncode:
        sys.exit(f"`kubectl` meldet: {done.stderr.partition(chr(10))[0]}")
    return json.loads(done.stdout)


def observe(name: str) -> dict:
    """Liest HPA, Deployment und Messwerte.

    `utilization` ist die Auslastung in Prozent der `requests`, `measured` die Zahl der Pods, für
    die es Messwerte gibt; `replicas` und `desired` sind die Zahlen, mit denen der HPA rechnete.
    """
    # Mit Version: Sonst antwortet ein neuer Cluster als autoscaling/v2 mit anderen Feldern.
    hpa = f"horizontalpodautoscalers.v1.autoscaling/{name}"
    found = kubectl(hpa, f"deployment/{name}", "--output", "json")["items"]
    autoscaler, deployment = found
    status = autoscaler["status"]
    return {
        "utilization": status.get("currentCPUUtilizationPercentage"),
        "target": autoscaler["spec"]["targetCPUUtilizationPercentage"],
        "minimum": autoscaler["spec"].get("minReplicas", 1),
        "maximum": autoscaler["spec"]["maxReplicas"],
        "replicas": status["currentReplicas"],
        "desired": status["desiredReplicas"],
        "ready": deployment["status"].get("readyReplicas", 0),
        "measured": len(kubectl("--raw", METRICS + name)["items"]),
    }


def record(path: Path, name: str, until: int, limit: float) -> bool:
    """Schreibt die Spur; wahr, sobald `until` Replikate gewünscht und bereit sind."""
    deadline = time.monotonic() + limit
    with path.open("a", encoding="utf-8", buffering=1) as trace:
        while time.monotonic() < deadline:
            line = {"time": round(time.time(), 1)} | observe(name)
            trace.write(json.dumps(line) + "\n")
            if line["desired"] == line["replicas"] == line["ready"] == until:
                return True
            time.sleep(1)
    return False


def main() -> None:
    """Schreibt mit und sagt, wie viele Replikate am Ende bereit sind."""
    parser = argparse.ArgumentParser(description="Entscheidungen eines HPA mitschreiben")
    parser.add_argument("trace", type=Path, help="Datei, an die angehängt wird")
    parser.add_argument("--name", default="price-api", help="HPA und Deployment")
    parser.add_argument("--until", type=int, required=True, help="so viele bereite Replikate")
    parser.add_argument("--limit", type=float, default=90, help="höchstens so viele Sekunden")
    options = parser.parse_args()
    if not options.trace.parent.is_dir():
        sys.exit(f"Den Ordner für die Spur gibt es nicht: {options.trace.parent}")
    if not record(options.trace, options.name, options.until, options.limit):
        sys.exit(f"Nach {options.limit:g} s waren nicht {options.until} Replikate bereit.")
    print(f"Bereit: {options.until} von {options.name}")


if __name__ == "__main__":
    main()
