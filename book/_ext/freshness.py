"""Wie frisch ein Kapitel ist: ein Stempel auf jeder Notebookseite und die Seite „Stand“.

Alles ist abgeleitet: Pakete aus der letzten Zelle, Versionen aus dem Lock, Läufe aus _build/runs
(tools/runs.py), Ergebnisse mit neuesten Versionen aus _build/latest.json (tools/latest.py).
"""

import ast
import json
import re
import sys
from datetime import datetime
from html import escape
from pathlib import Path

import yaml
from babel.dates import format_date
from chapters import TOOLS
from course import offers
from docutils import nodes
from observed import shown
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import ExtensionError
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tools"))  # von dort kommen `runs` und `setup`

import runs  # noqa: E402
from setup import NEWEST, OLDEST  # noqa: E402

PAGE = "book/anhang/stand"
LATEST = ROOT / "_build" / "latest.json"
OUTCOMES = {"green": "zuletzt grün", "red": "zuletzt rot", "none": "ohne Prüflauf"}
CAP = re.compile(r"<\s*=?\s*\d")
LOGGER = logging.getLogger(__name__)


def requirements(path: Path) -> list[tuple[Requirement, str]]:
    """Liest einen Lock oder ein *.in: Anforderungen, jede mit dem Kommentar dahinter."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        text, _, comment = line.partition("#")
        if text.strip() and not text.startswith("-"):
            found.append((Requirement(text.strip()), comment.strip()))
    return found


def locked(path: Path) -> dict[str, list[str]]:
    """Ordnet jedem Paket eines Locks seine Versionen zu; je Python können es mehrere sein."""
    found: dict[str, list[str]] = {}
    for requirement, _ in requirements(path):
        name = canonicalize_name(requirement.name)
        found.setdefault(name, []).append(str(requirement.specifier).removeprefix("=="))
    return found


def taught(notebook: Path) -> dict[str, str]:
    """Welche Pakete die letzte Zelle nennt, mit der Version des Locks, sonst der gespeicherten."""
    content = json.loads(notebook.read_text(encoding="utf-8"))
    cells, tools = content["cells"], content["metadata"].get("requires", [])
    last = [cell for cell in cells if "versions" in cell["metadata"].get("tags", [])][-1:]
    try:
        versions = ast.literal_eval("".join(map(shown, last)).strip())
        named = {str(name): str(version) for name, version in versions.items()}
    except (SyntaxError, ValueError, AttributeError):
        LOGGER.warning("%s: Die letzte Zelle nennt keine Versionen.", notebook.name)
        return {}
    known: dict[str, list[str]] = {}
    for lock in runs.locks(notebook):
        if lock.exists():
            known = locked(lock) | known
    for name, version in named.items():
        # Ein verlangtes Programm ist nicht das Paket gleichen Namens: Docker und sein SDK.
        choice = [version] if name in tools else known.get(canonicalize_name(name), [version])
        named[name] = version if version in choice else choice[0]
    return named


def title(notebook: Path) -> str:
    """Liest die Überschrift eines Kapitels."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    text = "".join(cells[0]["source"]) if cells else ""
    return text.partition("\n")[0].lstrip("# ") or notebook.stem


def last_runs(slug: str, digest: str, stored: list[dict]) -> dict:
    """Sucht den letzten Lauf dieser Fassung und den letzten grünen; übersprungen zählt nicht."""
    found = {}
    for run in stored:
        chapter = run["chapters"].get(slug, {})
        if chapter.get("digest") != digest or chapter["outcome"] == "skipped":
            continue
        entry = {name: run[name] for name in ("finished", "url")}
        found.setdefault("last", entry | {"green": chapter["outcome"] == "green"})
        if chapter["outcome"] == "green":
            found.setdefault("green", entry)
    return found


def load(path: Path) -> dict:
    """Liest, was `make latest` schrieb; ohne Datei nichts."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def collect(app: Sphinx, env: BuildEnvironment, added: set, changed: set, removed: set) -> list:
    """Sammelt den Stand aller Kapitel; nennt die Seiten, auf denen er sich geändert hat."""
    before = getattr(env, "freshness", {})
    try:
        stored, latest = runs.read(), load(LATEST)
    except json.JSONDecodeError as error:
        raise ExtensionError(f"Unlesbar unter _build: {error}. Abhilfe: make clean") from error
    chapters = {}
    for docname in sorted(env.found_docs):
        notebook = Path(env.doc2path(docname))
        if notebook.suffix != ".ipynb":
            continue
        digest, slug = runs.digest(notebook), notebook.stem
        newest = latest.get("chapters", {}).get(slug)
        meta = json.loads(notebook.read_text(encoding="utf-8"))["metadata"]
        chapters[docname] = {
            "title": title(notebook),
            "packages": taught(notebook),
            "kernel": meta.get("environment"),
            "environments": runs.own_environments(notebook),
            "requires": meta.get("requires", []),
            "runs": last_runs(slug, digest, stored),
            "latest": newest if newest and newest["digest"] == digest else None,
        }
    env.freshness = {"chapters": chapters, "environments": latest.get("environments", {})}
    if env.freshness == before:
        return []
    old = before.get("chapters", {})
    outdated = [name for name, status in chapters.items() if old.get(name) != status]
    return [name for name in (*outdated, PAGE) if name in env.found_docs]


def link(target: str, docname: str, text: str = "") -> nodes.Node:
    """Verweist auf eine Seite des Buches; ohne Text mit deren Titel."""
    return addnodes.pending_xref(
        "",
        nodes.inline("", text or target),
        refdomain="std",
        reftype="doc",
        reftarget=f"/{target}",
        refexplicit=bool(text),
        refwarn=True,
        refdoc=docname,
    )


def day(entry: dict) -> list[nodes.Node]:
    """Schreibt das Datum eines Laufs, mit Verweis auf ihn, sonst mit dem Zusatz, wo er war."""
    date = format_date(datetime.fromisoformat(entry["finished"]).date(), "long", locale="de")
    if entry["url"]:
        return [nodes.reference("", f"{date} (zum Lauf)", refuri=entry["url"])]
    return [nodes.Text(f"{date}, auf diesem Rechner")]


def listed(names: dict[str, str] | list[str]) -> list[nodes.Node]:
    """Zählt Namen auf, jeden als Code, mit seiner Version dahinter."""
    parts: list[nodes.Node] = []
    for name in names:
        version = f"\u00a0{names[name]}" if isinstance(names, dict) else ""
        parts += [nodes.Text(", ")] if parts else []
        # Ein Name bricht nie von seiner Version weg.
        pair = nodes.inline("", "", nodes.literal("", name), nodes.Text(version), classes=["pair"])
        parts.append(pair)
    return parts


def last_green(status: dict) -> tuple[list[nodes.Node], str]:
    """Sagt in Worten, was die Läufe ergaben; dazu die Farbe: grün, rot oder keine."""
    found = status["runs"]
    if not found:
        text = "Für diese Fassung liegt kein Prüflauf vor; die Ausgaben entstanden beim Speichern."
        return [nodes.Text(text)], "none"
    if found["last"]["green"]:
        return day(found["green"]), "green"
    earlier = [*day(found["green"]), nodes.Text("; ")] if "green" in found else []
    return [*earlier, nodes.Text("zuletzt rot am "), *day(found["last"])], "red"


def newest(result: dict | None) -> tuple[list[nodes.Node], str]:
    """Sagt, was `make latest` zu einem Kapitel ergab."""
    if result is None:
        return [nodes.Text("Noch nicht versucht.")], "none"
    text = {
        "green": "läuft",
        "red": f"bricht. {result['where']}",
        "skipped": f"übersprungen, es fehlt {result['where']}",
    }[result["outcome"]]
    colour = result["outcome"] if result["outcome"] != "skipped" else "none"
    return [*day(result), nodes.Text(f": {text}")], colour


def details(rows: list[tuple[str, list[nodes.Node], str]]) -> nodes.definition_list:
    """Schreibt Zeilen aus Name, Inhalt und Farbe als Liste, die auf jede Breite passt."""
    found = nodes.definition_list(classes=["stamp"])
    for name, content, colour in rows:
        if content:
            classes = [f"stamp-{colour}"] if colour else []
            text = nodes.paragraph("", "", *content, classes=classes)
            item = nodes.definition_list_item("", nodes.term("", name), nodes.definition("", text))
            found += item
    return found


def foldable(summary: str, note: str, colour: str, content: nodes.Node) -> list[nodes.Node]:
    """Klappt eine Liste zu; offen bleibt, wovon sie handelt und das Wichtigste daraus."""
    html = f'<details class="status"><summary>{escape(summary)}'
    html += f' <span class="stamp-{colour}">{escape(note)}</span></summary>'
    return [
        nodes.raw("", html, format="html"),
        content,
        nodes.raw("", "</details>", format="html"),
    ]


def add_stamp(app: Sphinx, doctree: nodes.document) -> None:
    """Setzt den Stempel unter den ersten Absatz einer Notebookseite."""
    docname = app.env.docname
    status = app.env.freshness["chapters"].get(docname)
    if status is None:
        return
    content, colour = last_green(status)
    if PAGE in app.env.found_docs:
        content = [*content, nodes.Text("\u00a0· "), link(PAGE, docname, "Stand aller Kapitel")]
    rows = [("Versionen", listed(status["packages"]), ""), ("Letzter grüner Lauf", content, colour)]
    if app.builder.name == "html":
        html = offers(docname, Path(app.env.doc2path(docname)))
        rows.append(("Herunterladen", [nodes.raw("", html, format="html")], ""))
    # Der erste Absatz bleibt der erste: Aus ihm wird die Beschreibung der Seite.
    first = next(doctree.findall(nodes.paragraph))
    first.parent.insert(first.parent.index(first) + 1, details(rows))


def pages() -> list[tuple[str, list[str]]]:
    """Liest aus _toc.yml jede Seite, unter der Notebooks stehen, mit diesen."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    entries = [entry for part in toc["parts"] for entry in part["chapters"]]
    return [
        (entry["file"], [below["file"] for below in entry["sections"]])
        for entry in entries
        if any(below["file"].startswith("notebooks/") for below in entry.get("sections", []))
    ]


class ChapterStatus(SphinxDirective):
    """Alle Kapitel nach Abschnitten: was sie brauchen und wann sie zuletzt liefen."""

    def run(self) -> list[nodes.Node]:
        """Schreibt je Abschnitt eine Überschrift, je Kapitel eine Liste."""
        return [self.summary(), *(self.part(page, below) for page, below in pages())]

    def summary(self) -> nodes.paragraph:
        """Zählt die Kapitel nach dem Ergebnis ihres letzten Laufs."""
        chapters = self.env.freshness["chapters"].values()
        colours = [last_green(status)[1] for status in chapters]
        counted = [f"{colours.count(colour)} {text}" for colour, text in OUTCOMES.items()]
        return nodes.paragraph("", f"{len(colours)} Kapitel: {', '.join(counted)}.")

    def part(self, page: str, below: list[str]) -> nodes.section:
        """Schreibt einen Abschnitt."""
        text = (ROOT / f"{page}.md").read_text(encoding="utf-8")
        title = re.search(r"^# (.+)$", text, re.MULTILINE)[1]
        name = f"stand-{Path(page).name}"
        section = nodes.section("", nodes.title("", title), ids=[name], names=[name])
        for docname in below:
            if status := self.env.freshness["chapters"].get(docname):
                _, colour = last_green(status)
                rows = details(self.rows(docname, status))
                section += foldable(status["title"], OUTCOMES[colour], colour, rows)
        return section

    def rows(self, docname: str, status: dict) -> list:
        """Die Zeilen eines Kapitels; was es nicht braucht, fehlt."""
        kernel, environments = status["kernel"], status["environments"]
        used = [*([] if kernel else [nodes.Text("gemeinsame")]), *listed(environments)]
        if not kernel and environments:
            used.insert(1, nodes.Text(", "))
        needed = ", ".join(TOOLS[name] for name in status["requires"])
        return [
            ("Kapitel", [link(docname, self.env.docname)], ""),
            ("Versionen", listed(status["packages"]), ""),
            ("Umgebung", used, ""),
            ("Braucht dazu", [nodes.Text(needed)] if needed else [], ""),
            ("Letzter grüner Lauf", *last_green(status)),
            ("Neueste Versionen", *newest(status["latest"])),
        ]


class EnvironmentStatus(SphinxDirective):
    """Alle Umgebungen: Lock, Python, Zahl der Pakete und wer sie benutzt."""

    def run(self) -> list[nodes.Node]:
        """Schreibt je Umgebung eine Liste."""
        layers = {
            "gemeinsame Umgebung": "requirements.txt",
            "nur für den Bau des Buches": "requirements-book.txt",
            "Zusatz für Abgaben": "requirements-grading.txt",
            "Zusatz für die Prüfungen": "requirements-checks.txt",
        }
        locks = sorted(ROOT.glob("examples/*/requirements.in"))
        own = {path.parent.name: f"examples/{path.parent.name}/requirements.txt" for path in locks}
        found = layers | own
        blocks: list[nodes.Node] = []
        for name, path in found.items():
            if (ROOT / path).exists():
                count = f"{len(locked(ROOT / path))} Pakete"
                blocks += foldable(name, count, "none", details(self.rows(name, path)))
        return blocks

    def rows(self, name: str, lock: str) -> list:
        """Die Zeilen einer Umgebung."""
        users: list[nodes.Node] = []
        for docname, status in self.env.freshness["chapters"].items():
            common = [] if status["kernel"] else ["gemeinsame Umgebung"]
            if name in [*status["environments"], *common]:
                users += [nodes.Text("; ")] if users else []
                users.append(link(docname, self.env.docname))
        title = [nodes.literal("", name)] if lock.startswith("examples/") else [nodes.Text(name)]
        python = f"{'.'.join(map(str, OLDEST))} bis {'.'.join(map(str, NEWEST))}"
        result = self.env.freshness["environments"].get(name if "/" in lock else lock)
        return [
            ("Umgebung", title, ""),
            ("Lock", [nodes.literal("", lock)], ""),
            ("Python", [nodes.Text(python)], ""),
            ("Pakete", [nodes.Text(str(len(locked(ROOT / lock))))], ""),
            ("Obergrenzen", self.caps(ROOT / lock, result), ""),
            ("Benutzt von", users, ""),
            ("Neueste Versionen", *self.newest(result)),
        ]

    def caps(self, lock: Path, result: dict | None) -> list[nodes.Node]:
        """Nennt gewollte Obergrenzen mit ihrem Grund und der neuesten Version, falls bekannt."""
        parts: list[nodes.Node] = []
        for requirement, reason in requirements(lock.with_suffix(".in")):
            if not CAP.search(str(requirement.specifier)):
                continue
            cap = ",".join(str(s) for s in requirement.specifier if s.operator.startswith("<"))
            known = (result or {}).get("held_back", {}).get(canonicalize_name(requirement.name))
            newer = f"neueste Version {known}; " if known else ""
            parts += [nodes.Text("; ")] if parts else []
            parts.append(nodes.literal("", f"{requirement.name}{cap}"))
            parts.append(nodes.Text(f" ({newer}{reason})"))
        return parts

    def newest(self, result: dict | None) -> tuple[list[nodes.Node], str]:
        """Sagt, ob sich die neuesten Versionen auflösen ließen und wie viele neuer sind."""
        if result is None:
            return [nodes.Text("Noch nicht versucht.")], "none"
        if result["failure"]:
            return [*day(result), nodes.Text(f": bricht. {result['where']}")], "red"
        count = len(result["newer"])
        text = f": {count} {'Paket' if count == 1 else 'Pakete'} neuer als im Lock"
        return [*day(result), nodes.Text(text)], "green"


def setup(app: Sphinx) -> dict[str, bool]:
    """Meldet Stempel und Direktiven an."""
    app.add_directive("chapter-status", ChapterStatus)
    app.add_directive("environment-status", EnvironmentStatus)
    app.connect("env-get-outdated", collect)
    app.connect("doctree-read", add_stamp)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
