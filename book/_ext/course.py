"""Der Kurs zum Mitnehmen: ein Archiv aus allem, was Git verwaltet, dazu jedes Notebook einzeln.

Eine Adresse des Repositorys kennt die Seite vielleicht nicht. Wer sie liest, soll trotzdem an
Notebooks und Beispiele kommen, also liegen sie der Seite bei.
"""

import os
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import nbformat
from docutils import nodes
from measured import german
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT))  # von dort kommt `tools`

from tools.student import tags, without_solutions  # noqa: E402

TOP = "modelle-in-betrieb"
ARCHIVE = ROOT / "_build" / "downloads" / f"{TOP}.zip"
FOLDER = "downloads"


def tracked(root: Path) -> list[Path]:
    """Zählt auf, was Git verwaltet; ohne Git oder Repository nichts."""
    try:
        done = subprocess.run(
            ["git", "ls-files", "-z"], cwd=root, capture_output=True, encoding="utf-8"
        )
    except FileNotFoundError:
        return []
    paths = [root / name for name in sorted(done.stdout.split("\0")) if name]
    return [path for path in paths if path.is_file()] if done.returncode == 0 else []


def pack(root: Path, archive: Path) -> None:
    """Schreibt das Archiv; gleiche Dateien ergeben gleiche Bytes, ohne Zeit und Benutzer."""
    paths = tracked(root)
    if not paths:
        archive.unlink(missing_ok=True)
        return
    archive.parent.mkdir(parents=True, exist_ok=True)
    part = archive.with_suffix(".part")
    with zipfile.ZipFile(part, "w") as file:
        for path in paths:
            info = zipfile.ZipInfo(f"{TOP}/{path.relative_to(root).as_posix()}")
            info.compress_type = zipfile.ZIP_DEFLATED
            mode = 0o755 if os.access(path, os.X_OK) else 0o644
            info.external_attr = (stat.S_IFREG | mode) << 16
            file.writestr(info, path.read_bytes())
    # Unverändert behält es seine Zeit; sonst entstünden alle Seiten neu, die seine Größe nennen.
    if archive.exists() and archive.read_bytes() == part.read_bytes():
        part.unlink()
    else:
        part.replace(archive)


def prepare(app: Sphinx) -> None:
    """Packt das Archiv, bevor die Seiten seine Größe nennen."""
    if app.builder.name == "html":
        pack(ROOT, ARCHIVE)


def link(docname: str, path: str, text: str) -> str:
    """Ein Verweis, den der Browser speichert statt zeigt."""
    return f'<a href="{"../" * docname.count("/")}{path}" download>{text}</a>'


def offers(docname: str, source: Path) -> str:
    """Was es zu einem Kapitel mitzunehmen gibt."""
    found = [link(docname, f"_sources/{docname}.ipynb", "Notebook")]
    if has_exercise(nbformat.read(source, as_version=4)):
        found.append(link(docname, f"{FOLDER}/student/{source.name}", "ohne Lösung"))
    if ARCHIVE.exists():
        found.append(link(docname, f"{FOLDER}/{ARCHIVE.name}", "ganzer Kurs"))
    return " · ".join(found)


def has_exercise(notebook: nbformat.NotebookNode) -> bool:
    """Sagt, ob es etwas wegzulassen gibt."""
    return any("exercise" in tags(cell) for cell in notebook.cells)


class CourseArchive(SphinxDirective):
    """Der Verweis auf das Archiv, oder woher es kommt."""

    def run(self) -> list[nodes.Node]:
        """Schreibt einen Absatz."""
        self.env.note_dependency(str(ARCHIVE))
        if self.env.app.builder.name != "html":
            return []
        html = "Dieser Seite liegt kein Archiv bei; sie entstand ohne Git."
        if ARCHIVE.exists():
            path = f"{FOLDER}/{ARCHIVE.name}"
            size = german(round(ARCHIVE.stat().st_size / 1e6, 1))
            html = link(self.env.docname, path, "Den ganzen Kurs herunterladen")
            html += f" (ZIP, {size}&nbsp;MB)"
        return [nodes.raw("", f"<p>{html}</p>", format="html")]


def copy_files(app: Sphinx, exception: Exception | None) -> None:
    """Legt das Archiv und die Notebooks ohne Lösung neben die Seiten."""
    if exception or app.builder.name != "html":
        return
    folder = Path(app.outdir) / FOLDER
    (folder / "student").mkdir(parents=True, exist_ok=True)
    if ARCHIVE.exists():
        (folder / ARCHIVE.name).write_bytes(ARCHIVE.read_bytes())
    for docname in app.env.found_docs:
        source = Path(app.env.doc2path(docname))
        if source.suffix == ".ipynb":
            notebook = nbformat.read(source, as_version=4)
            if has_exercise(notebook):
                nbformat.write(without_solutions(notebook), folder / "student" / source.name)


def setup(app: Sphinx) -> dict[str, bool]:
    """Meldet Direktive und Dateien an."""
    app.add_directive("course-archive", CourseArchive)
    app.connect("builder-inited", prepare)
    app.connect("build-finished", copy_files)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
