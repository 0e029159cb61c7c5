"""model.tar.gz packen: was SageMaker nach /opt/ml/model entpackt.

Aufruf: `python -m examples.sagemaker_endpoint.package service|handlers ZIEL.tar.gz`
`service` enthält nur das Modell, denn der Code steckt im Image; `handlers` auch den Code.
"""

import gzip
import io
import sys
import tarfile
from pathlib import Path

from examples.price_model.predict import ARTIFACTS, ModelMissingError, load_metadata

HERE = Path(__file__).parent
EXAMPLES = HERE.parent
CONTENT = {
    "service": [ARTIFACTS / "price_model.onnx", ARTIFACTS / "metadata.json"],
    "handlers": [
        ARTIFACTS / "price_model.joblib",
        ARTIFACTS / "metadata.json",
        HERE / "code" / "inference.py",
        HERE / "code" / "requirements.txt",
        # Das Image von AWS kennt das Buch nicht: Was die Handler importieren, reist mit.
        EXAMPLES / "__init__.py",
        *(EXAMPLES / "price_model" / name for name in ("__init__.py", "predict.py", "schema.py")),
    ],
}


def place(path: Path) -> str:
    """Der Name im Archiv: das Modell oben, Code unter code/."""
    if path.parent == ARTIFACTS:
        return path.name
    if path.parent == HERE / "code":
        return f"code/{path.name}"
    return f"code/{path.relative_to(EXAMPLES.parent).as_posix()}"


def pack(kind: str, target: Path) -> list[str]:
    """Schreibt das Archiv und gibt die Namen darin zurück; zweimal gepackt ist es gleich."""
    load_metadata()
    # Zeit und Besitzer blieben sonst im Archiv, und jedes Packen ergäbe ein neues Modell.
    buffer = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=buffer, mode="wb", filename="", mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w") as archive,
    ):
        for path in CONTENT[kind]:
            archive.add(path, place(path), filter=anonymous)
    # Erst das fertige Archiv: Fehlt eine Datei, bleibt das vorige liegen.
    partial = target.with_name(f"{target.name}.part")
    try:
        partial.write_bytes(buffer.getvalue())
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return [place(path) for path in CONTENT[kind]]


def anonymous(info: tarfile.TarInfo) -> tarfile.TarInfo:
    """Ohne Zeit, Besitzer und Rechte dessen, der gepackt hat."""
    info.mtime = info.uid = info.gid = 0
    info.uname = info.gname = ""
    info.mode = 0o644
    return info


def main() -> None:
    """Packt und nennt den Inhalt."""
    if len(sys.argv) != 3 or sys.argv[1] not in CONTENT:
        sys.exit(f"Aufruf: python -m {__spec__.name} {'|'.join(CONTENT)} ZIEL.tar.gz")
    try:
        names = pack(sys.argv[1], Path(sys.argv[2]))
    except (ModelMissingError, OSError) as error:
        sys.exit(f"Das Archiv lässt sich nicht packen: {error}")
    print("\n".join(names))


if __name__ == "__main__":
    main()
