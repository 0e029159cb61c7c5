"""Jede Prüfung wird rot, wenn sie soll: ein Fehler nach dem anderen in einem kleinen Buch.

Das kleine Buch hat zwei Seiten, ein Notebook und ein Beispiel; geprüft wird es von denselben
Programmen und mit derselben Konfiguration wie das große.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import needs
import test_notebooks
import test_prose
from test_layout import typed_code
from texts import all_texts, spellings

ROOT = Path(__file__).resolve().parent.parent
SLUG = "tiny_model"
NOTEBOOK = f"notebooks/{SLUG}.ipynb"
EXAMPLE = f"examples/{SLUG}/predict.py"
WORDS, ANSWERS = "tests/prose/words.txt", "tests/answers.yml"
REPOSITORY = "https://github.com/beispiel/buch"
SITE = "https://beispiel.github.io/buch/"
# Erweiterungen laden in jedem Prozess länger, als die Regeln brauchen.
PYTEST = ("-m", "pytest", "-q", "--disable-plugin-autoload", "-p", "no:cacheprovider")
COMPARING = {
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    "PYTEST_PLUGINS": "xdist.plugin,nbval.plugin",
    # Ein Notebook braucht nur einen Prozess; jeder weitere liefe leer.
    "PYTEST_XDIST_AUTO_NUM_WORKERS": "1",
}
COPIED = [
    "_config.yml",
    "pyproject.toml",
    "Makefile",
    "README.md",
    "CHANGELOG.md",
    "CITATION.cff",
    "LICENSE",
    "LICENSE-TEXT.md",
    "SECURITY.md",
    ".ci/run",
    ".ci/kind",
    ".github/workflows/check.yml",
    ".ipython/profile_default/ipython_kernel_config.py",
    "book/_ext",
    "book/_static",
    "book/_templates",
    "notebooks/conftest.py",
    "notebooks/process.py",
    "tests/nbval.cfg",
    "tests/needs.py",
    "tests/texts.py",
    "tests/test_documents.py",
    "tests/test_labels.py",
    "tests/test_layout.py",
    "tests/test_notebooks.py",
    "tests/test_prose.py",
    "tests/test_workflows.py",
    "tools",
]
FILES = {
    "examples/__init__.py": "",
    f"examples/{SLUG}/__init__.py": "",
    EXAMPLE: '''"""Ein Preis je Karat."""

import json


def predict(carat: float) -> dict:
    """Schätzt den Preis eines Steins."""
    return {"price_usd": round(4000 * carat)}


# Aufruf
if __name__ == "__main__":
    print(json.dumps(predict(0.7)))
# Ende
''',
    f"tests/examples/test_{SLUG}.py": "",
    ANSWERS: f"{SLUG}:\n  c17:\n    wrong: [doubled = 5602]\n    right: [doubled = 5600.0]\n",
    "tests/contract.py": f'\nVARIANTS = {{\n    "{SLUG}": None,\n}}\n',
    "CONTRIBUTING.md": "# Mitmachen\n\nDer Anfang ist `examples/<slug>/`.\n",
    "book/anhang/literatur.bib": "",
    "book/anhang/glossar.yml": "- term: Endpunkt\n  definition: Hier.\n  avoid: [Endpoint]\n",
    "book/index.md": "# Kleines Buch\n\nWeiter zum [Konzept](konzept.md).\n",
    "book/konzept.md": f"""# Konzept

Ausgeführt wird es im [Notebook](../{NOTEBOOK}).

![Ein Punkt auf einer Linie](_static/mark.svg)

```{{literalinclude}} ../{EXAMPLE}
:start-after: "# Aufruf"
:end-before: "# Ende"
```
""",
}
TOC = {
    "format": "jb-book",
    "root": "book/index",
    "parts": [
        {
            "caption": "Kapitel",
            "chapters": [
                {"file": "book/konzept", "sections": [{"file": f"notebooks/{SLUG}"}]},
            ],
        }
    ],
}


def question(number: int) -> str:
    """Eine Frage des Selbsttests; richtig ist die Antwort mit derselben Nummer."""
    answers = "".join(
        f"<details><summary>{text}</summary>\n"
        f"{'Richtig' if place == number else 'Falsch'}: Das ist hier so.\n"
        "Das Kapitel begründet es.</details>\n"
        for place, text in enumerate(("Ja", "Nein, nie", "Weder noch"), start=1)
    )
    return f"{number}. Frage {number}?\n\n{answers}"


CELLS = [
    f"""# Ein kleines Modell

**Lernziele** Eins.
**Dauer** Kurz.
**Voraussetzungen** Keine.
Zum [Konzept](../book/konzept.md), zum Beispiel `examples/{SLUG}/`.""",
    "![Ein Punkt auf einer Linie](../book/_static/mark.svg)",
    "## Ansehen\n\nDer Quelltext.",
    f"import process\n\nprocess.show({EXAMPLE!r})",
    "## Benutzen\n\nErwartet wird ein Preis.",
    f"""import json

answer = json.loads(process.output(["python", {EXAMPLE!r}]))
answer["price_usd"]""",
    "## Fehler provozieren\n\nDieses Feld gibt es nicht.",
    ("raises-exception", 'answer["price_eur"]'),
    "## Prüfen\n\nDie Zeit schwankt.",
    ("nbval-ignore-output", "import time\n\ntime.time_ns()"),
    "## Was ist seit 2023 anders?\n\nNichts.",
    "## Grenzen\n\nKeine.",
    "## Übung\n\nDen Preis verdoppeln.",
    ("exercise", "doubled = None  # hier: verdoppeln"),
    ("solution", "Lösung: den Preis verdoppeln."),
    ("solution", "hide-cell", 'doubled = 2 * answer["price_usd"]'),
    "Die Prüfung halbiert.",
    (
        "check",
        "hide-input",
        """assert doubled, "Noch nicht: Der Preis fehlt."
assert doubled / 2 == answer["price_usd"], "Noch nicht: Die Hälfte ist ein anderer Preis."
print("Gelöst: Der Preis ist verdoppelt.")""",
    ),
    "## Selbsttest\n\n" + "\n".join(question(number) for number in (1, 2, 3)),
    "## Aufräumen\n\nNichts zu tun.",
    "## Zusammenfassung\n\nFertig.\nDie Versionen:",
    ("versions", 'import sys\n\n{"python": sys.version.split()[0]}'),
]


def write(tree: Path, name: str, text: str) -> None:
    path = tree / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def edit(tree: Path, name: str, old: str, new: str) -> None:
    """Ersetzt ein Stück Text; es muss genau einmal vorkommen."""
    text = (tree / name).read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{name} enthält {text.count(old)} mal {old!r}"
    write(tree, name, text.replace(old, new))


def cells() -> list:
    for number, content in enumerate(CELLS):
        *tags, source = [content] if isinstance(content, str) else content
        text = source.startswith(("#", "!", "Lösung", "Die Prüfung"))
        make = new_markdown_cell if text else new_code_cell
        metadata = {"tags": tags} if tags else {}
        yield make(source.strip(), id=f"c{number}", metadata=metadata)


def run(tree: Path, *command: str, **variables: str) -> subprocess.CompletedProcess:
    """Führt ein Programm dieser Umgebung im kleinen Buch aus."""
    keep = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.run(
        [sys.executable, *command],
        cwd=tree,
        # In CI würden übersprungene Notebooks rot; hier zählt nur der eine Fehler.
        env=keep
        | {"IPYTHONDIR": str(tree / ".ipython"), "PYTHONUTF8": "1", "COLUMNS": "200"}
        | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )


def build(tree: Path, **variables: str) -> subprocess.CompletedProcess:
    command = [str(Path(sys.executable).parent / "jupyter-book"), "build", "."]
    done = run(tree, *command, "-W", "-n", "--keep-going", "--quiet", **variables)
    # Ein Bau, der nichts tut, wäre immer grün.
    assert done.returncode or (tree / "_build/html/book/konzept.html").exists()
    return done


def compare(tree: Path) -> subprocess.CompletedProcess:
    return run(tree, "tools/run_nbval.py", **COMPARING)


def save(tree: Path) -> subprocess.CompletedProcess:
    return run(tree, "tools/save_notebooks.py", NOTEBOOK)


def rules(tree: Path) -> subprocess.CompletedProcess:
    return run(tree, *PYTEST, "tests/test_notebooks.py", "tests/test_layout.py")


def language(tree: Path) -> subprocess.CompletedProcess:
    modules = ("tests/test_prose.py", "tests/test_labels.py", "tests/test_documents.py")
    return run(tree, *PYTEST, *modules)


def strip(_, code: list) -> None:
    """Löscht Ausgaben und Nummern."""
    for cell in code:
        cell.update(outputs=[], execution_count=None)


def disguise(way: str) -> Callable:
    """Umgeht den Vergleich in einer Zelle, die gültiges Python bleibt."""
    return lambda _, code: code[3].update(source=f"{way}\n{code[3].source}")


# Je Regel für Notebooks ein Verstoß, mit Zusatz ein weiterer; er bekommt (Notebook, Codezellen).
VIOLATIONS = {
    "every_code_cell_ran_in_order": lambda _, code: code[0].update(execution_count=2),
    "every_code_cell_ran_in_order-stripped": strip,
    "nothing_on_stderr": lambda _, code: code[1].outputs.append(
        new_output("stream", name="stderr", text="Warnung")
    ),
    "code_is_plain_python": lambda _, code: code[1].update(source="!false"),
    "code_is_plain_python-ipython": disguise("get_ipython()"),
    "code_is_plain_python-skip": disguise("# NBVAL_SKIP"),
    "code_is_plain_python-warnings": disguise("warnings.filterwarnings('ignore')"),
    "cells_are_short": lambda _, code: code[1].update(source="1\n" * 11),
    "outputs_are_short": lambda _, code: code[1].outputs[0].data.update({"text/plain": "1\n" * 31}),
    "outputs_do_not_depend_on_the_machine": lambda _, code: (
        code[1].outputs[0].data.update({"text/plain": "/home/ada/modell"})
    ),
    "tags_are_known": lambda _, code: code[1].metadata.update(tags=["nbval-skip"]),
    "at_most_one_cell_in_ten_is_not_compared": lambda _, code: code[1].metadata.update(
        tags=["nbval-ignore-output"]
    ),
    "kept_outputs_belong_to_their_code": lambda _, code: code[3].update(source="1"),
    "alternative_texts_are_those_of_the_code": lambda _, code: code[1].outputs.append(
        new_output("display_data", metadata={"image/png": {"alt": "Ein anderes Bild"}})
    ),
    "only_marked_cells_raise": lambda _, code: code[2].metadata.pop("tags"),
    "definitions_are_the_lesson": lambda _, code: code[1].update(source="def f():\n    pass"),
    "examples_are_not_imported": lambda _, code: code[1].update(source="import examples.x"),
    "prose_comes_before_code": lambda book, _: book.cells.pop(6) and book.cells.pop(7),
    "first_cell_says_what_and_why": lambda book, _: book.cells[0].update(source="# Nur ein Titel"),
    "a_picture_comes_first": lambda book, _: book.cells[1].update(source="Kein Bild."),
    "all_sections_are_there_in_order": lambda book, _: book.cells[10].update(source="Weg."),
    "exercise_has_a_hidden_solution": lambda _, code: code[5].metadata.update(tags=["solution"]),
    "exercise_solution_and_check_follow_each_other": lambda _, code: code[6].metadata.pop("tags"),
    "text_of_a_solution_is_marked": lambda book, _: book.cells[14].metadata.pop("tags"),
    "check_speaks_german_and_has_wrong_answers": lambda _, code: code[6].update(source="assert 1"),
    "nothing_needs_the_solution": lambda _, code: code[4].update(source="answered = None"),
    "self_test_explains_every_answer": lambda book, _: book.cells[-4].update(
        source=book.cells[-4].source.replace("Das Kapitel begründet es.", "", 1)
    ),
    "last_cell_names_the_versions": lambda _, code: code[7].metadata.pop("tags"),
    "metadata_is_known": lambda book, _: book.metadata.update(author="Ada"),
    "file_is_written_as_saving_writes_it": lambda *_: None,
}


# Je Regel für die Sprache ein Absatz, der sie verletzt, und was die Meldung nennt.
FAULTS = {
    "words_are_spelled_right": ("Ein Fehlre.", "Fehlre"),
    "words_the_glossary_forbids_do_not_appear": (
        "Der Endpoints-Test.",
        "„Endpoints“ .* „Endpunkt“",
    ),
    "style_is_kept[address]": ("Hier können Sie klicken.", "„Sie“"),
    "style_is_kept[we]": ("Als Nächstes sehen wir mehr.", "„wir“"),
    "style_is_kept[quotes]": ("Das ist “falsch”.", "„““"),
    "style_is_kept[dash]": ("Das ist - leider - falsch.", "„-“"),
    "style_is_kept[space]": ("Das sind  zwei.", "„  “"),
    "style_is_kept[no-break space]": ("Das ist z. B. falsch.", r"„z\. B\.“"),
    "each_line_holds_one_sentence": ("Eins. Zwei.", "Zwei"),
    "what_cannot_run_carries_the_label": ("## Lokal\n\nHier hilft `kind create cluster`.", "kind"),
    "label_names_what_checked_it": ("## Vermerk\n\nGeprüft, nicht ausgeführt.", "nennt nicht"),
    "label_names_what_checked_it[book/index.md, Fremd]": (
        "## Fremd\n\nGeprüft mit niemand, nicht ausgeführt.",
        r"Fremd: Keine Prüfung ruft \['niemand'\] auf",
    ),
}
# Je Regel für die Dokumente eine Änderung: (Datei, alt, neu).
EDITS = {
    "named_targets_exist": ("README.md", "make lab", "make labor"),
    "named_paths_exist": ("CONTRIBUTING.md", "examples/<slug>/", "beispiele/<slug>/"),
    "blocks_hold_only_commands_that_are_checked": ("README.md", "make test\n", "rm -r .venv\n"),
    "windows_needs_three_lines_each_and_the_workflow_runs_them": (
        ".github/workflows/check.yml",
        "jupyter-book build .",
        "jupyter-book build book",
    ),
    "citation_is_complete": ("CITATION.cff", "license: MIT", "license: CC-BY-4.0"),
    "licences_name_the_same_holder": ("LICENSE", "Die Mitwirkenden", "Ada"),
    "changelog_is_sorted_by_kind": ("CHANGELOG.md", "### Hinzugefügt", "### Neu"),
    "every_page_and_notebook_is_read": ("book/konzept.md", FILES["book/konzept.md"], ""),
}


@pytest.fixture(scope="module")
def green(tmp_path_factory) -> Path:
    """Das kleine Buch ohne Fehler, mit gespeichertem Notebook."""
    tree = tmp_path_factory.mktemp("buch")
    for name in COPIED:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tree / name)
    for name, text in FILES.items():
        write(tree, name, text)
    write(tree, "_toc.yml", yaml.safe_dump(TOC, sort_keys=False))
    nbformat.write(new_notebook(cells=list(cells())), tree / NOTEBOOK)
    done = save(tree)
    assert done.returncode == 0, done.stdout
    used = {
        form for text in all_texts(tree) for word, _ in text.words() for form in spellings(word)
    }
    listed = (ROOT / WORDS).read_text(encoding="utf-8").splitlines(keepends=True)
    write(tree, WORDS, "".join(word for word in listed if word.strip() in used))
    return tree


@pytest.fixture
def tree(green, tmp_path) -> Path:
    """Eine Kopie für einen Fehler."""
    return shutil.copytree(green, tmp_path / "buch")


def assert_red(done: subprocess.CompletedProcess, *places: str) -> None:
    """Die Prüfung ist rot, und ihre Meldung nennt die Stelle."""
    assert done.returncode != 0, done.stdout
    missing = [place for place in places if not re.search(place, done.stdout)]
    assert not missing, f"Die Meldung nennt nicht {missing}:\n{done.stdout}"


# `build` und `compare` sind dort grün, wo es danach weitergeht: bei geänderter Seite und Stempel.
@pytest.mark.parametrize("gate", [rules, language])
def test_small_book_is_green(tree, gate):
    done = gate(tree)
    assert done.returncode == 0, done.stdout


def test_saving_again_changes_no_byte(tree):
    before = (tree / NOTEBOOK).read_bytes()
    assert save(tree).returncode == 0
    assert (tree / NOTEBOOK).read_bytes() == before


def test_saving_joins_output_in_pieces_and_replaces_that_of_changed_code(tree):
    # Die Ausgabe darf schwanken; behalten wird sie nur, solange der Code derselbe ist.
    edit(tree, NOTEBOOK, "time.time_ns()", "time.time_ns() and 'neu'")
    notebook = nbformat.read(tree / NOTEBOOK, as_version=4)
    # Der Kernel sendet, was nach einer Pause kommt, als neue Nachricht.
    pieces = new_code_cell("import time\n\nprint(1)\ntime.sleep(1)\nprint(2)", id="pieces")
    notebook.cells.append(pieces)
    nbformat.write(notebook, tree / NOTEBOOK)
    assert save(tree).returncode == 0
    cells = nbformat.read(tree / NOTEBOOK, as_version=4).cells
    (changed,) = (cell for cell in cells if "time_ns" in cell.source)
    assert changed.outputs[0].data["text/plain"] == "'neu'"
    assert [output.text for output in cells[-1].outputs] == ["1\n2\n"]


def test_failing_notebook_is_not_saved(tree):
    edit(tree, EXAMPLE, "price_usd", "price")
    before = (tree / NOTEBOOK).read_bytes()
    assert_red(save(tree), NOTEBOOK, r"Zelle \[2\]", "KeyError: 'price_usd'")
    assert (tree / NOTEBOOK).read_bytes() == before


def test_changed_example_breaks_the_notebook_that_shows_and_runs_it(tree):
    edit(tree, EXAMPLE, "Schätzt den Preis eines Steins.", "Rät den Preis eines Steins.")
    edit(tree, EXAMPLE, "price_usd", "price")
    done = compare(tree)
    assert_red(done, f"{NOTEBOOK}::Cell 0", "Rät den Preis")
    assert_red(done, f"{NOTEBOOK}::Cell 1", "KeyError: 'price_usd'")


def test_renamed_response_key_breaks_the_contract(tmp_path):
    ignored = ("artifacts", "wheels", "__pycache__", "*.ipynb", "test_[!c]*", "site")
    for name in ("examples", "tests", "notebooks", "tools"):
        kept = shutil.ignore_patterns(*ignored)
        shutil.copytree(ROOT / name, tmp_path / name, ignore=kept)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    artifacts = ROOT / "examples" / "price_model" / "artifacts"
    shutil.copytree(artifacts, tmp_path / "examples" / "price_model" / "artifacts")
    app = "examples/fastapi_service/app.py"
    edit(tmp_path, app, "    price_usd: float", "    price: float")
    edit(tmp_path, app, "Price(price_usd=price", "Price(price=price")
    chosen = "valid_question_gets and fastapi_service and example and not scikit"
    done = run(tmp_path, *PYTEST, "tests/test_contract.py", "-k", chosen)
    assert_red(done, r"fastapi_service-example", "KeyError: 'price_usd'")


CARELESS = {
    # Prüft nichts: gilt auch am Platzhalter.
    "Platzhalter": ('assert doubled, \\"', 'assert True, \\"'),
    # Nimmt jede Antwort an, die es gibt.
    "falsch 1": ("assert doubled / 2 ==", "assert True or"),
    # Vergleicht die Schreibweise statt der Sache.
    "richtig 1": (
        "assert doubled / 2",
        "assert type(doubled) is int, 'Ganz!'\\nassert doubled / 2",
    ),
}


def test_careless_checks_and_an_edited_output_break_the_comparison(tree):
    text, answers = (tree / NOTEBOOK).read_text("utf-8"), (tree / ANSWERS).read_text("utf-8")
    for number, (old, new) in enumerate(CARELESS.values()):
        write(tree, NOTEBOOK, text)
        edit(tree, NOTEBOOK, old, new)
        (tree / NOTEBOOK).rename(tree / f"notebooks/careless_{number}.ipynb")
        answers += answers.splitlines(keepends=True)[0].replace(SLUG, f"careless_{number}")
        answers += "".join((tree / ANSWERS).read_text("utf-8").splitlines(keepends=True)[1:])
    write(tree, ANSWERS, answers)
    write(tree, NOTEBOOK, text)
    edit(tree, NOTEBOOK, '"2800"', '"2801"')
    places = [rf"FAILED .*careless_{n}.*Cell 6 \({name}\)" for n, name in enumerate(CARELESS)]
    done = compare(tree)
    assert_red(done, *places, f"FAILED {NOTEBOOK}::Cell 1", "2801")
    assert len(re.findall("^FAILED", done.stdout, re.MULTILINE)) == len(CARELESS) + 1


def test_every_rule_for_notebooks_goes_red(tree):
    violated = {name: name.partition("-")[0] for name in VIOLATIONS}
    for name, violate in VIOLATIONS.items():
        notebook = nbformat.read(tree / NOTEBOOK, as_version=4)
        violate(notebook, [cell for cell in notebook.cells if cell.cell_type == "code"])
        write(tree, f"notebooks/{name}.ipynb", nbformat.writes(notebook, indent=2))
    done = run(tree, *PYTEST, "tests/test_notebooks.py")
    assert_red(done, *(rf"FAILED .*test_{rule}\[{name}\]" for name, rule in violated.items()))
    assert_red(done, r"Zelle \[1\] trägt die Nummer None")
    written = (ROOT / "tests" / "test_notebooks.py").read_text(encoding="utf-8")
    tests = re.findall(r"^def test_(\w+)\(\w", written, re.MULTILINE)
    assert set(tests) == set(violated.values())


def change_self_test(tree: Path, *changes: tuple[str, str]) -> None:
    """Ersetzt im Selbsttest jedes Vorkommen."""
    notebook = nbformat.read(tree / NOTEBOOK, as_version=4)
    cell = next(cell for cell in notebook.cells if cell.source.startswith("## Selbsttest"))
    for old, new in changes:
        assert old in cell.source
        cell.source = cell.source.replace(old, new)
    nbformat.write(notebook, tree / NOTEBOOK)


GIVEN_AWAY = {
    # Richtig ist immer „Ja“, die erste Antwort.
    "am selben Platz": [
        ("Richtig:", "Falsch:"),
        ("Ja</summary>\nFalsch:", "Ja</summary>\nRichtig:"),
    ],
    "die längste": [
        ("</summary>\nRichtig:", ", und das mit langer Begründung</summary>\nRichtig:")
    ],
    "die kürzeste": [("</summary>\nFalsch:", ", und das mit langer Begründung</summary>\nFalsch:")],
    "fast nie richtig": [("Ja</summary>\nRichtig:", "Ein Ja</summary>\nRichtig:")],
}


@pytest.mark.parametrize("reason", GIVEN_AWAY)
def test_answers_that_give_themselves_away_break_the_rules(tree, monkeypatch, reason):
    change_self_test(tree, *GIVEN_AWAY[reason])
    monkeypatch.setattr(test_notebooks, "NOTEBOOKS", [tree / NOTEBOOK])
    with pytest.raises(AssertionError, match=reason):
        test_notebooks.test_right_answers_are_not_given_away()


def test_every_rule_for_the_layout_goes_red(tree):
    edit(tree, "_toc.yml", f"    sections:\n    - file: notebooks/{SLUG}\n", "")
    edit(tree, "tests/test_layout.py", "{8108}", "{8101}")
    write(tree, "tests/contract.py", "\nVARIANTS = {}\n")
    write(tree, "tests/examples/test_ghost.py", "")
    write(tree, f"examples/{SLUG}/app.py", "PORT = 8101\n\n\ndef main() -> int:\n    return 0\n")
    write(tree, "book/Lose Seite.md", "# Lose\n\n    print(1)\n\nSiehe /home/ada/modell.\n")
    write(tree, "book/index.md", FILES["book/index.md"] + "\n```python\nprint(1)\n```\n")
    (tree / f"tests/examples/test_{SLUG}.py").unlink()
    done = run(tree, *PYTEST, "tests/test_layout.py")
    written = (ROOT / "tests" / "test_layout.py").read_text(encoding="utf-8")
    names = re.findall(r"^def test_(\w+)", written, re.MULTILINE)
    assert_red(done, *(f"FAILED .*test_{name}" for name in names))
    assert_red(
        done,
        f"{SLUG}: Es fehlt Test tests/examples/test_{SLUG}.py",
        f"notebooks/{SLUG} fehlt in _toc.yml",
        r"book/Lose Seite\.md: Zeile 3 .*print\(1\)",
        r"book/index\.md: Zeile 5 .*print\(1\)",
    )


def test_every_rule_for_language_and_documents_goes_red(tree):
    needs.program("hunspell", "sudo apt install hunspell hunspell-de-de")
    for name, old, new in EDITS.values():
        edit(tree, name, old, new)
    paragraphs = [text for text, _ in FAULTS.values()]
    write(tree, "book/index.md", "\n\n".join([FILES["book/index.md"], *paragraphs]) + "\n")
    write(tree, WORDS, "Aal\n" + (tree / WORDS).read_text(encoding="utf-8"))
    done = language(tree)
    red = {*FAULTS, *EDITS, "word_list_is_sorted_and_used"}
    assert_red(done, *(f"FAILED .*test_{re.escape(name)}" for name in red), "enthält kein .* Aal")
    assert_red(done, *(rf"book/index\.md.*{said}" for _, said in FAULTS.values()))
    written = "".join(
        (tree / f"tests/test_{module}.py").read_text(encoding="utf-8")
        for module in ("prose", "labels", "documents")
    )
    tests = set(re.findall(r"^def test_(\w+)", written, re.MULTILINE))
    styles = re.findall(r'^    "([a-z -]+)": \($', written, re.MULTILINE)
    assert tests == {name.partition("[")[0] for name in red}
    assert {f"style_is_kept[{style}]" for style in styles} < red


def test_unsorted_word_list_goes_red(tree, monkeypatch):
    write(tree, WORDS, (tree / WORDS).read_text(encoding="utf-8") + "Aal\n")
    monkeypatch.setattr(test_prose, "WORD_LIST", tree / WORDS)
    with pytest.raises(AssertionError, match=r"Nach dem Alphabet steht vor „\w+“ noch „Aal“"):
        test_prose.test_word_list_is_sorted_and_used()


def observed(cell: str) -> str:
    """Ein Satz mit einer Zahl aus der Ausgabe dieser Zelle."""
    return f"\nEin Karat kostet {{observed}}`{SLUG} {cell} (\\d+)` US-Dollar.\n"


def add_price_form(tree: Path) -> None:
    """Setzt den Preisrechner auf eine Seite; sein Rechenwerk hat das kleine Buch nicht."""
    (tree / "book/data").mkdir(exist_ok=True)
    for name in ("price_form.json", "price_model.onnx"):
        shutil.copy(ROOT / "book/data" / name, tree / "book/data" / name)
    write(tree, "book/konzept.md", FILES["book/konzept.md"] + "\n:::{price-form}\n:::\n")


@pytest.fixture(scope="module")
def published(green, tmp_path_factory) -> Path:
    """Das kleine Buch mit Preisrechner, gebaut wie zum Veröffentlichen, aber nicht in CI."""
    tree = shutil.copytree(green, tmp_path_factory.mktemp("published") / "buch")
    add_price_form(tree)
    done = build(tree, REPOSITORY_URL=f"{REPOSITORY}.git", SITE_URL=SITE, CI="")
    assert done.returncode == 0, done.stdout
    return tree / "_build" / "html"


def test_price_form_without_its_runtime_says_so_and_breaks_only_ci(published, tree):
    assert "fehlt das Rechenwerk" in (published / "book/konzept.html").read_text("utf-8")
    add_price_form(tree)
    assert_red(build(tree, CI="true"), "fehlt das Rechenwerk. Abhilfe: npm installieren")


def test_buttons_lead_to_the_repository(published):
    page = (published / f"notebooks/{SLUG}.html").read_text(encoding="utf-8")
    assert f'href="{REPOSITORY}/edit/main/{NOTEBOOK}"' in page
    assert f"mybinder.org/v2/gh/beispiel/buch/main?urlpath=lab/tree/{NOTEBOOK}" in page


def test_download_button_brings_the_notebook(published, green):
    page = (published / f"notebooks/{SLUG}.html").read_text(encoding="utf-8")
    assert f'href="../_sources/{NOTEBOOK}" download title=' in page
    assert (published / "_sources" / NOTEBOOK).read_bytes() == (green / NOTEBOOK).read_bytes()


def test_sitemap_names_every_page(published):
    sitemap = (published / "sitemap.xml").read_text(encoding="utf-8")
    pages = ["book/index", "book/konzept", f"notebooks/{SLUG}"]
    assert re.findall("<loc>(.*)</loc>", sitemap) == [f"{SITE}{name}.html" for name in pages]
    assert f"Sitemap: {SITE}sitemap.xml" in (published / "robots.txt").read_text(encoding="utf-8")


def test_pages_name_their_own_address(published):
    page = (published / f"notebooks/{SLUG}.html").read_text(encoding="utf-8")
    address = f"{SITE}notebooks/{SLUG}.html"
    assert f'<link rel="canonical" href="{address}"' in page
    assert f'<meta property="og:url" content="{address}">' in page


def page(tree: Path, name: str) -> str:
    """Eine Seite des gebauten Buchs."""
    return (tree / f"_build/html/{name}.html").read_text(encoding="utf-8")


def stamped(tree: Path) -> str:
    """Baut das Buch und gibt die Seite des Notebooks zurück."""
    done = build(tree)
    assert done.returncode == 0, done.stdout
    html = page(tree, f"notebooks/{SLUG}")
    assert len(re.findall(r'<dl class="[^"]*\bstamp"', html)) == 1
    return html


def test_stamp_shows_the_last_run_of_exactly_this_notebook_and_changes_are_built(tree):
    done = compare(tree)
    assert done.returncode == 0, done.stdout
    html = stamped(tree)
    assert "auf diesem Rechner" in html and "stamp-green" in html
    write(tree, "book/index.md", FILES["book/index.md"] + "\nEin neuer Satz.\n")
    write(tree, "book/konzept.md", FILES["book/konzept.md"] + observed("c5"))
    edit(tree, NOTEBOOK, "Der Quelltext.", "Der ganze Quelltext.")
    html = stamped(tree)
    assert "liegt kein Prüflauf vor" in html and "stamp-green" not in html
    assert "Ein neuer Satz." in page(tree, "book/index")
    assert "Ein Karat kostet 2\u202f800 US-Dollar." in page(tree, "book/konzept")


def test_every_warning_breaks_the_build(tree):
    """Ein Bau für alle: Jede Stelle trägt selbst `WARNING`, und das genügt ihm."""
    edit(tree, "book/index.md", "konzept.md", "konzepte.md")
    edit(tree, EXAMPLE, "# Ende\n", "")
    # Was keine Ausgabe hat, hat auch keine Zahl.
    write(tree, "book/konzept.md", FILES["book/konzept.md"] + observed("c1"))
    edit(tree, NOTEBOOK, "{'python': ", "{'python' ")
    change_self_test(tree, ("Richtig:", "Jawohl:"))
    assert_red(
        build(tree),
        r"book/index\.md.*WARNING.*konzepte\.md",
        r"book/konzept\.md.*WARNING.*# Ende",
        r"book/konzept\.md.*WARNING.*Keine Ausgabe zu 'tiny_model c1",
        rf"WARNING.*{SLUG}\.ipynb: Die letzte Zelle nennt keine Versionen",
        rf"{NOTEBOOK}.*WARNING.*Keine Antwort mit „Richtig",
    )


def test_foreign_script_breaks_the_build(tree):
    script = '\n<script src="https://example.org/zaehler.js"></script>\n'
    write(tree, "book/konzept.md", FILES["book/konzept.md"] + script)
    assert_red(build(tree), r"book/konzept\.html.*https://example\.org/zaehler\.js")


def test_image_without_text_breaks_the_build(tree):
    edit(tree, "book/konzept.md", "![Ein Punkt auf einer Linie]", "![]")
    assert_red(build(tree), r"ohne Textalternative", r"book/konzept\.html.*mark\.svg")


# Je Umweg ein Stück Markdown; von einem Zaun im anderen bis zu HTML.
SMUGGLED = {
    "in einer Direktive": "````{note}\n```python\nprint(1)\n```\n````\n",
    "als Direktive": "```{code-block} python\nprint(1)\n```\n",
    "als HTML": "<pre>print(1)</pre>\n",
    "nach Nummern": "```{literalinclude} ../app.py\n:lines: 1-3\n```\n",
}


@pytest.mark.parametrize("way", SMUGGLED)
def test_code_is_found_wherever_it_is_typed(way):
    assert len(typed_code(SMUGGLED[way])) == 1
    assert not typed_code("```{note}\nEin Satz.\n```\n\n```{literalinclude} ../app.py\n```\n")
