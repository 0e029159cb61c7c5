"""Token und Zertifikat für die Nachbildung, frisch erzeugt, mit den Rechten aus roles/.

Aufruf: python -m examples.azure_ml_endpoint.access ORDNER
Schreibt Zertifikate in den Ordner und nennt als JSON die Umgebungsvariablen für die Nachbildung
und für das SDK sowie je Rolle ein Token. In der echten Cloud stellt Microsoft Entra ID Token aus.
"""

import json
import secrets
import sys
from pathlib import Path

import trustme

ROLES = Path(__file__).parent / "roles"
OWNER = {"Name": "Owner", "Actions": ["*"], "NotActions": []}


def create(folder: Path) -> dict:
    """Erzeugt alles und gibt zurück, wohin es gehört."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "authority.pem")
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    roles = {path.stem: json.loads(path.read_text("utf-8")) for path in ROLES.glob("*.json")}
    roles["owner"] = OWNER
    tokens = {name: secrets.token_urlsafe(32) for name in roles}
    known = {tokens[name]: {"name": name, "role": role} for name, role in roles.items()}
    trusted = str(folder / "authority.pem")
    return {
        "tokens": tokens,
        "server": {
            "LOCAL_AZURE_TOKENS": json.dumps(known),
            "LOCAL_AZURE_CERTIFICATE": str(folder / "server.pem"),
        },
        # Das SDK liest die eine Variable, Python selbst die andere.
        "client": {"REQUESTS_CA_BUNDLE": trusted, "SSL_CERT_FILE": trusted},
    }


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"Aufruf: python -m {__spec__.name} ORDNER")
    try:
        print(json.dumps(create(Path(sys.argv[1]))))
    except OSError as error:
        sys.exit(f"Die Zertifikate lassen sich nicht schreiben: {error}")
