"""Baut ein Image mit einer neuen Modellversion: python -m examples.compose_stack.release 1.1.0.

Das Modell darin ist dasselbe und trägt nur eine andere Nummer. So lässt sich beim Ersetzen an
jeder Antwort ablesen, welches Image sie gab, und jeder Preis bleibt vergleichbar.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from examples.price_model.predict import ARTIFACTS, ModelMissingError, load_metadata

DOCKERFILE = Path(__file__).parent / "release" / "Dockerfile"


def build(version: str, artifacts: Path = ARTIFACTS) -> None:
    """Legt metadata.json mit der neuen Version über die alte und baut das Image."""
    metadata = load_metadata(artifacts) | {"model_version": version}
    with tempfile.TemporaryDirectory() as context:
        path = Path(context) / "metadata.json"
        path.write_text(json.dumps(metadata, ensure_ascii=False), encoding="utf-8")
        # Im Image liest sie ein anderer Benutzer, als der, der sie hier schreibt.
        path.chmod(0o644)
        command = ["docker", "build", "--quiet", "--file", str(DOCKERFILE)]
        command += ["--tag", f"price-api:{version}", context]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def main() -> int:
    """Baut und nennt das Image; Fehler sind ein Satz auf Deutsch."""
    if len(sys.argv) != 2 or not re.fullmatch(r"\d+\.\d+\.\d+", sys.argv[1]):
        print("Aufruf: python -m examples.compose_stack.release 1.1.0", file=sys.stderr)
        return 2
    try:
        build(sys.argv[1])
    except ModelMissingError as error:
        print(error, file=sys.stderr)
        return 1
    except FileNotFoundError:
        print("Docker ist nicht installiert.", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError:
        print(
            "Das Image ließ sich nicht bauen. Fehlt price-api:1.0.0? "
            "Zuerst ausführen: python -m examples.docker_image.build",
            file=sys.stderr,
        )
        return 1
    print(f"price-api:{sys.argv[1]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
