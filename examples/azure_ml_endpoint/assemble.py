"""Den Ordner zusammenstellen, den das SDK hochlädt: YAML, Code und die beiden Modelle.

Aufruf: python -m examples.azure_ml_endpoint.assemble ZIEL [ENDPUNKT]
Nennt als JSON, was darin liegt. Das SDK lädt ganze Ordner hoch; deshalb liegt hier nur, was
gebraucht wird. Der Name des Endpunkts muss in der Region einmalig sein; hier heißt er `price`.
"""

import json
import re
import shutil
import sys
from pathlib import Path

from examples.price_model.predict import ARTIFACTS, ModelMissingError, load_metadata

HERE = Path(__file__).parent
EXAMPLES = HERE.parent
CONTENT = {
    "code": [
        HERE / "score.py",
        EXAMPLES / "__init__.py",
        *(EXAMPLES / "price_model" / name for name in ("__init__.py", "predict.py", "schema.py")),
    ],
    "sklearn": [ARTIFACTS / "price_model.joblib", ARTIFACTS / "metadata.json"],
    "onnx": [ARTIFACTS / "price_model.onnx", ARTIFACTS / "metadata.json"],
    "": sorted(HERE.glob("*.yml")),
}


def place(folder: str, path: Path) -> str:
    """Der Name im Ordner: Code des Falls als Paket `examples`, alles andere flach."""
    if folder == "code" and path.parent != HERE:
        return f"code/{path.relative_to(EXAMPLES.parent).as_posix()}"
    return f"{folder}/{path.name}".lstrip("/")


def assemble(target: Path, endpoint: str = "price") -> list[str]:
    """Kopiert alles nach `target`, setzt den Endpunkt ein und gibt die Namen zurück."""
    load_metadata()
    names = []
    for folder, paths in CONTENT.items():
        for path in paths:
            names.append(place(folder, path))
            (target / names[-1]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target / names[-1])
    for path in target.glob("*.yml"):
        key = "name" if path.name.endswith("endpoint.yml") else "endpoint_name"
        text = re.sub(f"(?m)^{key}: price$", f"{key}: {endpoint}", path.read_text("utf-8"))
        path.write_text(text, encoding="utf-8")
    return names


def main() -> None:
    """Stellt zusammen und nennt den Inhalt."""
    if len(sys.argv) not in (2, 3):
        sys.exit(f"Aufruf: python -m {__spec__.name} ZIEL [ENDPUNKT]")
    try:
        print(json.dumps(assemble(Path(sys.argv[1]), *sys.argv[2:])))
    except (ModelMissingError, OSError) as error:
        sys.exit(f"Der Ordner lässt sich nicht zusammenstellen: {error}")


if __name__ == "__main__":
    main()
