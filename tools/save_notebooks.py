"""Notebooks ausführen und so speichern, dass ein zweiter Lauf kein Byte ändert.

Aufruf: python tools/save_notebooks.py notebooks/a.ipynb … (make save-notebooks)
"""

import hashlib
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import NoSuchKernel
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbval.plugin import coalesce_streams

ROOT = Path(__file__).resolve().parent.parent
CELL_TIMEOUT_SECONDS = 120
NOTEBOOKS_AT_ONCE = 2


class NotSavedError(RuntimeError):
    """Eine Zelle scheiterte; das Notebook bleibt, wie es war."""


def kernel(metadata: dict) -> dict:
    """Was ein anderes Programm zum Öffnen braucht; Versionen stehen in der letzten Zelle."""
    name = metadata.get("environment")
    spec = {"display_name": name or "Python 3", "language": "python", "name": name or "python3"}
    return {"kernelspec": spec, "language_info": {"name": "python"}}


def reason(error: Exception) -> str:
    """Sagt, woran eine Zelle scheiterte."""
    if isinstance(error, CellExecutionError):
        return f"{error.ename}: {error.evalue}"
    if isinstance(error, CellTimeoutError):
        return f"Sie war nach {CELL_TIMEOUT_SECONDS} s nicht fertig."
    return "Der Kernel hat sich beendet."


def keeps_output(cell: nbformat.NotebookNode) -> bool:
    """Sagt, ob sich die Ausgabe von Lauf zu Lauf ändern darf: Messung, Bild, Versionen."""
    tags = set(cell.metadata.get("tags", []))
    if tags & {"nbval-ignore-output", "versions"}:
        return True
    kinds = [set(output.get("data", {})) - {"text/plain"} for output in cell.outputs]
    return bool(kinds) and all(kind and all(k.startswith("image/") for k in kind) for kind in kinds)


def digest(cell: nbformat.NotebookNode) -> str:
    """Woran der nächste Lauf erkennt, dass eine behaltene Ausgabe noch zum Code gehört."""
    return hashlib.sha256(cell.source.encode()).hexdigest()[:12]


def execute(notebook: nbformat.NotebookNode, folder: Path) -> nbformat.NotebookNode:
    """Gibt das ausgeführte Notebook zurück; `notebook` bleibt, wie es war."""
    fresh = nbformat.from_dict(notebook)
    stored = {cell.id: cell for cell in notebook.cells if cell.cell_type == "code"}
    started: set[str] = set()
    client = NotebookClient(
        fresh,
        timeout=CELL_TIMEOUT_SECONDS,
        kernel_name=kernel(notebook.metadata)["kernelspec"]["name"],
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
        on_cell_start=lambda cell, cell_index: started.add(cell.id),
    )
    try:
        client.execute()
    except NoSuchKernel as error:
        remedy = f"python tools/setup.py {error.name}"
        raise NotSavedError(f"Die Umgebung fehlt. Abhilfe: {remedy}") from error
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        number = len(started & set(stored))
        raise NotSavedError(f"Zelle [{number}] scheiterte: {reason(error)}") from error
    for cell in fresh.cells:
        if cell.cell_type != "code":
            continue
        cell.metadata.pop("execution", None)
        # In wie vielen Stücken eine Ausgabe ankommt, hängt von der Last des Rechners ab.
        cell.outputs = coalesce_streams(cell.outputs)
        kept = cell.metadata.pop("output_of", None)
        if not keeps_output(cell):
            continue
        if kept == digest(cell):
            cell.outputs = stored[cell.id].outputs
        cell.metadata["output_of"] = digest(cell)
    wanted = kernel(notebook.metadata)
    fresh.metadata = nbformat.from_dict(
        {name: value for name, value in notebook.metadata.items() if name not in wanted} | wanted
    )
    return fresh


def exclusive(path: Path) -> bool:
    """Sagt, ob ein Notebook den Rechner für sich braucht, weil es misst."""
    return bool(nbformat.read(path, as_version=4).metadata.get("exclusive"))


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


def attempt(path: Path) -> bool:
    """Speichert ein Notebook; falsch, wenn es scheiterte; den Grund sagt eine Zeile."""
    print(f"{path.name} …", flush=True)
    try:
        save(path)
    except NotSavedError as error:
        print(f"{path}: nicht gespeichert. {error}", file=sys.stderr)
        return False
    return True


def main() -> int:
    """Speichert die genannten Notebooks, sonst alle; 1, wenn eines scheiterte."""
    # Der Kernel soll das Profil des Projekts lesen, auch ohne make.
    os.environ.setdefault("IPYTHONDIR", str(ROOT / ".ipython"))
    os.environ.setdefault("JUPYTER_PATH", str(ROOT / ".environments" / "share" / "jupyter"))
    # Der Grund steht in run_nbval.py.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    named = [Path(argument) for argument in sys.argv[1:]]
    if absent := [path.name for path in named if not path.exists()]:
        sys.exit(f"Gibt es nicht: {', '.join(absent)}")
    paths = named or sorted((ROOT / "notebooks").glob("*.ipynb"))
    alone = [path for path in paths if exclusive(path)]
    with ThreadPoolExecutor(NOTEBOOKS_AT_ONCE) as pool:
        saved = list(pool.map(attempt, [path for path in paths if path not in alone]))
    saved += map(attempt, alone)
    return int(not all(saved))


if __name__ == "__main__":
    sys.exit(main())
