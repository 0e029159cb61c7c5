"""Ersatz für CoreDNS: schreibt die Services des Clusters in einen Ordner, den dnsmasq liest."""

import json
import subprocess
import sys
import time
from pathlib import Path

EVERY_SECONDS = 1


def names() -> str:
    """Gibt je Service mit eigener Adresse eine Zeile „Adresse Name“ zurück."""
    command = ["kubectl", "get", "services", "--all-namespaces", "--output", "json"]
    found = json.loads(subprocess.run(command, capture_output=True, timeout=10).stdout)
    lines = []
    for service in found["items"]:
        address = service["spec"].get("clusterIP", "None")
        meta = service["metadata"]
        if address not in ("None", ""):
            lines.append(f"{address} {meta['name']}.{meta['namespace']}.svc.cluster.local\n")
    return "".join(sorted(lines))


def main() -> None:
    """Gleicht die Datei ab, solange der Cluster läuft."""
    folder, written = Path(sys.argv[1]), None
    while True:
        try:
            current = names()
        except (ValueError, subprocess.TimeoutExpired) as error:
            print(error, flush=True)  # der API-Server antwortet gerade nicht
        else:
            if current != written:
                # dnsmasq liest jede Datei im Ordner, auch eine halbe: erst daneben schreiben.
                partial = folder.with_suffix(".part")
                partial.write_text(current)
                partial.replace(folder / "services")
                written = current
        time.sleep(EVERY_SECONDS)


if __name__ == "__main__":
    main()
