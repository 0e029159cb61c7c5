"""Direktive {price-form}: ein Formular, hinter dem das Preismodell im Browser rechnet.

Der Text in der Direktive erscheint dort, wo es das Formular nicht gibt, etwa in JupyterLab.
Das Rechenwerk kommt aus node_modules (`make book`); fehlt es, sagt das die Seite, in CI bricht
der Bau ab.
"""

import gzip
import json
import os
import shutil
from pathlib import Path

from docutils import nodes
from measured import DATA, german
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

ROOT = DATA.parent.parent
RUNTIME = ROOT / "node_modules" / "onnxruntime-web"
MODEL, FORM = DATA / "price_model.onnx", DATA / "price_form.json"
TEMPLATE = "price-form.html"
# Gepackt abgelegt: nicht jeder Webserver packt diese Dateien selbst, und nur so steht die
# Größe, die der Knopf nennt, schon beim Bau fest.
PACKED = {
    "onnxruntime.bin": RUNTIME / "dist" / "ort-wasm-simd-threaded.wasm",
    "price_model.bin": MODEL,
}
SCRIPT = RUNTIME / "dist" / "ort.wasm.bundle.min.mjs"


def collect_files(app: Sphinx) -> None:
    """Legt ab, was der Browser auf Knopfdruck lädt, und merkt sich dessen Größe in Byte."""
    app.price_form_bytes = 0
    if app.builder.name != "html" or not SCRIPT.exists():
        return
    folder = Path(app.outdir) / "lib" / "price_form"
    folder.mkdir(parents=True, exist_ok=True)
    for name, source in PACKED.items():
        target = folder / name
        if not target.exists() or target.stat().st_mtime < source.stat().st_mtime:
            target.write_bytes(gzip.compress(source.read_bytes(), mtime=0))
        app.price_form_bytes += target.stat().st_size
    shutil.copyfile(SCRIPT, folder / "onnxruntime.js")
    app.price_form_bytes += len(gzip.compress(SCRIPT.read_bytes()))  # packt der Webserver


class PriceForm(SphinxDirective):
    """Das Formular; auf jeder Seite höchstens einmal."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Schreibt das Formular aus dem Schema des Preismodells."""
        # Fehlt eine Datei oder ist sie neuer als die Seite, entsteht die Seite neu.
        templates = (ROOT / "book" / "_templates").glob("price-form*.html")
        for path in (FORM, MODEL, RUNTIME / "package.json", Path(__file__), *templates):
            self.env.note_dependency(str(path))
        form = json.loads(FORM.read_text(encoding="utf-8"))
        templates = self.env.app.builder.templates
        if self.env.app.builder.name != "html":
            # Ohne Browser: dieselben Angaben als Tabelle, mit dem Preis, den das Modell nennt.
            html = templates.render("price-form-static.html", {"form": form, "german": german})
            return [nodes.raw("", html, format="html")]
        size = self.env.app.price_form_bytes
        if not size and os.environ.get("CI"):
            raise ExtensionError("Dem Preisrechner fehlt das Rechenwerk. Abhilfe: npm installieren")
        html = templates.render(
            TEMPLATE,
            {
                "form": form,
                "json": json.dumps(form, ensure_ascii=False).replace("<", "\\u003c"),
                "root": "../" * self.env.docname.count("/"),
                "bytes": size,
                "megabytes": german(round(size / 1e6, 1)),
                "german": german,
            },
        )
        return [nodes.raw("", html, format="html")]


def setup(app: Sphinx) -> dict[str, bool]:
    """Meldet die Direktive an."""
    app.add_directive("price-form", PriceForm)
    app.connect("builder-inited", collect_files)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
