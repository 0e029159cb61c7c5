"""Das Modell eines Offline-Laufs ohne Server aus der Ablage holen, mit Prüfsumme."""

import argparse
import base64
import hashlib
import sys
from pathlib import Path

from examples.experiment_tracking_wandb import offline, summary
from examples.price_model.storage import write_together


def fetch(folder: Path, target: Path) -> list[str]:
    """Kopiert das Modell des jüngsten Laufs, der eines hat, nach `target`."""
    for path in reversed(summary.logs(folder)):
        for artifact in summary.of_type(summary.records(path), "artifact"):
            if artifact["name"] == offline.MODEL_ARTIFACT:
                contents = artifact["manifest"]["contents"]
                # Der Lauf kann von jemand anderem stammen; ein Pfad führte aus dem Ziel hinaus.
                if any(Path(entry["path"]).name != entry["path"] for entry in contents):
                    reason = "Das Artefakt nennt einen Pfad statt eines Dateinamens."
                    raise offline.TrackingError(reason)
                files = {entry["path"]: verified(entry) for entry in contents}
                return write_together(target, files)
    raise offline.TrackingError(f"In {folder.name}/ liegt kein Lauf mit einem Modell.")


def verified(entry: dict) -> bytes:
    """Liest eine Datei aus der Ablage; fehlt sie oder ist sie verändert, ist das ein Fehler."""
    try:
        data = Path(entry["local_path"]).read_bytes()
    except OSError as error:
        reason = f"{entry['path']} liegt nicht mehr in der Ablage; der Lauf kennt nur den Pfad."
        raise offline.TrackingError(reason) from error
    # Die Prüfsumme im Verzeichnis des Artefakts ist MD5: gegen Versehen, nicht gegen Absicht.
    if base64.b64encode(hashlib.md5(data).digest()).decode() != entry["digest"]:
        raise offline.TrackingError(f"{entry['path']} wurde seit dem Lauf verändert.")
    return data


def main() -> int:
    """Holt das Modell; ein Fehler ist eine Zeile und der Exitcode 1."""
    parser = argparse.ArgumentParser(description="Das Modell aus einem Offline-Lauf holen")
    parser.add_argument("folder", type=Path, help="der Ordner mit wandb/")
    parser.add_argument("target", type=Path, help="wohin das Modell kopiert wird")
    arguments = parser.parse_args()
    return offline.as_json(lambda: fetch(arguments.folder, arguments.target))


if __name__ == "__main__":
    sys.exit(main())
