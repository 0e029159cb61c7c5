"""README, CONTRIBUTING und die übrigen Dokumente: Was sie nennen, gibt es."""

import re
from collections.abc import Iterator

import pytest
import yaml
from markdown_it import MarkdownIt

from texts import DOCUMENTS, ROOT

PAGES = [path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "book").rglob("*.md"))]
HOLDER = "Die Mitwirkenden von Modelle in Betrieb"
# Entsteht erst auf dem eigenen Rechner.
GENERATED = (".venv", ".environments", "_build")
PATH = re.compile(r"[\w.<>-]*/[\w./<>-]*|[\w<>-]+\.(?:md|py|ipynb|yml|bib|cff|txt|in)")
FOLDERS = (".github", "book", "examples", "notebooks", "tests", "tools")
CHANGES = {"Hinzugefügt", "Geändert", "Veraltet", "Entfernt", "Behoben", "Sicherheit"}


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.fixture(params=DOCUMENTS)
def document(request) -> str:
    return read(request.param)


def codes(text: str) -> Iterator[str]:
    """Liefert jedes Stück Code: Zeilen aus Blöcken und was in Backticks steht."""
    for token in MarkdownIt().enable("table").parse(text):
        if token.type == "fence":
            yield from token.content.splitlines()
        for child in token.children or []:
            if child.type == "code_inline":
                yield child.content


def links(text: str) -> Iterator[str]:
    for token in MarkdownIt().enable("table").parse(text):
        for child in token.children or []:
            yield from (str(child.attrs[name]) for name in ("href", "src") if name in child.attrs)


def exists(path: str) -> bool:
    """Gibt es den Pfad im Projekt? `<slug>` steht für irgendein Kapitel."""
    pattern = re.sub(r"<\w+>", "*", path).removeprefix("../").strip("/")
    return (
        pattern.startswith(GENERATED)
        or any(ROOT.glob(pattern))
        or any("/" not in pattern and any((ROOT / f).rglob(pattern)) for f in FOLDERS)
    )


@pytest.mark.parametrize("name", [*DOCUMENTS, *PAGES])
def test_named_targets_exist(name):
    targets = set(re.findall(r"^([a-z][\w-]*):", read("Makefile"), re.MULTILINE))
    named = {code.split()[1] for code in codes(read(name)) if code.startswith("make ")}
    assert named <= targets, f"Kein Ziel des Makefiles: {sorted(named - targets)}"


def test_named_paths_exist(document):
    named = {path for code in codes(document) for path in PATH.findall(code)}
    named |= {link for link in links(document) if "://" not in link}
    missing = sorted(path for path in named if not exists(path))
    assert not missing, f"Gibt es nicht: {missing}"


def test_blocks_hold_only_commands_that_are_checked(document):
    windows = windows_lines()
    strange = [
        line
        for token in MarkdownIt().parse(document)
        if token.type in ("fence", "code_block")
        for line in token.content.splitlines()
        if not re.match(r"make [a-z]|\.venv/bin/python ", line) and line not in windows
    ]
    assert not strange, f"Das prüft niemand: {strange}"


def windows_lines() -> list[str]:
    """Die Zeilen des README für Windows."""
    return [
        line
        for token in MarkdownIt().parse(read("README.md"))
        if token.type == "fence" and token.info == "powershell"
        for line in token.content.splitlines()
    ]


def test_windows_needs_three_lines_each_and_the_workflow_runs_them():
    jobs = yaml.safe_load(read(".github/workflows/check.yml"))["jobs"]
    steps = [step.get("run", "") for step in jobs["other-systems"]["steps"]]
    # Was nicht von selbst endet, läuft im Workflow im Hintergrund, gefolgt von einem Aufruf.
    runs = [step.split(" & curl ")[0] for step in steps]
    lines = windows_lines()
    assert len(lines) == 6
    assert [run for run in runs if run in lines] == lines, "check.yml führt andere Zeilen aus"


def test_citation_is_complete():
    citation = yaml.safe_load(read("CITATION.cff"))
    assert set(citation) >= {"cff-version", "message", "title", "authors", "type", "license"}
    assert citation["cff-version"] == "1.2.0"
    assert citation["title"] == yaml.safe_load(read("_config.yml"))["title"]
    assert citation["authors"] == [{"name": HOLDER}]
    assert citation["license"] == "MIT"


def test_licences_name_the_same_holder():
    assert read("LICENSE").startswith("MIT License\n") and HOLDER in read("LICENSE")
    assert HOLDER in read("LICENSE-TEXT.md")
    assert "creativecommons.org/licenses/by/4.0/legalcode" in read("LICENSE-TEXT.md")


def test_changelog_is_sorted_by_kind():
    headings = re.findall(r"^(#{2,}) (.*)$", read("CHANGELOG.md"), re.MULTILINE)
    versions = [text for level, text in headings if level == "##"]
    kinds = {text for level, text in headings if level == "###"}
    assert versions[0] == "Unveröffentlicht"
    assert kinds <= CHANGES, f"Unbekannte Überschriften: {sorted(kinds - CHANGES)}"
