"""Notebooks ausführen und so speichern, dass ein zweiter Lauf kein Byte ändert.

Aufruf: python tools/save_notebooks.py notebooks/a.ipynb … (make save-notebooks)
"""

import hashlib
import os
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

CELL_TIMEOUT_SECONDS = 120
# Nur das, was ein anderes Programm zum Öffnen braucht; Versionen stehen in der letzten Zelle.
KERNEL = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def keeps_output(cell: nbformat.NotebookNode) -> bool:
    """Sagt, ob sich die Ausgabe von Lauf zu Lauf ändern darf: Messung, Bild, Versionen."""
    tags = set(cell.metadata.get("tags", []))
    if tags & {"nbval-ignore-output", "versions"}:
        return True
    kinds = [set(output.get("data", {})) - {"text/plain"} for output in cell.outputs]
    return bool(kinds) and all(kind and all(k.startswith("image/") for k in kind) for kind in kinds)


def execute(notebook: nbformat.NotebookNode, folder: Path) -> nbformat.NotebookNode:
    """Gibt das ausgeführte Notebook zurück; `notebook` bleibt, wie es war."""
    fresh = nbformat.from_dict(notebook)
    NotebookClient(
        fresh,
        timeout=CELL_TIMEOUT_SECONDS,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
    ).execute()
    stored = {cell.id: cell for cell in notebook.cells if cell.cell_type == "code"}
    for cell in fresh.cells:
        if cell.cell_type != "code":
            continue
        cell.metadata.pop("execution", None)
        old = stored[cell.id]
        if not keeps_output(cell):
            continue
        source = hashlib.sha256(cell.source.encode()).hexdigest()[:12]
        if old.metadata.get("output_of") == source:
            cell.outputs = old.outputs
        # Woran der nächste Lauf erkennt, dass die Ausgabe noch zum Code gehört.
        cell.metadata["output_of"] = source
    fresh.metadata = nbformat.from_dict(
        {name: value for name, value in notebook.metadata.items() if name not in KERNEL} | KERNEL
    )
    return fresh


def text(notebook: nbformat.NotebookNode) -> str:
    """Schreibt das Notebook in der einen Form, in der es gespeichert wird."""
    return nbformat.writes(notebook, version=nbformat.NO_CONVERT) + "\n"


def save(path: Path) -> None:
    """Führt ein Notebook aus und ersetzt die Datei erst, wenn jede Zelle gelang."""
    notebook = nbformat.read(path, as_version=4)
    executed = execute(notebook, path.resolve().parent)
    partial = path.with_suffix(".part")
    partial.write_text(text(executed), encoding="utf-8", newline="\n")
    partial.replace(path)


def main() -> int:
    """Speichert alle genannten Notebooks; 1, wenn eines scheiterte."""
    # Der Kernel soll das Profil des Projekts lesen, auch ohne make.
    os.environ.setdefault("IPYTHONDIR", str(Path(__file__).resolve().parent.parent / ".ipython"))
    failed = False
    for path in map(Path, sys.argv[1:]):
        print(f"{path.name} …", flush=True)
        try:
            save(path)
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            failed = True
            print(f"{path}: nicht gespeichert, eine Zelle scheiterte:\n{error}", file=sys.stderr)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
