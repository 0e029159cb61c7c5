"""Ersatz für CoreDNS: schreibt die Services des Clusters in einen Ordner, den dnsmasq liest.

Aufruf: python3 service_names.py ORDNER ZERTIFIKAT TOKENDATEI
"""

import json
import ssl
import sys
import time
from http.client import HTTPException, HTTPSConnection
from pathlib import Path

EVERY_SECONDS = 1


def names(server: HTTPSConnection, token: str) -> str:
    """Gibt je Service mit eigener Adresse eine Zeile „Adresse Name“ zurück."""
    server.request("GET", "/api/v1/services", headers={"Authorization": f"Bearer {token}"})
    response = server.getresponse()
    if response.status != 200:
        raise OSError(f"Der API-Server antwortet mit {response.status}.")
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
    # Eine Verbindung für alle Fragen: Jede Sekunde ein kubectl zu starten, kostete ein Fünftel
    # eines Kerns, und auch jede neue Verbindung rechnet auf beiden Seiten.
    server = HTTPSConnection("127.0.0.1", 6443, timeout=10, context=context)
    while True:
        try:
            current = names(server, token)
        except (OSError, ValueError, HTTPException) as error:
            print(error, flush=True)  # der API-Server antwortet gerade nicht
            server.close()  # die nächste Frage verbindet neu
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
