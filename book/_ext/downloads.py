"""Direktive {downloads}: EPUB und PDF zum Herunterladen, soweit sie gebaut sind.

Was `make epub` und `make pdf` ablegten, nimmt der Bau der Seite mit; sonst nennt er die Befehle.
"""

import shutil
from pathlib import Path

from docutils import nodes
from measured import DATA, german
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

FORMS = DATA.parent.parent / "_build" / "forms"
KINDS = {"PDF": "pdf", "EPUB": "epub"}


def built(kind: str) -> Path:
    """Gibt den Ort der Datei zurück, ob es sie gibt oder nicht."""
    return FORMS / f"modelle-in-betrieb.{kind}"


class Downloads(SphinxDirective):
    """Eine Liste der Fassungen; ohne Browser nur der Satz, dass dies eine ist."""

    def run(self) -> list[nodes.Node]:
        """Schreibt je Fassung einen Eintrag."""
        if self.env.app.builder.name != "html":
            return [nodes.paragraph("", "Dies ist eine dieser Fassungen.")]
        items = nodes.bullet_list()
        for name, kind in KINDS.items():
            # Fehlt die Datei oder ist sie neuer als die Seite, entsteht die Seite neu.
            self.env.note_dependency(str(built(kind)))
            entry = nodes.paragraph()
            if built(kind).exists():
                size = german(round(built(kind).stat().st_size / 1e6, 1))
                address = "../" * self.env.docname.count("/") + f"forms/{built(kind).name}"
                entry += nodes.reference("", f"{name} herunterladen", refuri=address)
                entry += nodes.Text(f" ({size} MB)")
            else:
                entry += nodes.Text(f"{name}: liegt dieser Seite nicht bei. Es entsteht mit ")
                entry += nodes.literal("", f"make {kind}")
                entry += nodes.Text(".")
            items += nodes.list_item("", entry)
        return [items]


def copy_files(app: Sphinx, exception: Exception | None) -> None:
    """Legt die gebauten Fassungen neben die Seiten."""
    if exception or app.builder.name != "html":
        return
    target = Path(app.outdir) / "forms"
    for kind in KINDS.values():
        if built(kind).exists():
            target.mkdir(exist_ok=True)
            shutil.copyfile(built(kind), target / built(kind).name)


def setup(app: Sphinx) -> dict[str, bool]:
    """Meldet die Direktive an."""
    app.add_directive("downloads", Downloads)
    app.connect("build-finished", copy_files)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
