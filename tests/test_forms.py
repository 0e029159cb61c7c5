"""EPUB und PDF an einem winzigen Buch, mit denselben Programmen wie `make epub` und `make pdf`.

Dazu Binder und Devcontainer: Beide installieren den einen Lock.
"""

import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from packaging.requirements import Requirement

import check_forms
import needs
import print_book

ROOT = Path(__file__).resolve().parent.parent
COPIED = (
    *("_config.yml", "tools", "book/_ext", "book/_print", "book/_static", "book/_templates"),
    *("book/data/price_form.json", "book/data/price_model.onnx"),
)
LONG = "x" * 130
FILES = {
    "book/anhang/literatur.bib": "",
    "_toc.yml": "format: jb-book\nroot: book/index\nparts:\n- caption: Kapitel\n  chapters:\n"
    "  - file: book/konzept\n    sections:\n    - file: book/ausgabe\n"
    "    - file: book/lehre/konzept\n",
    "book/index.md": "# Kleines Buch\n\nWeiter zum [Konzept](konzept.md).\n\n```{downloads}\n```\n",
    "book/konzept.md": f"""# Konzept mit Umlauten: ä, ö, ü, ß

Die Formel $\\lambda = 0{{,}}8$, ein Pfeil →, eine Menge ∈, ein Rahmen ┌─┐, ein Haken ✓, ein 💎.

![Ein Punkt auf einer Linie](_static/mark.svg)

<https://example.org/{LONG}>

| Spalte | Noch eine | Dritte | Vierte |
|---|---|---|---|
| Donaudampfschifffahrtsgesellschaft | `{LONG[:30]}` | Herausforderungen | Aufteilung |

```python
import os
{LONG}
```

:::{{price-form}}
:::

<details><summary>Antwort</summary>Aufgeklappt.</details>

Dazwischen.

3. Der dritte Punkt.
""",
    "book/ausgabe.md": "# Ausgabe\n\nZurück zur [Tabelle](konzept.md).\n",
    # Heißt wie eine andere Seite, nur in einem anderen Ordner.
    "book/lehre/konzept.md": "# Konzept unterrichten\n\nEin Satz.\n",
}
PAGES = ["book/index", "book/konzept", "book/ausgabe", "book/lehre/konzept"]


def produce(form: str) -> tuple[int, str]:
    """Ruft print_book.py in diesem Prozess auf; gibt Exitcode und Ausgabe zurück."""
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said):
        patch.setattr(sys, "argv", ["print_book.py", form])
        try:
            print_book.main()
        except SystemExit as end:
            return 1, str(end)
    return 0, said.getvalue()


@pytest.fixture(scope="module")
def book(tmp_path_factory) -> Iterator[Path]:
    """Das winzige Buch mit EPUB und PDF."""
    needs.program("java", "sudo apt install default-jre-headless")
    tree = tmp_path_factory.mktemp("buch")
    for name in COPIED:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tree / name)
    for name, text in FILES.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text, encoding="utf-8")
    options = re.search(r"build \. (--path-output .+? epub) \\\n\s+(.+)", makefile())
    program = Path(sys.executable).parent / "jupyter-book"
    done = subprocess.run(
        [program, "build", ".", *f"{options[1]} {options[2]}".split()],
        cwd=tree,
        env={name: value for name, value in os.environ.items() if name != "CI"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stdout
    with pytest.MonkeyPatch.context() as patch:
        forms = tree / "_build" / "forms"
        patch.setattr(print_book, "ROOT", tree)
        patch.setattr(print_book, "FORMS", forms)
        patch.setattr(print_book, "FOLDER", forms / "_build" / "epub")
        # Ein Lauf von epubcheck kostet Sekunden: Der eine prüft unten die verdorbene Kopie und
        # darf nichts melden als das Verdorbene.
        with pytest.MonkeyPatch.context() as stub:
            valid = SimpleNamespace(messages=[], valid=True)
            stub.setattr("epubcheck.EpubCheck", lambda path: valid)
            made = [produce(form) for form in ("epub", "pdf")]
        assert [code for code, _ in made] == [0, 0], made
        assert all("modelle-in-betrieb." in said for _, said in made)
        yield tree


def makefile() -> str:
    return (ROOT / "Makefile").read_text(encoding="utf-8")


@pytest.fixture
def epub(book, tmp_path) -> Path:
    """Eine Kopie des EPUB für einen Fehler."""
    return shutil.copy(book / "_build/forms/modelle-in-betrieb.epub", tmp_path / "x.epub")


def replace(epub: Path, name: str, old: str, new: str) -> None:
    """Ersetzt ein Stück Text in einer Datei des EPUB; es muss vorkommen."""
    with zipfile.ZipFile(epub) as source:
        files = {info.filename: source.read(info) for info in source.infolist()}
    assert old.encode() in files[name]
    files[name] = files[name].replace(old.encode(), new.encode())
    with zipfile.ZipFile(epub, "w") as target:
        for file, content in files.items():
            target.writestr(file, content)


def test_epub_holds_everything_opened_and_without_scripts(epub):
    with zipfile.ZipFile(epub) as book:
        page = book.read("book/konzept.xhtml").decode()
    for part in ("Antwort", "Aufgeklappt.", "<math alttext=", "Geschätzter Preis", "<img"):
        assert part in page, part
    assert not re.search(r"<(?:script|details|form|button)\b", page)


@pytest.mark.parametrize("width", [600, 360])
def test_epub_fits_narrow_screens(book, browser, width):
    page = browser.new_page(viewport={"width": width, "height": 640})
    page.goto((print_book.FOLDER / "book/konzept.xhtml").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") == width
    page.close()


# (Datei, alt, neu, was die Meldung nennt); alle in einer Datei, weil epubcheck Sekunden braucht.
FAULTS = [
    ("book/konzept.xhtml", "Geschätzter", "<script>1</script>", "konzept.xhtml: Skript"),
    ("book/konzept.xhtml", "Antwort", "siehe Online-Version", "andere Fassung"),
    ("book/index.xhtml", 'href="konzept.xhtml"', 'href="fehlt.xhtml"', "fehlt.xhtml"),
    ("content.opf", ' properties="mathml"', "", "mathml"),
    ("content.opf", "<dc:title>Modelle in Betrieb<", "<dc:title>Ohne<", "Der Titel fehlt"),
    ("content.opf", "<dc:language>de<", "<dc:language>en<", "Sprache fehlt"),
]


def test_faults_of_an_epub_are_found(epub, monkeypatch):
    # Für so wenige Seiten lohnt es nicht, dass Java sich selbst beschleunigt.
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")
    for name, old, new, _ in FAULTS:
        replace(epub, name, old, new)
    problems = check_forms.check_epub(epub, PAGES[::-1], "Modelle in Betrieb")
    wanted = [said for *_, said in FAULTS] + ["Die Reihenfolge", "scripted"]
    missing = [said for said in wanted if not any(said in line for line in problems)]
    more = [line for line in problems if not any(said in line for said in wanted)]
    assert (missing, more) == ([], []), problems


def test_faults_only_this_check_knows_are_found_in_an_epub(tmp_path, monkeypatch):
    pages = {"cover": "", "book/a": "<details>zu</details>", "book/b": ""}
    items = "".join(f'<item id="{n}" href="{n}.xhtml"/><itemref idref="{n}"/>' for n in pages)
    with zipfile.ZipFile(tmp_path / "x.epub", "w") as book:
        book.writestr("content.opf", f"{items}<dc:title>T</dc:title><dc:language>de</dc:language>")
        for name, text in pages.items():
            book.writestr(f"{name}.xhtml", text)
    monkeypatch.setattr(check_forms.shutil, "which", lambda name: name)
    rejected = SimpleNamespace(messages=[], valid=False)
    monkeypatch.setattr("epubcheck.EpubCheck", lambda path: rejected)
    assert check_forms.check_epub(tmp_path / "x.epub", ["book/a", "book/b"], "T") == [
        "epubcheck lehnt die Datei ab",
        "book/a.xhtml: zugeklappt",
        "Titelbild fehlt",
    ]


class Sheet(dict):
    """Eine Seite eines erfundenen PDF: ihr Text und ihre Schriften."""

    def __init__(self, text: str, font: str) -> None:
        embedded = SimpleNamespace(get_object=lambda: {"/FontFile2": 1})
        known = {"/BaseFont": font, "/FontDescriptor": embedded}
        font = SimpleNamespace(get_object=lambda: known)
        super().__init__({"/Resources": {"/Font": {"/F1": font}}})
        self.extract_text = lambda: text


def test_faults_of_the_text_of_a_pdf_are_found(monkeypatch):
    html = '<html><title>T</title><article id="a"><h1>A</h1><a href="#a">A</a></article></html>'
    texts = {"A": "DejaVuSans", "Siehe die Online-Version": "Arial", "\ufffd": "DejaVuSans"}
    pdf = SimpleNamespace(
        pages=[Sheet(text, font) for text, font in texts.items()],
        metadata=SimpleNamespace(title="T"),
        root_object={"/Lang": "en", "/StructTreeRoot": {"/K": None}},
        named_destinations={"a": 0},
        outline=[SimpleNamespace(title="A")],
        get_destination_page_number=lambda _: 0,
    )
    monkeypatch.setattr("pypdf.PdfReader", lambda path: pdf)
    monkeypatch.setattr(check_forms, "layout", lambda *_: [])
    monkeypatch.setattr(check_forms, "figures", lambda _: 0)
    monkeypatch.setattr(check_forms, "MOST_PAGES", 2)
    assert check_forms.check_pdf(Path("x.pdf"), html) == (
        3,
        [
            "3 Seiten für 1 Kapitel",
            "Titel oder Sprache fehlt in den Angaben zum Dokument",
            "Fremde Schrift Arial",
            "0 Sprünge statt 1",
            "Seite 2: Verweis auf eine andere Fassung",
            "Seite 3: Ein Zeichen fehlt",
        ],
    )


@pytest.fixture(scope="module")
def source(book) -> str:
    """Das Dokument, aus dem das PDF entstand."""
    toc = yaml.safe_load((book / "_toc.yml").read_text(encoding="utf-8"))
    return print_book.assemble(print_book.FOLDER, toc, "Modelle in Betrieb")


def test_pdf_is_complete(book, source):
    from pypdf import PdfReader

    path = book / "_build/forms/modelle-in-betrieb.pdf"
    texts = [page.extract_text() for page in PdfReader(path).pages]
    assert len(texts) >= 2 + len(PAGES)  # Titel, Inhalt, je Seite mindestens eine
    text = "".join(texts)
    for part in ("→", "∈", "┌─┐", "✓", "Aufgeklappt.", "Geschätzter Preis", "import os"):
        assert part in text, part
    assert re.sub(r"\s", "", text).count("x" * 130) == 2, "Lange Zeile abgeschnitten"
    assert "3. " in text, "Die Liste beginnt nicht mit 3"


def test_faults_of_a_pdf_are_found(book, source):
    from pypdf import PdfWriter
    from pypdf.generic import NameObject

    path = book / "_build/forms/modelle-in-betrieb.pdf"
    assert check_forms.check_pdf(path, source)[1] == []

    broken = source.replace("Kleines Buch", "Anderes Buch").replace("<p>", '<p><img src="x">', 1)
    broken = broken.replace('"#book-lehre-konzept"', '"#book-konzept"')
    writer = PdfWriter(clone_from=path)
    for page in writer.pages:
        for font in page["/Resources"].get("/Font", {}).values():
            inner = font.get_object()["/DescendantFonts"][0].get_object()
            descriptor = inner["/FontDescriptor"].get_object()
            for key in [key for key in descriptor if key.startswith("/FontFile")]:
                del descriptor[key]
        for annotation in page.get("/Annots", []):
            if "/Dest" in annotation.get_object():
                annotation.get_object()[NameObject("/Dest")] = NameObject("/nirgends")
    writer.write(book / "broken.pdf")
    found = "\n".join(check_forms.check_pdf(book / "broken.pdf", broken)[1])
    for said in (
        "Kein Lesezeichen führt zu „Anderes Buch“",
        "Das Inhaltsverzeichnis nennt für „Konzept unterrichten“ eine falsche Seite",
        "Bilder mit Textalternative",
        "ist nicht eingebettet",
        "hat kein Ziel",
    ):
        assert said in found, said


@contextlib.contextmanager
def changed(page: Path, new: str) -> Iterator[None]:
    """Setzt an die Stelle eines Satzes, was auf einer Seite falsch sein soll."""
    before = page.read_text(encoding="utf-8")
    assert "Aufgeklappt." in before
    page.write_text(before.replace("Aufgeklappt.", new), encoding="utf-8")
    yield
    page.write_text(before, encoding="utf-8")


@pytest.mark.parametrize(
    ("new", "said"),
    [
        ("\U0001f980", "Die Schrift enthält nicht"),
        ('<a href="fehlt.xhtml">x</a>', "führt zu keiner Seite"),
    ],
)
def test_pages_that_cannot_be_set_say_why(book, new, said):
    with changed(print_book.FOLDER / "book/konzept.xhtml", new):
        code, output = produce("pdf")
    assert code == 1 and said in output


# Was erst auf der gesetzten Seite auffällt; alles in einem Satz, weil jeder Sekunden kostet.
SPOILED = (
    '<a href="file:///etc/hosts">x</a>'
    '<p style="white-space: nowrap; hyphens: none">' + "breit " * 40 + "</p>"
    '<div style="height: 120mm"></div>'
    '<section id="allein"><h2 style="break-after: page">Allein</h2></section>'
    '<p style="break-after: page">Fast leer.</p><p>Ende.</p>'
)


def test_pdf_with_faults_is_not_kept(book):
    target = book / "_build/forms/modelle-in-betrieb.pdf"
    pdf = target.read_bytes()
    with changed(print_book.FOLDER / "book/konzept.xhtml", SPOILED):
        code, output = produce("pdf")
    assert code == 1
    for said in (
        "führt auf diesen Rechner",
        "Inhalt auf dem Rand",
        "Die Überschrift „Allein“ steht allein unten",
        "gefüllt, mitten im Kapitel",
    ):
        assert said in output, output
    assert target.read_bytes() == pdf


def test_forms_without_pages_say_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(print_book, "FOLDER", tmp_path)
    assert produce("pdf") == (1, "Die Seiten fehlen. Abhilfe: make epub")


def test_every_background_comes_with_its_colour():
    # Ein Lesegerät macht die Schrift nachts hell; auf hellem Grund verschwände sie.
    style = (ROOT / "book/_print/print.css").read_text(encoding="utf-8")
    rules = re.findall(r"^ *([^{}@/]+)\{([^{}]*)\}", style, re.MULTILINE)
    grounds = [(name.strip(), rule) for name, rule in rules if "background" in rule]
    bare = [name for name, rule in grounds if not re.search(r"(?<![-\w])color:", rule)]
    assert grounds and [name for name in bare if not name.endswith("img")] == []


def test_binder_installs_the_lock(tmp_path):
    program = needs.program("repo2docker", "make test richtet es ein")
    shutil.copytree(ROOT / ".binder", tmp_path / ".binder")
    shutil.copy(ROOT / "requirements.txt", tmp_path)
    done = subprocess.run(
        [program, "--no-build", "--debug", "."], cwd=tmp_path, capture_output=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout + done.stderr
    assert "RUN ./.binder/postBuild" in said
    assert "conda environment for python=3.13" in said
    commands = (ROOT / ".binder/postBuild").read_text(encoding="utf-8")
    assert re.findall(r"pip install (.*)", commands) == [
        "--no-cache-dir --no-deps -r requirements.txt"
    ]
    # Eine eigene Paketliste im Ordner ginge dem Lock vor.
    assert {path.name for path in (ROOT / ".binder").iterdir()} == {
        "postBuild",
        "runtime.txt",
        "start",
    }


def test_installed_versions_are_those_of_the_lock():
    # Läuft auch in einer Umgebung, die .binder/postBuild oder der Devcontainer eingerichtet hat.
    locked = [Requirement(line) for line in (ROOT / "requirements.txt").read_text().splitlines()]
    here = [wanted for wanted in locked if not wanted.marker or wanted.marker.evaluate()]
    other = [line for line in here if version(line.name) not in line.specifier]
    assert len(here) > 200 and not other


def test_devcontainer_only_calls_make():
    folder = ROOT / ".devcontainer"
    settings = json.loads((folder / "devcontainer.json").read_text(encoding="utf-8"))
    targets = re.findall(r"^([a-z-]+):", makefile(), re.MULTILINE)
    name, target = settings["postCreateCommand"].split()
    assert name == "make" and target in targets
    assert "features" not in settings
    image = (folder / "Dockerfile").read_text(encoding="utf-8")
    assert "pip" not in image
    version = (ROOT / ".binder/runtime.txt").read_text(encoding="utf-8").strip()
    assert image.startswith(f"FROM {version.replace('-', ':')}-")


def test_publishing_builds_the_forms_before_the_site():
    text = (ROOT / ".github/workflows/publish.yml").read_text(encoding="utf-8")
    steps = yaml.safe_load(text)["jobs"]["build"]["steps"]
    runs = [step["run"] for step in steps if "run" in step]
    assert runs.index("make slides pdf") < runs.index("make book")
    assert re.search(r"^pdf: epub", makefile(), re.MULTILINE)
