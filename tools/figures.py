"""Gemessene Zahlen für die Seiten nach book/data/ schreiben: `make figures`.

Seiten nennen sie mit der Rolle {measured}; keine Zahl wird von Hand getippt. Dazu kommen
Modell und Schema des Preisrechners, denn der Bau des Buches trainiert nicht, und die Zeilen
Code der Webanwendungen.
"""

import ast
import json
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WEB_APPS = ("gradio_app", "streamlit_app", "flask_service", "fastapi_service")
# Was in einem Formular falsch sein kann; die übrigen Gründe betreffen JSON.
FORM_REASONS = ("missing", "float_type", "finite_number", "greater_than", "less_than_equal")


def write(name: str, values: dict) -> None:
    """Schreibt book/data/<name>.json mit Datum und Maschine der Messung."""
    origin = {
        "date": date.today().isoformat(),
        "machine": f"{platform.system()}, {os.cpu_count()} Kerne, "
        f"Python {platform.python_version()}",
    }
    path = ROOT / "book" / "data" / f"{name}.json"
    text = json.dumps(origin | values, indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def price_form(metadata: dict) -> str:
    """Gibt als JSON zurück, was der Preisrechner über Fragen und Modell wissen muss."""
    from examples.price_model.predict import load_model
    from examples.price_model.schema import EXAMPLE, REASONS, Stone

    content = {
        "model_version": metadata["model_version"],
        "example_price_usd": round(load_model().predict([Stone(**EXAMPLE)])[0]),
        "schema": Stone.model_json_schema(),
        "ranges": metadata["ranges"],
        "reasons": {name: REASONS[name] for name in FORM_REASONS},
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def code_lines(slug: str) -> int:
    """Zählt die Zeilen einer Anwendung ohne Leerzeilen, Kommentare und Docstrings.

    Gezählt werden app.py und die Module desselben Ordners, die es benutzt.
    """
    package = f"examples.{slug}"
    names, lines = ["app"], 0
    for name in names:  # wächst unterwegs
        tree = ast.parse((ROOT / "examples" / slug / f"{name}.py").read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and f"{node.module}.".startswith(f"{package}."):
                inside = node.module.removeprefix(package).lstrip(".")
                found = [inside] if inside else [alias.name for alias in node.names]
                names += [module for module in found if module not in names]
        lines += len(set(statement_lines(tree)))
    return lines


def statement_lines(tree: ast.Module) -> Iterator[int]:
    """Nennt die Zeilen, in denen Code steht; manche mehrfach."""
    docstrings = {
        id(node.body[0])
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and ast.get_docstring(node, clean=False) is not None
    }
    nodes = [tree]
    for node in nodes:  # wächst unterwegs
        nodes += [child for child in ast.iter_child_nodes(node) if id(child) not in docstrings]
        if isinstance(node, ast.stmt | ast.expr):
            yield from (node.lineno, node.end_lineno)


def main() -> None:
    """Übernimmt die Zahlen des Preismodells aus seinen Metadaten und das Modell selbst."""
    sys.path.insert(0, str(ROOT))
    from examples.price_model.predict import ARTIFACTS, load_metadata

    metadata = load_metadata()
    wanted = ("model_version", "rows", "mae_usd", "r2", "onnx_max_difference_usd")
    write("price_model", {name: metadata[name] for name in wanted})
    write("code_lines", {slug: code_lines(slug) for slug in WEB_APPS})
    form = ROOT / "book" / "data" / "price_form.json"
    form.write_text(price_form(metadata), encoding="utf-8")
    shutil.copyfile(ARTIFACTS / "price_model.onnx", form.with_name("price_model.onnx"))


if __name__ == "__main__":
    main()
