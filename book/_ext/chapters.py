"""Was die erste Zelle und die Metadaten eines Notebooks über das Kapitel sagen."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
TEACHING = ROOT / "book" / "data" / "teaching.yml"
# Was ein Kapitel außer Python braucht, so wie es auf einer Seite heißt.
TOOLS = {
    "docker": "Docker",
    "kubernetes": "Kubernetes",
    "haproxy": "HAProxy",
    "prometheus": "Prometheus",
    "alertmanager": "Alertmanager",
}
GOALS = re.compile(r"^\*\*Lernziele\*\*\s+((?:^- .*\n(?:^ +.*\n)*)+)", re.MULTILINE)
FIELD = r"^\*\*{}:?\*\*:? *(.+(?:\n(?!\n).+)*)"


@dataclass
class Chapter:
    """Ein Kapitel, gelesen aus seinem Notebook."""

    slug: str
    cells: list[dict]
    metadata: dict

    @property
    def opening(self) -> str:
        """Die erste Zelle."""
        return source(self.cells[0])

    @property
    def title(self) -> str:
        """Die Überschrift des Kapitels."""
        return self.opening.splitlines()[0].removeprefix("# ").strip()

    @property
    def promise(self) -> str:
        """Der Absatz nach der Überschrift: was am Ende läuft."""
        return self.opening.split("\n\n")[1].strip()

    @property
    def goals(self) -> list[str]:
        """Die Lernziele."""
        found = GOALS.search(self.opening)
        return [" ".join(goal.split()) for goal in re.split(r"^- ", found[1], flags=re.M)[1:]]

    @property
    def minutes(self) -> int:
        """Die Dauer."""
        return int(re.search(r"^\*\*Dauer:?\*\*:? *etwa (\d+) Minuten", self.opening, re.M)[1])

    @property
    def prerequisites(self) -> str:
        """Die Voraussetzungen, als Markdown mit den Verweisen des Notebooks."""
        return re.search(FIELD.format("Voraussetzungen"), self.opening, re.M)[1]

    @property
    def needs(self) -> list[str]:
        """Was es außer Python und den gemeinsamen Paketen braucht."""
        found = [TOOLS[name] for name in self.metadata.get("requires", [])]
        own = (ROOT / "examples" / self.slug / "requirements.txt").exists()
        if own or "environment" in self.metadata:
            found.append("eigene Umgebung")
        if self.metadata.get("exclusive"):
            found.append("ein Rechner ohne andere Last")
        return found

    def heading_before(self, cell_id: str) -> str:
        """Gibt die letzte Überschrift vor einer Zelle zurück."""
        heading = self.title
        for cell in self.cells:
            if cell.get("id") == cell_id:
                return heading
            if cell["cell_type"] == "markdown":
                found = re.findall(r"^#{2,3} (.+)$", source(cell), re.MULTILINE)
                heading = found[-1].strip() if found else heading
        raise KeyError(cell_id)


def source(cell: dict) -> str:
    """Gibt den Text einer Zelle zurück."""
    return "".join(cell["source"])


def said(cell: dict) -> str:
    """Fügt zusammen, was unter einer Codezelle zu lesen ist."""
    parts = []
    for output in cell.get("outputs", []):
        text = output.get("text") or output.get("data", {}).get("text/plain", "")
        parts.append("".join(text) or f"{output.get('ename')}: {output.get('evalue')}")
    return "\n".join(parts)


def read(path: Path) -> Chapter:
    """Liest ein Kapitel."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    return Chapter(path.stem, notebook["cells"], notebook["metadata"])


def sections(toc: Path) -> dict[str, list[str]]:
    """Ordnet jeder Konzeptseite die Namen ihrer Kapitel zu, in der Reihenfolge von _toc.yml."""
    found = {}
    for part in yaml.safe_load(toc.read_text(encoding="utf-8"))["parts"]:
        for entry in part["chapters"]:
            slugs = [Path(page["file"]).name for page in entry.get("sections", [])]
            if any(page["file"].startswith("notebooks/") for page in entry.get("sections", [])):
                found[Path(entry["file"]).name] = slugs
    return found
