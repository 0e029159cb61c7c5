"""Secrets in Dateien und Geschichte suchen, mit `detect-secrets`.

Aufruf: python tools/find_secrets.py [--history]
Fehlalarme stehen mit Grund in `tools/secrets.yml`.
"""

import argparse
import fnmatch
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import yaml
from detect_secrets.core.scan import scan_file
from detect_secrets.settings import default_settings, transient_settings

ROOT = Path(__file__).resolve().parent.parent
FALSE_ALARMS = Path(__file__).with_name("secrets.yml")
# Prüfsummen der Locks sind öffentlich und machen sonst die Hälfte der Arbeit aus.
PUBLIC = re.compile(r'--hash=sha256:|"integrity": "sha512-')
# Hier liest `detect-secrets` mehr als eine Zeile zugleich.
STRUCTURED = {".yml", ".yaml", ".cfg", ".ini", ".conf", ".toml"}
# In der Geschichte zählt nur, was seine Form verrät; Zufälliges aussehen viele Prüfsummen.
SHAPES = (
    *("AWSKeyDetector", "AzureStorageKeyDetector", "GitHubTokenDetector", "GitLabTokenDetector"),
    *("JwtTokenDetector", "NpmDetector", "OpenAIDetector", "PrivateKeyDetector"),
    *("PypiTokenDetector", "SlackDetector", "StripeDetector", "BasicAuthDetector"),
)
Finding = tuple[str, str, str]  # Datei, Art, Wert


def text(path: Path) -> str:
    """Was an einer Datei zu lesen ist; von einem Notebook Zellen und Ausgaben ohne Bilder."""
    content = path.read_bytes().decode("utf-8", "ignore")
    if path.suffix == ".ipynb":
        cells = json.loads(content)["cells"]
        for cell in cells:
            for output in cell.get("outputs", []):
                kinds = output.get("data", {})
                output["data"] = {k: v for k, v in kinds.items() if not k.startswith("image/png")}
            cell["metadata"] = {}
        # Eine Zeile des Textes je Zeile, ohne die Anführungszeichen von JSON.
        content = "\n".join(strings(cells))
    lines = ["" if PUBLIC.search(line) else line for line in content.splitlines()]
    # Außer in YAML und Konfigurationen gilt jede Zeile für sich; noch einmal sagt sie nichts Neues.
    return "\n".join(lines if path.suffix in STRUCTURED else dict.fromkeys(lines))


def strings(value: object) -> Iterator[str]:
    """Alle Zeichenketten in einem Wert aus JSON."""
    if isinstance(value, str):
        yield value
    for inner in value.values() if isinstance(value, dict) else ():
        yield from strings(inner)
    for inner in value if isinstance(value, list) else ():
        yield from strings(inner)


def scan(name: str, content: str) -> set[Finding]:
    """Was `detect-secrets` in einem Text findet; die Endung sagt ihm, was für einer es ist."""
    suffix = Path(name).suffix.replace(".ipynb", ".py")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / f"content{suffix}"
        copy.write_text(content, encoding="utf-8")
        return {(name, found.type, found.secret_value or "") for found in scan_file(str(copy))}


def tree(root: Path = ROOT) -> set[Finding]:
    """Was in den Dateien steht, die Git kennt oder kennen würde."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=root, capture_output=True, encoding="utf-8", check=True)
    found = set()
    with default_settings():
        for name in sorted(set(filter(None, listed.stdout.split("\0")))):
            path = root / name
            if path.is_file() and b"\0" not in path.read_bytes()[:8000]:
                found |= scan(name, text(path))
    return found


def history(root: Path = ROOT) -> set[Finding]:
    """Was irgendein Commit hinzugefügt hat, auch wenn es längst wieder fort ist."""
    command = ["git", "log", "--all", "-p", "--cc", "--unified=0", "--no-color"]
    command += ["--format=commit %H"]
    log = subprocess.run(command, cwd=root, capture_output=True, check=True).stdout
    added = {
        line[1:]
        for line in log.decode("utf-8", "ignore").splitlines()
        if line.startswith("+") and len(line) < 4000 and not PUBLIC.search(line)
    }
    with transient_settings({"plugins_used": [{"name": name} for name in SHAPES]}):
        return scan("history", "\n".join(sorted(added)))


def unexplained(found: set[Finding], path: Path = FALSE_ALARMS) -> list[str]:
    """Nennt jeden Fund ohne Grund und jeden Grund ohne Fund; der Wert selbst bleibt verborgen."""
    reasons = yaml.safe_load(path.read_text(encoding="utf-8"))
    explained, problems = set(), []
    for entry in reasons:
        covered = {
            (name, kind, value)
            for name, kind, value in found
            if fnmatch.fnmatch(name, entry["file"])
            and kind == entry["type"]
            and re.fullmatch(entry["value"], value)
        }
        if not covered:
            problems.append(f"Ausnahme ohne Fund: {entry['file']}, {entry['type']}")
        explained |= covered
    problems += [f"{name}: {kind}" for name, kind, _ in sorted(found - explained)]
    return problems


def main() -> int:
    """Sucht in den Dateien, auf Wunsch in der Geschichte; 1, wenn etwas zu klären ist."""
    parser = argparse.ArgumentParser(description="Secrets suchen.")
    parser.add_argument("--history", action="store_true", help="auch in der Geschichte suchen")
    options = parser.parse_args()
    problems = unexplained(tree())
    if options.history:
        problems += [f"Geschichte: {kind} {value[:4]}…" for _, kind, value in sorted(history())]
    print("\n".join(problems) if problems else "Kein Secret gefunden.")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
