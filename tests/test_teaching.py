"""Die Hinweise für Kursleitungen: je Kapitel vollständig, an wirklichen Zellen, nichts doppelt."""

import re
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "book" / "_ext"))  # so lädt auch Sphinx die Erweiterungen

import chapters  # noqa: E402
import teaching  # noqa: E402

NOTES = yaml.safe_load(chapters.TEACHING.read_text(encoding="utf-8"))
SLUGS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
PAGES = [ROOT / "book" / "lehre.md", *sorted((ROOT / "book" / "lehre").glob("*.md"))]


def test_every_chapter_has_notes_and_no_other():
    assert sorted(NOTES) == SLUGS


@pytest.mark.parametrize("slug", SLUGS)
def test_notes_are_complete(slug):
    notes = NOTES[slug]
    assert set(notes) == {"question", "mistakes", "demos"}
    assert notes["question"].endswith("?")
    assert len(notes["mistakes"]) >= 2 and len(notes["demos"]) >= 2
    assert all(set(mistake) == {"claim", "correction"} for mistake in notes["mistakes"])
    assert all(set(demo) == {"cell", "do", "see", "say"} for demo in notes["demos"])


@pytest.mark.parametrize("slug", SLUGS)
def test_demonstrations_are_in_the_notebook(slug):
    chapter = chapters.read(ROOT / "notebooks" / f"{slug}.ipynb")
    for number, demo in enumerate(NOTES[slug]["demos"], start=1):
        lines = teaching.demonstration(chapter, demo, number, "kapitel.ipynb")
        assert "Zelle None" not in lines[1], f"{demo['cell']} ist nicht gelaufen"
    # Vorgeführt wird von oben nach unten; zurück führte nur ein Neustart.
    order = [cell["id"] for cell in chapter.cells]
    places = [order.index(demo["cell"]) for demo in NOTES[slug]["demos"]]
    assert places == sorted(places)


@pytest.mark.parametrize("slug", SLUGS)
def test_opening_cell_is_understood(slug):
    chapter = chapters.read(ROOT / "notebooks" / f"{slug}.ipynb")
    assert len(chapter.goals) == 3 and all(goal.endswith(".") for goal in chapter.goals)
    assert 30 <= chapter.minutes <= 90
    assert chapter.prerequisites and chapter.promise.startswith("Am Ende")


def test_goals_are_typed_only_in_the_notebooks():
    pages = "\n".join(path.read_text(encoding="utf-8") for path in PAGES)
    pages += chapters.TEACHING.read_text(encoding="utf-8")
    for slug in SLUGS:
        chapter = chapters.read(ROOT / "notebooks" / f"{slug}.ipynb")
        assert not [goal for goal in chapter.goals if goal in pages], slug


def test_every_section_has_its_page():
    sections = chapters.sections(ROOT / "_toc.yml")
    assert [slug for slugs in sections.values() for slug in slugs if slug in NOTES]
    assert sorted(path.stem for path in PAGES[1:]) == sorted(sections)
    assert sorted(slug for slugs in sections.values() for slug in slugs) == SLUGS


@pytest.mark.parametrize(
    "change", [{"cell": "gibt-es-nicht"}, {"see": "stand nie in der Ausgabe"}, {"see": "29"}]
)
def test_a_demonstration_that_is_gone_breaks_the_build(change):
    chapter = chapters.read(ROOT / "notebooks" / "joblib_model.ipynb")
    demo = NOTES["joblib_model"]["demos"][0] | change
    with pytest.raises(teaching.ExtensionError, match="joblib_model"):
        teaching.demonstration(chapter, demo, 1, "kapitel.ipynb")


@pytest.mark.parametrize("page", ["README.md", "book/lehre.md"])
def test_windows_calls_the_programs_make_calls(page):
    text, makefile = (ROOT.joinpath(name).read_text("utf-8") for name in (page, "Makefile"))
    called = re.findall(r"\.venv/Scripts/python (-m [\w. ]+)", text)
    assert called and [words for words in called if words.strip() not in makefile] == []
