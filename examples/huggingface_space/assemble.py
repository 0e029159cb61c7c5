"""Stellt zusammen, was auf den Hub soll: den Space, das Modell, die statische Seite.

Aufruf: python -m examples.huggingface_space.assemble Zielordner
"""

import re
import shutil
import sys
import tempfile
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from examples.price_model.predict import ARTIFACTS, ModelMissingError, load_metadata

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
# Der Preisrechner und was er importiert; train.py gehört nicht dazu.
CODE = (
    *("__init__.py", "gradio_app/__init__.py", "gradio_app/app.py", "price_model/__init__.py"),
    *("price_model/data.py", "price_model/predict.py", "price_model/schema.py"),
    "price_model/words.py",
)
# Gradio bringt der Space in der Version aus dem Kopf des README selbst mit, samt dem Extra mcp.
# Dieses begrenzt pydantic auf einen älteren Stand als der Lock; deshalb wählt ihn dort pip.
PACKAGES = ("fastapi", "huggingface-hub", "numpy", "onnxruntime", "pandas", "plotnine", "uvicorn")


def space(folder: Path) -> None:
    """Schreibt das Repository des Spaces: Karte, Start, Code und Pakete, ohne Modell."""
    for name in ("README.md", "start.py"):
        shutil.copy(HERE / name, folder / name)
    for name in CODE:
        target = folder / "examples" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "examples" / name, target)
    (folder / "requirements.txt").write_text(requirements(), encoding="utf-8")


def requirements() -> str:
    """Gibt die Pakete des Preisrechners zurück, in den Versionen aus dem Lock des Projekts."""
    lock = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    # Zu einem Paket stehen dort mehrere Zeilen, wenn die Version vom Python abhängt.
    lines = [line for line in lock.splitlines() if re.split("[=;[ ]", line)[0] in PACKAGES]
    return "\n".join(lines) + "\n"


def model(folder: Path) -> None:
    """Schreibt das Repository des Modells: ONNX, Beipackzettel und Karte."""
    metadata = load_metadata()
    for name in ("price_model.onnx", "metadata.json"):
        shutil.copy(ARTIFACTS / name, folder / name)
    card(metadata).save(folder / "README.md")


def card(metadata: dict) -> ModelCard:
    """Gibt die Modellkarte zurück; jede Zahl darin stammt aus dem Training."""
    result = EvalResult(
        task_type="tabular-regression",
        dataset_type="diamonds",
        dataset_name="diamonds",
        metric_type="mae",
        metric_value=metadata["mae_usd"],
    )
    data = ModelCardData(
        language="de",
        license="mit",
        library_name="onnx",
        pipeline_tag="tabular-regression",
        tags=["diamonds"],
        model_name="price-model",
        eval_results=[result],
    )
    return ModelCard.from_template(
        data,
        template_path=HERE / "model_card.md",
        model_version=metadata["model_version"],
        mae_usd=f"{metadata['mae_usd']:.0f}",
        rows_train=metadata["rows"]["train"],
        rows_test=metadata["rows"]["test"],
        sklearn=metadata["versions"]["scikit-learn"],
    )


def static(folder: Path) -> None:
    """Schreibt einen statischen Space: eine Seite, die das Modell vorstellt, ohne Server."""
    metadata = load_metadata()
    for name in ("README.md", "index.html"):
        text = (HERE / "static" / name).read_text(encoding="utf-8")
        text = text.replace("{{version}}", metadata["model_version"])
        text = text.replace("{{mae}}", f"{metadata['mae_usd']:.0f}")
        (folder / name).write_text(text, encoding="utf-8")


PARTS = {"space": space, "model": model, "static": static}


def main(target: Path) -> None:
    """Füllt die Ordner `space`, `model` und `static` unter `target`; alte verschwinden.

    Ersetzt wird nur, was von hier stammt, und erst, wenn alles Neue fertig ist.
    """
    load_metadata()  # ohne Modell entsteht auch kein halber Ordner
    for name in PARTS:
        if foreign(target / name):
            raise FileExistsError(f"{target / name} stammt nicht von hier und bleibt.")
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="assemble-", dir=target) as work:
        for name, write in PARTS.items():
            fresh = Path(work, name)
            fresh.mkdir()
            write(fresh)
        for name in PARTS:
            folder, old = target / name, Path(work, f"{name}.old")
            try:
                if folder.exists():
                    folder.rename(old)
                Path(work, name).rename(folder)
            except BaseException:  # auch von Hand abgebrochen
                if old.exists() and not folder.exists():
                    old.rename(folder)
                raise


def foreign(folder: Path) -> bool:
    """Sagt, ob dort etwas liegt, das dieses Programm nicht geschrieben hat."""
    if folder.is_symlink() or folder.is_file():
        return True
    if not folder.exists() or not any(folder.iterdir()):
        return False
    card = folder / "README.md"
    if not card.is_file() or not card.read_bytes().startswith(b"---"):
        return True
    # Eine Karte haben auch die Vorlage und ein Klon vom Hub.
    return folder.samefile(HERE / "static") or (folder / ".git").exists()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("Aufruf: python -m examples.huggingface_space.assemble Zielordner")
    try:
        main(Path(sys.argv[1]))
    except (ModelMissingError, OSError) as error:
        sys.exit(f"Nicht zusammengestellt: {error}")
