"""Ein Name, vier Orte: Notebook, Beispiel, Test und Abschnitt gehören zusammen."""

import re
from pathlib import Path

import nbformat
import pytest
import yaml
from markdown_it import MarkdownIt

from texts import WITHOUT_EXAMPLE

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")}
EXAMPLES = {path.parent.name for path in (ROOT / "examples").glob("*/__init__.py")}
PAGES = sorted((ROOT / "book").rglob("*.md"))
# Der gemeinsame Fall und die Nachbildungen der Plattformen sind keine Kapitel.
STAND_INS = {"local_cloud"}
# Der Klassenserver betreibt die Kapitel, er ist keines und antwortet nicht auf Fragen.
FOR_TEACHERS = {"classroom_hub"}
SHARED = {"price_model"} | STAND_INS | FOR_TEACHERS
# Nur diese bringen eine Anwendung mit; alles andere betreibt eine von ihnen.
APPS = {"gradio_app", "streamlit_app", "flask_service", "fastapi_service"}
# Jeder Dienst hat feste Ports, damit Notebooks nebeneinander laufen können.
PORTS = {
    "gradio_app": {8101, 8111, 8121},
    "streamlit_app": {8102, 8112},
    "flask_service": {8103, 8113},
    "fastapi_service": {8104, 8114, 8124},
    "tensorflow_savedmodel": {8108},
    "huggingface_space": {8181, 8182, 8183, 8184},
    "sagemaker_endpoint": {8185, 8186, 8187, 8188},
    "vertex_ai_endpoint": {8191, 8192, 8193, 8194},
    "azure_ml_endpoint": {8195, 8196, 8198},
    "docker_image": {8131, 8132, 8133},
    "compose_stack": {8141, 8142, 8143},
    "kubernetes_cluster": {8151, 8152, 8153},
    "load_test": {8241, 8242, 8243, 8244},
    "load_balancing": set(range(8161, 8169)),
    "auto_scaling": {8171, 8172, 8173, 8174},
    "drift_detection": {8201, 8202},
    "versioning_git_dvc": {8205},
    "service_logging": {8215, 8216, 8217},
    "experiment_tracking_mlflow": {8211, 8212},
    "monitoring_alerting": set(range(8225, 8231)),
    "model_registry": {8231, 8232, 8233},
    "ci_cd_pipeline": {8235, 8236, 8237, 8238, 8239},
    "ab_test": {8221, 8222, 8223, 8224},
    "experiment_tracking_wandb": {8245, 8246},
    "end_to_end": set(range(8251, 8260)),
    "classroom_hub": {8260, 8261, 8262},
}
PORT = re.compile(r"\b8[12]\d\d\b")
MACHINE_PATH = re.compile(r"(?<![\w.:/-])/(?:home|root|work|Users)/|[A-Z]:\\Users|file://")
FILE_NAME = re.compile(r"[a-z0-9_.-]+|README\.md|Dockerfile(\.dockerignore)?")
TYPED = re.compile(r"\{(?:code|code-block|code-cell|sourcecode|parsed-literal)\}")


def test_exit_code_of_main_reaches_the_shell():
    # Viele Tests rufen `main` im eigenen Prozess auf; diese zwei Zeilen sähen sie nie.
    end = 'if __name__ == "__main__":\n    sys.exit(main())\n'
    texts = {path: path.read_text(encoding="utf-8") for path in (ROOT / "examples").rglob("*.py")}
    lost = [
        path.relative_to(ROOT).as_posix()
        for path, text in texts.items()
        if "def main() -> int:" in text and end not in text
    ]
    assert not lost, f"Es fehlt am Ende sys.exit(main()): {lost}"


def toc() -> tuple[list[str], dict[str, str]]:
    """Alle Seiten aus _toc.yml und zu jedem Unterpunkt die Seite darüber."""
    content = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    pages, parents = [content["root"]], {}

    def collect(entries: list[dict], parent: str) -> None:
        for entry in entries:
            pages.append(entry["file"])
            parents[entry["file"]] = parent
            collect(entry.get("sections", []), entry["file"])

    for part in content["parts"]:
        collect(part["chapters"], "")
    return pages, parents


@pytest.mark.parametrize("slug", sorted(NOTEBOOKS | EXAMPLES - SHARED))
def test_slug_is_complete(slug):
    wanted = {
        "Notebook": f"notebooks/{slug}.ipynb",
        "Beispiel": f"examples/{slug}/__init__.py",
        "Test": f"tests/examples/test_{slug}.py",
    }
    if slug in WITHOUT_EXAMPLE:
        wanted = {"Notebook": wanted["Notebook"]}
        assert not (ROOT / "examples" / slug).exists(), f"{slug} soll kein Beispiel haben"
    missing = [f"{what} {path}" for what, path in wanted.items() if not (ROOT / path).exists()]
    assert not missing, f"{slug}: Es fehlt {', '.join(missing)}"


def test_every_test_has_its_example():
    # Ein gemeinsamer Ordner darf je Modul einen eigenen Test haben.
    of_module = {
        f"test_{slug}_{path.stem}": slug
        for slug in SHARED
        for path in (ROOT / "examples" / slug).glob("[a-z]*.py")
    }
    tested = {
        of_module.get(path.stem, path.stem.removeprefix("test_"))
        for path in (ROOT / "tests/examples").glob("test_*.py")
    }
    assert tested <= EXAMPLES, f"Tests ohne Beispiel: {sorted(tested - EXAMPLES)}"


@pytest.mark.parametrize("slug", sorted(NOTEBOOKS))
def test_notebook_is_in_the_book(slug):
    name = f"notebooks/{slug}"
    pages, parents = toc()
    assert name in pages, f"{name} fehlt in _toc.yml"
    page = parents[name]
    assert page.startswith("book/"), f"{name} steht in _toc.yml nicht unter einer Konzeptseite"
    text = (ROOT / f"{page}.md").read_text(encoding="utf-8")
    assert f"../notebooks/{slug}.ipynb" in text, f"{page}.md verweist nicht auf {name}.ipynb"


# Eine Nachbildung beantwortet selbst keine Frage nach dem Preis.
@pytest.mark.parametrize("slug", sorted(EXAMPLES - STAND_INS - FOR_TEACHERS))
def test_example_keeps_the_contract(slug):
    contract = (ROOT / "tests" / "contract.py").read_text(encoding="utf-8")
    variants = contract.split("\nVARIANTS", 1)[1]
    assert re.search(rf'^    "{slug}\b', variants, re.MULTILINE), (
        f"tests/contract.py: In VARIANTS fehlt {slug}"
    )


def test_toc_lists_exactly_the_pages():
    pages, _ = toc()
    twice = {page for page in pages if pages.count(page) > 1}
    assert not twice, f"Doppelt in _toc.yml: {sorted(twice)}"
    written = {path.relative_to(ROOT).with_suffix("").as_posix() for path in PAGES}
    listed = {page for page in pages if page.startswith("book/")}
    assert written == listed, (
        f"Fehlt in _toc.yml: {sorted(written - listed)}; gibt es nicht: {sorted(listed - written)}"
    )


def test_only_applications_have_an_app():
    found = {path.parent.name for path in (ROOT / "examples").rglob("app.py")}
    assert found <= APPS, f"Eine zweite app.py: {sorted(found - APPS)}"


def test_ports_are_unique():
    ports = [port for own in PORTS.values() for port in own]
    assert len(ports) == len(set(ports))
    # Was das Muster nicht kennt, sieht die Prüfung darunter nicht.
    assert all(PORT.fullmatch(str(port)) for port in ports)


@pytest.mark.parametrize("slug", sorted(NOTEBOOKS | EXAMPLES))
def test_ports_belong_to_their_slug(slug):
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "examples" / slug).glob("*.py")]
    path = ROOT / "notebooks" / f"{slug}.ipynb"
    if path.exists():
        sources += [cell.source for cell in nbformat.read(path, as_version=4).cells]
    used = {int(port) for source in sources for port in PORT.findall(source)}
    own = PORTS.get(slug, set())
    assert used <= own, f"{slug} benutzt {sorted(used - own)}, ihm gehören {sorted(own)}"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_page_takes_code_only_from_files(page):
    problems = typed_code(page.read_text(encoding="utf-8"))
    assert not problems, "\n".join(
        f"{page.relative_to(ROOT)}: {problem} Abhilfe: {{literalinclude}}" for problem in problems
    )


def typed_code(text: str) -> list[str]:
    """Nennt Codeblöcke, die nicht aus einer Datei stammen."""
    problems = []
    for token in MarkdownIt().parse(text):
        where = f"Zeile {token.map[0] + 1}" if token.map else ""
        info = token.info.strip()
        first = token.content.strip().splitlines()[:1]
        if token.type == "fence" and (not info.startswith("{") or TYPED.match(info)):
            problems.append(f"{where} enthält getippten Code: {first}.")
        elif token.type == "fence" and "literalinclude" in info:
            if ":lines:" in token.content:
                problems.append(f"{where} schneidet nach Zeilennummern aus; die verschieben sich.")
        elif token.type == "fence":
            # Was in einer Direktive eingerückt ist, ist noch kein Code.
            inside = re.sub(r"^ {4,}", "  ", token.content, flags=re.MULTILINE)
            problems += [f"{where}, darin {problem}" for problem in typed_code(inside)]
        elif token.type == "code_block" or (token.type == "html_block" and "<pre" in token.content):
            problems.append(f"{where} enthält getippten Code: {first}.")
    return problems


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_page_names_no_folder_of_a_machine(page):
    found = MACHINE_PATH.findall(page.read_text(encoding="utf-8"))
    assert not found, f"{page.relative_to(ROOT)} nennt {found}"


def test_file_names_are_addresses():
    strange = [
        str(path.relative_to(ROOT))
        for folder in ("book", "notebooks", "examples")
        for path in (ROOT / folder).rglob("*")
        if "__pycache__" not in path.parts
        and ".ipynb_checkpoints" not in path.parts
        and not FILE_NAME.fullmatch(path.name)
    ]
    assert not strange, f"Umlaute, Großbuchstaben oder Leerzeichen: {strange}"
