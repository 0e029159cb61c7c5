"""Was der Space ausführt: das Modell vom Hub holen, dann den Preisrechner starten.

Im Space liegt diese Datei ganz oben, daneben der Ordner `examples` mit dem Preisrechner.
"""

import os
import sys

import uvicorn
from huggingface_hub import snapshot_download
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError


def fetch_model() -> str:
    """Lädt das Modell der Variablen MODEL_REPO und gibt den Ordner zurück."""
    repository = os.environ.get("MODEL_REPO")
    if not repository:
        sys.exit("Es fehlt die Variable MODEL_REPO.")
    try:
        return snapshot_download(repository, revision=os.environ.get("MODEL_REVISION"))
    except RevisionNotFoundError:
        sys.exit(f"Diesen Stand kennt {repository} nicht: MODEL_REVISION prüfen.")
    except RepositoryNotFoundError:
        sys.exit(f"Kein Zugang zu {repository}: Fehlt das Secret HF_TOKEN?")
    except (OSError, ValueError) as error:  # Schlüssel ungültig, Hub nicht da, Name falsch
        sys.exit(f"Das Modell lässt sich nicht holen: {error}")


def main() -> None:
    """Startet auf der Adresse, die der Space vorgibt."""
    os.environ["PRICE_MODEL_DIR"] = fetch_model()
    # Ein Space setzt das auf true; dann nähme ein Node-Server beim Import schon Port 7860.
    os.environ["GRADIO_SSR_MODE"] = "False"
    from examples.gradio_app.app import app  # liest beim Import, wo das Modell liegt

    # In den Container muss der Hub hinein, auf den eigenen Rechner niemand.
    default = "0.0.0.0" if "SPACE_ID" in os.environ else "127.0.0.1"
    host = os.environ.get("GRADIO_SERVER_NAME", default)
    port = int(os.environ.get("GRADIO_SERVER_PORT", "7860"))
    uvicorn.run(app, host=host, port=port, log_level="warning")


if __name__ == "__main__":
    main()
