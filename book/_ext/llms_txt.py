"""Schreibt llms.txt (llmstxt.org): was das Buch ist, und jede Seite mit einem Satz."""

from pathlib import Path
from urllib.parse import urljoin

import yaml
from addresses import describe
from sphinx.application import Sphinx


def write_llms_txt(app: Sphinx, exception: Exception | None) -> None:
    """Ordnet die Seiten wie _toc.yml, je Teil eine Überschrift."""
    if exception or app.builder.name != "html":
        return
    env, root = app.env, app.config.root_doc

    def line(page: str) -> str:
        text = describe({"meta": env.metadata.get(page)}, env.get_doctree(page))
        address = urljoin(app.config.html_baseurl, app.builder.get_target_uri(page))
        return f"- [{env.titles[page].astext()}]({address}): {' '.join(text.split())}"

    toc = yaml.safe_load((Path(app.srcdir) / "_toc.yml").read_text(encoding="utf-8"))
    about = describe({"meta": env.metadata.get(root)}, env.get_doctree(root))
    lines = [f"# {app.config.html_title}", "", f"> {about}", ""]
    lines += ["Zu jedem Notebook liegt die Quelle mit allen Ausgaben unter `_sources/`.", ""]
    lines += ["## Start", "", line(root), ""]
    for part in toc["parts"]:
        for chapter in part["chapters"]:
            if "sections" in chapter:
                lines += ["", f"## {env.titles[chapter['file']].astext()}", ""]
            elif chapter is part["chapters"][0]:
                lines += ["", f"## {part['caption']}", ""]
            lines.append(line(chapter["file"]))
            lines += [line(section["file"]) for section in chapter.get("sections", [])]
    text = "\n".join(lines).replace("\n\n\n", "\n\n") + "\n"
    (Path(app.outdir) / "llms.txt").write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Meldet die Erweiterung an."""
    app.connect("build-finished", write_llms_txt)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
