"""Ersatz für CoreDNS: schreibt die Services des Clusters in einen Ordner, den dnsmasq liest.

Aufruf: python3 service_names.py ORDNER ZERTIFIKAT TOKENDATEI
"""

import json
import ssl
import sys
import time
import urllib.request
from pathlib import Path

# Direkt gefragt: Jede Sekunde ein kubectl zu starten, kostete ein Fünftel eines Kerns.
SERVICES = "https://127.0.0.1:6443/api/v1/services"
EVERY_SECONDS = 1


def names(token: str, context: ssl.SSLContext) -> str:
    """Gibt je Service mit eigener Adresse eine Zeile „Adresse Name“ zurück."""
    request = urllib.request.Request(SERVICES, headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=10, context=context) as response:
        found = json.load(response)
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
    context = ssl.create_default_context(cafile=sys.argv[2])
    token = Path(sys.argv[3]).read_text(encoding="utf-8").split(",")[0]
    while True:
        try:
            current = names(token, context)
        except (OSError, ValueError) as error:
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
