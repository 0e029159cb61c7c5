"""Was ein Lauf der Notebooks ergab: geschrieben von tools/run_nbval.py, gelesen vom Bau des Buches.

Jeder Lauf ist eine Datei unter _build/runs, nichts davon liegt im Repository.
"""

import hashlib
import json
import os
import platform
import re
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
RUNS = ROOT / "_build" / "runs"
# Hier legt pytest ab, was jede Zelle ergab.
REPORTS = ROOT / "_build" / "reports"
# Womit ein Kapitel arbeitet, außer seinem eigenen Text.
SOURCES = {
    *(".py", ".yaml", ".yml", ".json", ".toml", ".cfg", ".conf", ".txt", ".csv"),
    *(".sh", ".md", ".html", ".dockerignore"),
}
NAMES = {"Dockerfile", ".dockerignore", ".dvcignore", ".gitignore", "config"}
COLOUR = re.compile(r"\x1b\[[0-9;]*m|#x1B\[[0-9;]*m")


def own_environments(notebook: Path) -> list[str]:
    """Nennt die eigenen Umgebungen, in denen ein Notebook oder seine Prozesse laufen."""
    text = notebook.read_text(encoding="utf-8")
    named = {json.loads(text)["metadata"].get("environment"), *re.findall(r"python:(\w+)", text)}
    examples = notebook.resolve().parent.parent / "examples"
    return sorted(name for name in named if name and (examples / name / "requirements.in").exists())


def locks(notebook: Path) -> list[Path]:
    """Die Locks, die für ein Notebook gelten; der seines Kernels zuerst."""
    root = notebook.resolve().parent.parent
    kernel = json.loads(notebook.read_text(encoding="utf-8"))["metadata"].get("environment")
    own = sorted(own_environments(notebook), key=lambda name: name != kernel)
    found = [root / "examples" / name / "requirements.txt" for name in own]
    return found if kernel else [root / "requirements.txt", *found]


def sources(notebook: Path) -> list[Path]:
    """Der Code hinter einem Notebook: die Helfer daneben und die Beispiele, auch mittelbare."""
    examples = notebook.resolve().parent.parent / "examples"
    texts = [notebook.read_text(encoding="utf-8")]
    found = {"": sorted(notebook.parent.glob("*.py"))}
    while texts:
        for name in re.findall(r"examples[./](\w+)", texts.pop()):
            if name not in found:
                found[name] = [
                    path
                    for path in sorted((examples / name).rglob("*"))
                    if (path.suffix in SOURCES or path.name in NAMES) and path.is_file()
                    # Die trainierten Modelle: Sie sind erzeugt, je Lauf neu.
                    if "artifacts" not in str(path.parent.relative_to(examples))
                ]
                texts += [path.read_text(encoding="utf-8") for path in found[name]]
    return [path for name in sorted(found) for path in found[name]]


def digest(notebook: Path) -> str:
    """Woran sich zeigt, ob ein Lauf noch zum Kapitel gehört: Text, Locks und Beispiele."""
    # Als Text gelesen, damit Windows mit seinen Zeilenenden dasselbe bekommt.
    paths = [notebook, *filter(Path.exists, locks(notebook)), *sources(notebook)]
    text = "\0".join(path.read_text(encoding="utf-8") for path in paths)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def first_failure(case: ElementTree.Element) -> str:
    """Sagt, was an einem Testfall scheiterte; leer, wenn er gelang."""
    for kind in ("failure", "error"):
        if (found := case.find(kind)) is not None:
            return COLOUR.sub("", found.text or found.get("message") or kind).strip()
    return ""


def failures(reports: Iterable[Path]) -> dict[str, dict[str, str]]:
    """Ordnet jedem Modul oder Notebook der Berichte zu, welche Zelle woran scheiterte."""
    found: dict[str, dict[str, str]] = {}
    for report in reports:
        for case in ElementTree.parse(report).iter("testcase"):
            # pytest schreibt notebooks/x.ipynb als notebooks.x.ipynb; ohne Klasse scheiterte
            # schon das Einsammeln, und der Name ist der Pfad.
            place = case.get("classname") or case.get("name", "").replace("/", ".")
            slug = place.removesuffix(".ipynb").rpartition(".")[2]
            entry = found.setdefault(slug, {})
            if text := first_failure(case):
                entry[case.get("name", "")] = text
    return found


def outcomes(ready: Iterable[Path], skipped: Iterable[Path], reports: Iterable[Path]) -> dict:
    """Ordnet jedem Notebook Ergebnis und Digest zu; grün ist nur, was ein Bericht grün nennt."""
    found = failures(reports)
    chapters = {path.stem: "green" if found.get(path.stem) == {} else "red" for path in ready} | {
        path.stem: "skipped" for path in skipped
    }
    paths = {path.stem: path for path in (*ready, *skipped)}
    return {
        slug: {"outcome": outcome, "digest": digest(paths[slug])}
        for slug, outcome in sorted(chapters.items())
    }


def origin() -> dict[str, str]:
    """Wann, wo und woran ein Lauf stattfand; eine Adresse hat er nur auf GitHub."""
    url = commit = ""
    if os.environ.get("GITHUB_ACTIONS") == "true":
        server, repository = os.environ["GITHUB_SERVER_URL"], os.environ["GITHUB_REPOSITORY"]
        url = f"{server}/{repository}/actions/runs/{os.environ['GITHUB_RUN_ID']}"
    head = ["git", "rev-parse", "--short=12", "HEAD"]
    try:
        done = subprocess.run(head, cwd=ROOT, capture_output=True, encoding="utf-8")
        commit = done.stdout.strip()
    except FileNotFoundError:
        pass  # ohne git fehlt nur diese Angabe
    return {
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "url": url,
        "commit": commit,
        "system": platform.system(),
        "python": platform.python_version(),
    }


def write(chapters: dict) -> None:
    """Hält einen Lauf fest."""
    RUNS.mkdir(parents=True, exist_ok=True)
    content = origin() | {"chapters": chapters}
    path = RUNS / f"{re.sub(r'[^0-9T]', '', content['finished'])}-{os.getpid()}.json"
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


def read() -> list[dict]:
    """Alle hinterlegten Läufe, der jüngste zuerst."""
    runs = [json.loads(path.read_text(encoding="utf-8")) for path in RUNS.rglob("*.json")]
    return sorted(runs, key=lambda run: run["finished"], reverse=True)
