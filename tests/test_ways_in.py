"""Lernpfade, Glossar und Stichwörter: was aus Daten entsteht, stimmt mit ihnen überein."""

import ast
import json
import re
import sys

import pytest
import yaml

from needs import skip_or_fail
from texts import ROOT

sys.path.insert(0, str(ROOT / "book" / "_ext"))
from glossary_data import load
from glossary_tips import pattern
from learning_path import WEEK_MINUTES, chapters, path
from sphinx.errors import ExtensionError

CHAPTERS = chapters(ROOT)
NEEDS = {chapter.slug: chapter.needs for chapter in CHAPTERS}


def flat(weeks: int) -> list[str]:
    return [chapter.slug for week in path(CHAPTERS, weeks) for chapter in week]


def test_fourteen_weeks_hold_every_chapter_once():
    assert flat(14) == [chapter.slug for chapter in CHAPTERS]


@pytest.mark.parametrize("weeks", [4, 8, 14])
def test_path_is_ordered_balanced_and_ends_with_the_capstone(weeks):
    slugs, plan = flat(weeks), path(CHAPTERS, weeks)
    for place, slug in enumerate(slugs):
        missing = NEEDS[slug] - set(slugs[:place])
        assert not missing, f"{slug} kommt vor {sorted(missing)}"
    assert slugs[-1] == "end_to_end" and len(plan) == weeks
    loads = [sum(chapter.minutes for chapter in week) for week in plan]
    mean = sum(loads) / weeks
    assert mean <= WEEK_MINUTES and all(0.6 * mean <= load <= 1.4 * mean for load in loads), loads


@pytest.mark.parametrize("weeks", [4, 8])
def test_short_paths_visit_every_section(weeks):
    sections = {chapter.section for chapter in CHAPTERS}
    assert {c.section for week in path(CHAPTERS, weeks) for c in week} == sections


def test_prerequisites_are_read():
    assert NEEDS["docker_image"] == {"fastapi_service", "onnx_model"}
    assert NEEDS["auto_scaling"] == {"kubernetes_cluster"}  # genannt ohne Verweis
    assert NEEDS["ab_test"] == {"fastapi_service"}  # „hilfreich“ zählt nicht


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- term: A\n  definition: x\n  definition: y\n", "„definition“ steht doppelt"),
        ("- term: A\n  definition: x\n- term: a\n  definition: y\n", "doppelt erklärt: a"),
    ],
)
def test_glossary_refuses_doubles(tmp_path, text, message):
    file = tmp_path / "glossar.yml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ExtensionError, match=message):
        load(file)


def test_glossary_names_existing_pages():
    for entry in load(ROOT / "book/anhang/glossar.yml"):
        for page in entry.get("pages", []):
            assert any(ROOT.glob(f"{page}.*")), f"{entry['term']}: {page} gibt es nicht"


@pytest.mark.parametrize(
    ("term", "yes", "no"),
    [
        ("Prozess", "den Prozessen", "Prozessor Bauprozess Prozess-ID"),
        ("strukturiertes Log", "Strukturierte Logs", "ein Log"),
        ("idempotent", "idempotente", "idempotenz"),
        ("CI", "mit CI.", "CI/CD CIS CI.py"),
        ("Kennung der Anfrage", "Kennung der Anfrage", "Kennungen"),
        ("Probe", "Proben", "Stichprobe Probezeit"),
    ],
)
def test_terms_match_whole_words(term, yes, no):
    assert re.search(pattern(term, []), yes)
    found = re.search(pattern(term, []), no)
    assert not found, found


def test_every_chapter_has_keywords_for_index_and_search():
    keywords = yaml.safe_load((ROOT / "book/data/keywords.yml").read_text(encoding="utf-8"))
    missing = [
        chapter.slug
        for chapter in CHAPTERS
        if not all(
            keywords.get(f"notebooks/{chapter.slug}", {}).get(k) for k in ("index", "search")
        )
    ]
    assert not missing, f"Ohne Stichwörter: {missing}"


def test_search_library_is_the_locked_one():
    original = ROOT / "node_modules/minisearch/dist/es/index.js"
    if not original.exists():
        skip_or_fail("minisearch fehlt zum Vergleich. Abhilfe: npm ci")
    kept = [
        line
        for line in original.read_text(encoding="utf-8").splitlines()
        if "sourceMappingURL" not in line
    ]
    ours = (ROOT / "book/_static/minisearch.js").read_text(encoding="utf-8")
    assert ours.splitlines() == kept


def test_helper_of_the_notebooks_is_explained_and_linked():
    tree = ast.parse((ROOT / "notebooks" / "process.py").read_text(encoding="utf-8"))
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    basics = (ROOT / "book" / "grundlagen.md").read_text(encoding="utf-8")
    section = basics.split("## Der Helfer `process`")[1].split("\n## ")[0]
    public = [name for name in names if not name.startswith("_")]
    missing = [name for name in public if f"`process.{name}`" not in section]
    assert public and not missing, f"Nicht erklärt: {missing}"
    for notebook in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        if any("process." in "".join(cell["source"]) for cell in cells):
            opening = "".join(cells[0]["source"])
            assert "(../book/grundlagen.md#der-helfer-process)" in opening, notebook.name
