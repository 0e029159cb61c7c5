"""Je Kapitel, das mit den neuesten Versionen nicht läuft, ein Issue anlegen oder ergänzen.

Liest _build/latest.json, das `make latest` schreibt, und ruft das Programm gh.
"""

import json
import subprocess
import sys
from pathlib import Path

RESULTS = Path(__file__).resolve().parent.parent / "_build" / "latest.json"
TITLE = "Neueste Versionen: {slug} läuft nicht"


def gh(*arguments: str, text: str = "") -> str:
    """Führt gh aus; `text` geht an die Standardeingabe."""
    done = subprocess.run(
        ["gh", *arguments], input=text, stdout=subprocess.PIPE, encoding="utf-8", check=True
    )
    return done.stdout


def report(result: dict) -> None:
    """Ergänzt das offene Issue eines Kapitels oder legt eines an."""
    listed = gh("issue", "list", "--state", "open", "--limit", "500", "--json", "number,title")
    numbers = {issue["title"]: str(issue["number"]) for issue in json.loads(listed)}
    for slug, chapter in result["chapters"].items():
        if chapter["outcome"] != "red":
            continue
        title = TITLE.format(slug=slug)
        newer = "\n".join(
            f"{package} {new} statt {old}"
            for name in chapter["environments"]
            for package, (old, new) in result["environments"][name]["newer"].items()
        )
        body = (
            f"{chapter['where']}\n\n```text\n{chapter['failure']}\n```\n\n"
            f"Neuer als im Lock:\n\n```text\n{newer}\n```\n"
        )
        if title in numbers:
            gh("issue", "comment", numbers[title], "--body-file", "-", text=body)
        else:
            gh("issue", "create", "--title", title, "--body-file", "-", text=body)
        print(title)


def main() -> None:
    """Meldet die Ergebnisse des letzten Laufs."""
    if not RESULTS.exists():
        sys.exit("_build/latest.json fehlt: make latest kam nicht bis zum ersten Kapitel.")
    report(json.loads(RESULTS.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
