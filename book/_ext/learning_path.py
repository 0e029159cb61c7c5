"""Direktive {learning-path}: ein Plan in Wochen aus Dauern und Voraussetzungen der Notebooks."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from chapters import read, sections
from docutils import nodes
from docutils.statemachine import StringList
from measured import german
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

# So viel Zeit hat eine Woche, wenn ausgewählt werden muss.
WEEK_MINUTES = 180


@dataclass
class Chapter:
    """Ein Notebook, wie es in seiner ersten Zelle steht."""

    slug: str
    section: str
    title: str
    minutes: int
    bare: bool  # braucht nichts als Python
    needs: set[str] = field(default_factory=set)


def chapters(root: Path) -> list[Chapter]:
    """Liest alle Notebooks in der Reihenfolge von _toc.yml."""
    found, texts = [], {}
    for page, slugs in sections(root / "_toc.yml").items():
        for slug in slugs:
            notebook = read(root / "notebooks" / f"{slug}.ipynb")
            bare = not {"requires", "environment"} & set(notebook.metadata)
            section = f"book/{page}"
            found.append(Chapter(slug, section, notebook.title, notebook.minutes, bare))
            # Was „hilfreich“ ist, ist keine Voraussetzung.
            texts[slug] = notebook.prerequisites.split("hilfreich")[0]
    for chapter in found:
        text = texts[chapter.slug]
        named = re.findall(r"Kapitel (\w[\w/&-]*)", text)
        chapter.needs = {
            other.slug
            for other in found
            if f"]({other.slug}.ipynb)" in text or other.title.split(":")[0] in named
        } - {chapter.slug}
    return found


def closure(slugs: set[str], needs: dict[str, set[str]]) -> set[str]:
    """Ergänzt alle Voraussetzungen, auch mittelbare."""
    done: set[str] = set()
    while slugs - done:
        done |= slugs
        slugs = slugs.union(*(needs[slug] for slug in slugs))
    return done


def select(every: list[Chapter], minutes: int) -> list[Chapter]:
    """Wählt aus, was andere voraussetzen, aus jedem Abschnitt etwas und das Schlusskapitel."""
    needs = {chapter.slug: chapter.needs for chapter in every}
    used = {
        slug: sum(slug in closure({other}, needs) - {other} for other in needs) for slug in needs
    }
    duration = {chapter.slug: chapter.minutes for chapter in every}
    order = sorted(every, key=lambda chapter: (-used[chapter.slug], not chapter.bare))
    best = {}
    for chapter in order:
        best.setdefault(chapter.section, chapter.slug)
    chosen = closure({every[-1].slug, *best.values()}, needs)
    for chapter in order:
        more = chosen | closure({chapter.slug}, needs)
        if sum(duration[slug] for slug in more) <= minutes:
            chosen = more
    return [chapter for chapter in every if chapter.slug in chosen]


def spread(chosen: list[Chapter], weeks: int) -> list[list[Chapter]]:
    """Teilt die Reihe so in Wochen, dass die Quadrate der Wochenlasten zusammen klein sind."""
    count = len(chosen)
    # Je (Woche, Zahl der verteilten Kapitel): (Kosten, Anfang der Woche).
    table = {(0, 0): (0, 0)}
    for week in range(1, weeks + 1):
        for end in range(week, count + 1):
            options = [
                (table[week - 1, start][0] + sum(c.minutes for c in chosen[start:end]) ** 2, start)
                for start in range(week - 1, end)
                if (week - 1, start) in table
            ]
            table[week, end] = min(options)
    plan, end = [], count
    for week in range(weeks, 0, -1):
        start = table[week, end][1]
        plan.insert(0, chosen[start:end])
        end = start
    return plan


def path(every: list[Chapter], weeks: int) -> list[list[Chapter]]:
    """Gibt den Plan für so viele Wochen zurück; passt alles hinein, fehlt kein Kapitel."""
    return spread(select(every, weeks * WEEK_MINUTES), weeks)


def hours(minutes: int) -> str:
    """Schreibt Minuten als Stunden, auf Viertel genau."""
    return german(round(minutes / 15) / 4)


class LearningPath(SphinxDirective):
    """Erwartet die Zahl der Wochen."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Schreibt eine Tabelle mit einer Zeile je Woche und nennt, was fehlt."""
        root = Path(self.env.srcdir)
        every = chapters(root)
        for name in ["_toc.yml", *(f"notebooks/{chapter.slug}.ipynb" for chapter in every)]:
            self.env.note_dependency(str(root / name))
        plan = path(every, int(self.arguments[0]))
        up = "../" * self.env.docname.count("/")

        def link(chapter: Chapter) -> str:
            return f"[{chapter.title.split(':')[0]}]({up}notebooks/{chapter.slug}.ipynb)"

        lines = ["| Woche | Kapitel | Stunden |", "|---|---|---|"]
        for number, week in enumerate(plan, 1):
            total = hours(sum(chapter.minutes for chapter in week))
            lines.append(f"| {number} | {', '.join(map(link, week))} | {total} |")
        chosen = [chapter for week in plan for chapter in week]
        total = hours(sum(chapter.minutes for chapter in chosen))
        lines += ["", f"Zusammen {len(chosen)} von {len(every)} Kapiteln in {total} Stunden."]
        if left := [chapter for chapter in every if chapter not in chosen]:
            lines += ["", f"Nicht dabei: {', '.join(map(link, left))}."]
        container = nodes.Element()
        source = StringList(lines, source=self.env.doc2path(self.env.docname))
        self.state.nested_parse(source, self.content_offset, container)
        return container.children


def setup(app: Sphinx) -> dict[str, bool]:
    """Meldet die Direktive an."""
    app.add_directive("learning-path", LearningPath)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
