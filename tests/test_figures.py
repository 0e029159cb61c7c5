"""Zahlen, die sich ohne Messung bestimmen lassen, stimmen auf den Seiten immer."""

import json
import re
import textwrap

import yaml

from texts import ROOT
from tools import figures


def test_counted_lines_on_the_pages_are_current():
    shown = json.loads((ROOT / "book" / "data" / "code_lines.json").read_text(encoding="utf-8"))
    counted = {slug: figures.code_lines(slug) for slug in figures.WEB_APPS}
    assert {slug: shown[slug] for slug in counted} == counted, "make figures aufrufen"


def test_lines_are_counted_with_own_modules_and_without_words(tmp_path, monkeypatch):
    files = {
        "app.py": """\
            '''Was es tut.'''

            import json  # zählt
            from examples.tiny import prices
            from examples.tiny.words import HELLO
            from examples.other.words import BYE


            # zählt nicht
            def answer(
                stone: dict,
            ) -> str:
                '''Sagt etwas,

                und noch etwas.
                '''
                return json.dumps(
                    [stone, HELLO, BYE, prices]
                )
            """,
        "prices.py": "PRICE = 1\n",
        "words.py": "from examples.tiny import prices, app\n\nHELLO = 'Hallo'\n",
        "unused.py": "PRICE = 2\n",
    }
    folder = tmp_path / "examples" / "tiny"
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(textwrap.dedent(text), encoding="utf-8")
    monkeypatch.setattr(figures, "ROOT", tmp_path)
    assert figures.code_lines("tiny") == 4 + 3 + 3 + 1 + 2


def test_every_challenge_leads_to_its_evidence():
    page = (ROOT / "book" / "herausforderungen.md").read_text(encoding="utf-8")
    section = re.search(r"^## Frage, Antwort, Beleg$(.+?)^## ", page, re.MULTILINE | re.DOTALL)[1]
    rows = re.findall(r"^\| (\*\*.+) \|$", section, re.MULTILINE)
    linked = set()
    for row in rows:
        _, evidence = row.split(" | ")
        (slug,) = re.findall(r"\]\(\.\./notebooks/(\w+)\.ipynb\)", evidence)
        numbers = re.findall(r"\{observed\}`(\w+) ", evidence)
        assert set(numbers) == {slug}, f"Keine Zahl aus dem verlinkten Notebook: {row}"
        linked.add(slug)
    parts = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))["parts"]
    (sections,) = (
        chapter["sections"]
        for part in parts
        for chapter in part["chapters"]
        if chapter["file"] == "book/herausforderungen"
    )
    assert linked >= {section["file"].removeprefix("notebooks/") for section in sections}
