"""Welche Dateien des Projekts ein Notebook nennt."""

import ast
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parent.parent


def files_named(notebook: Path) -> set[str]:
    """Alle Dateien, die es gibt und die eine Codezelle vom Projekt oder von notebooks/ aus nennt.

    Fehlen sie dort, wo das Notebook läuft, so bricht es ab.
    """
    cells = nbformat.read(notebook, as_version=4).cells
    nodes = [
        node
        for cell in cells
        if cell.cell_type == "code" and not cell.source.startswith("%")
        for node in ast.walk(ast.parse(cell.source))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    texts = {node.value for node in nodes if 2 < len(node.value) < 200 and "\n" not in node.value}
    named = {name for text in texts for name in (text, f"notebooks/{text}")}
    return {name for name in named if (ROOT / name).is_file()}
