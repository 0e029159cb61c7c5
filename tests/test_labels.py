"""Was hier nicht laufen kann, sagt es: „geprüft mit …, nicht ausgeführt“ und womit geprüft."""

import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = (
    *("README.md", "CONTRIBUTING.md", "book/**/*.md", "notebooks/*.ipynb"),
    *(".github/workflows/*.yml", "examples/**/*.yml", "examples/**/*.yaml", "examples/**/*.sh"),
)
# In Anführungszeichen ist nur vom Vermerk die Rede.
LABEL = re.compile(r"(?<!„)[Gg]eprüft(?: mit (?P<by>[^:;„“]+?))?, nicht ausgeführt")
NAME = re.compile(r"[\w.-]+")
# Je Zeile etwas, das auf einem Rechner der Prüfungen nie läuft.
NOT_RUN = re.compile(
    r"\.venv[\\/]Scripts|\b(?:winget|choco|brew) install"
    r"|\b(?:kind|minikube) (?:create|delete|get|load|start|stop|addons|image|tunnel)\b"
    r"|kind: PodDisruptionBudget|gateway\.networking\.k8s\.io|autoscaling/v2\b"
    r"|\bZIEL ?= ?[\"']cloud[\"']"
    r"|^on:$",  # ein Workflow
    re.MULTILINE,
)


def sections(path: Path) -> Iterator[tuple[str, str]]:
    """Zerlegt eine Datei in Abschnitte, von Überschrift zu Überschrift: (Stelle, Text)."""
    name = path.relative_to(ROOT).as_posix()
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        text = "\n".join(
            # Ein Kommentar in einer Codezelle ist keine Überschrift.
            cell.source if cell.cell_type == "markdown" else re.sub("(?m)^#", " #", cell.source)
            for cell in nbformat.reads(text, as_version=4).cells
        )
    elif path.suffix != ".md":
        yield name, text
        return
    for part in re.split(r"^(?=#+ )", text, flags=re.MULTILINE):
        if part.strip():
            yield f"{name}, {part.splitlines()[0].lstrip('# ')}", part


SECTIONS = [
    section
    for pattern in FILES
    for path in sorted(ROOT.glob(pattern))
    for section in sections(path)
]
LABELLED = [(place, found["by"]) for place, text in SECTIONS for found in LABEL.finditer(text)]
UNRUN = [
    (place, found[0], text) for place, text in SECTIONS for found in [NOT_RUN.search(text)] if found
]


def calls(name: str) -> bool:
    """Sagt, ob es den Workflow gibt oder eine Prüfung das Programm aufruft."""
    others = [path for path in (ROOT / "tests").rglob("test_*.py") if path != Path(__file__)]
    return (ROOT / ".github" / "workflows" / name).exists() or any(
        f'"{name}"' in path.read_text(encoding="utf-8") for path in others
    )


@pytest.mark.parametrize(("place", "by"), LABELLED, ids=[place for place, _ in LABELLED])
def test_label_names_what_checked_it(place, by):
    assert by, f"{place}: Der Vermerk nennt nicht, womit geprüft wurde"
    names = [name for name in NAME.findall(by) if name != "und"]
    unknown = [name for name in names if not calls(name)]
    assert not unknown, f"{place}: Keine Prüfung ruft {unknown} auf"


@pytest.mark.parametrize(("place", "what", "text"), UNRUN, ids=[place for place, *_ in UNRUN])
def test_what_cannot_run_carries_the_label(place, what, text):
    assert LABEL.search(text), (
        f"{place}: {what!r} läuft hier nicht. Es fehlt: Geprüft mit …, nicht ausgeführt"
    )
