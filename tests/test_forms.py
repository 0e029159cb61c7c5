"""EPUB und PDF an einem winzigen Buch, mit denselben Programmen wie `make epub` und `make pdf`.

Dazu Binder und Devcontainer: Beide installieren den einen Lock.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

import needs
from tools import check_forms

ROOT = Path(__file__).resolve().parent.parent
COPIED = (
    *("_config.yml", "tools", "book/_ext", "book/_print", "book/_static", "book/_templates"),
    *("book/data/price_form.json", "book/data/price_model.onnx"),
)
LONG = "x" * 130
FILES = {
    "book/anhang/literatur.bib": "",
    "_toc.yml": "format: jb-book\nroot: book/index\nparts:\n- caption: Kapitel\n  chapters:\n"
    "  - file: book/konzept\n    sections:\n    - file: book/ausgabe\n",
    "book/index.md": "# Kleines Buch\n\nWeiter zum [Konzept](konzept.md).\n\n```{downloads}\n```\n",
    "book/konzept.md": f"""# Konzept mit Umlauten: ä, ö, ü, ß

Die Formel $\\lambda = 0{{,}}8$, ein Pfeil →, eine Menge ∈, ein Rahmen ┌─┐, ein Haken ✓, ein 💎.

![Ein Punkt auf einer Linie](_static/mark.svg)

| Spalte | Noch eine |
|---|---|
| Donaudampfschifffahrtsgesellschaft | zwei |

```python
{LONG}
```

:::{{price-form}}
:::

<details><summary>Antwort</summary>Aufgeklappt.</details>
""",
    "book/ausgabe.md": "# Ausgabe\n\nZurück zur [Tabelle](konzept.md).\n",
}
PAGES = ["book/index", "book/konzept", "book/ausgabe"]


def run(tree: Path, *command: str) -> subprocess.CompletedProcess:
    """Führt ein Programm dieser Umgebung im winzigen Buch aus."""
    return subprocess.run(
        [sys.executable, *command],
        cwd=tree,
        env={name: value for name, value in os.environ.items() if name != "CI"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )


def produce(tree: Path, form: str) -> subprocess.CompletedProcess:
    return run(tree, "tools/print_book.py", form)


@pytest.fixture(scope="module")
def book(tmp_path_factory) -> Path:
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
    command = f"{options[1]} {options[2]}".split()
    done = run(tree, str(Path(sys.executable).parent / "jupyter-book"), "build", ".", *command)
    assert done.returncode == 0, done.stdout
    for form in ("epub", "pdf"):
        done = produce(tree, form)
        assert done.returncode == 0, done.stdout
        assert f"modelle-in-betrieb.{form}: " in done.stdout
    return tree


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


# (Datei, alt, neu, was die Meldung nennt); alle in einer Datei, weil epubcheck Sekunden braucht.
FAULTS = [
    ("book/konzept.xhtml", "Geschätzter", "<script>1</script>", "konzept.xhtml: Skript"),
    ("book/konzept.xhtml", "Antwort", "siehe Online-Version", "andere Fassung"),
    ("book/index.xhtml", 'href="konzept.xhtml"', 'href="fehlt.xhtml"', "fehlt.xhtml"),
    ("content.opf", ' properties="mathml"', "", "mathml"),
    ("content.opf", "<dc:language>de<", "<dc:language>en<", "Sprache fehlt"),
]


def test_faults_of_an_epub_are_found(epub):
    for name, old, new, _ in FAULTS:
        replace(epub, name, old, new)
    problems = "\n".join(check_forms.check_epub(epub, PAGES[::-1]))
    missing = [said for *_, said in FAULTS if said not in problems]
    assert not missing and "Reihenfolge" in problems, problems


def html(book: Path) -> str:
    """Das Dokument, aus dem das PDF entstand."""
    code = (
        "import sys, yaml; sys.path.insert(0, 'tools'); import print_book as p;"
        "print(p.assemble(p.FOLDER, yaml.safe_load(open('_toc.yml')), 'Modelle in Betrieb'))"
    )
    return run(book, "-X", "utf8", "-c", code).stdout


def test_pdf_is_complete_and_its_faults_are_found(book):
    from pypdf import PdfReader, PdfWriter
    from pypdf.generic import NameObject

    source = html(book)
    path = book / "_build/forms/modelle-in-betrieb.pdf"
    pages, problems = check_forms.check_pdf(path, source)
    assert not problems
    assert pages >= 2 + len(PAGES)  # Titel, Inhalt, je Seite mindestens eine
    text = "".join(page.extract_text() for page in PdfReader(path).pages)
    for part in ("→", "∈", "┌─┐", "✓", "Aufgeklappt.", "Geschätzter Preis"):
        assert part in text, part
    assert re.sub(r"\s", "", text).count("x" * 130) == 1, "Lange Zeile abgeschnitten"

    broken = source.replace("Kleines Buch", "Anderes Buch").replace("<p>", '<p><img src="x">', 1)
    found = "\n".join(check_forms.check_pdf(path, broken)[1])
    assert "Kein Lesezeichen führt zu „Anderes Buch“" in found
    assert "Bilder mit Textalternative" in found

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
    found = "\n".join(check_forms.check_pdf(book / "broken.pdf", source)[1])
    assert "ist nicht eingebettet" in found
    assert "hat kein Ziel" in found


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("Aufgeklappt.", "\U0001f980", "Die Schrift enthält nicht"),
        ("Aufgeklappt.", '<a href="fehlt.xhtml">x</a>', "führt zu keiner Seite"),
        ("Aufgeklappt.", '<a href="file:///etc/hosts">x</a>', "führt auf diesen Rechner"),
    ],
)
def test_pdf_with_a_fault_is_not_kept(book, old, new, said):
    page = book / "_build/forms/_build/epub/book/konzept.xhtml"
    target = book / "_build/forms/modelle-in-betrieb.pdf"
    before, pdf = page.read_text(encoding="utf-8"), target.read_bytes()
    try:
        page.write_text(before.replace(old, new), encoding="utf-8")
        done = produce(book, "pdf")
    finally:
        page.write_text(before, encoding="utf-8")
    assert done.returncode == 1 and said in done.stdout, done.stdout
    assert "Traceback" not in done.stdout
    assert target.read_bytes() == pdf


def test_forms_without_pages_say_what_to_do(tmp_path):
    shutil.copytree(ROOT / "tools", tmp_path / "tools")
    done = produce(tmp_path, "pdf")
    assert done.returncode == 1
    assert done.stdout.strip() == "Die Seiten fehlen. Abhilfe: make epub"


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


def test_publishing_builds_the_epub_before_the_site():
    text = (ROOT / ".github/workflows/publish.yml").read_text(encoding="utf-8")
    steps = yaml.safe_load(text)["jobs"]["build"]["steps"]
    runs = [step["run"] for step in steps if "run" in step]
    assert runs.index("make slides epub") < runs.index("make book")
