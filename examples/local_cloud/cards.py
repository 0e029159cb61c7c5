"""Karten prüfen: der YAML-Kopf eines README gegen das Schema seiner Art, in der Sprache des Hubs.

Als Programm ist das der Hook, der einen Push mit ungültiger Karte zurückweist.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import yaml
from jsonschema import Draft202012Validator, ValidationError

FOLDER = Path(__file__).resolve().parent
VALIDATORS = {
    kind: Draft202012Validator(json.loads((FOLDER / f"{kind}_card.json").read_text("utf-8")))
    for kind in ("space", "model")
}
HEAD = re.compile(r"\A---\r?\n(.*?)^---\s*$", re.DOTALL | re.MULTILINE)
# Meldungen im Wortlaut des Hubs, wo er bekannt ist.
WORDS = json.loads((FOLDER / "hub_words.json").read_text("utf-8"))


def check(text: str, kind: str) -> tuple[dict, list[str], list[str]]:
    """Gibt (Angaben, Fehler, Warnungen) zurück; `kind` ist "space" oder "model"."""
    found = HEAD.search(text)
    if not found:
        # Ein Modell darf ohne Angaben bleiben, ein Space sagt mindestens, womit er läuft.
        return {}, *(([], [WORDS["no_head"]]) if kind == "model" else ([WORDS["no_head"]], []))
    try:
        data = yaml.safe_load(found[1]) or {}
        # Ein Datum kennt nur YAML; über die Leitung geht es als Text.
        sent = json.loads(json.dumps(data, default=str, ensure_ascii=False).encode())
    except Exception as error:  # mancher Wert wirft keinen `YAMLError`
        return {}, [f"bad indentation or syntax: {getattr(error, 'problem', error)}"], []
    if not isinstance(data, dict):
        return {}, ["metadata must be a mapping"], []
    errors = sorted(
        VALIDATORS[kind].iter_errors(data), key=lambda error: [*map(str, error.absolute_path)]
    )
    return sent, [message(error) for error in errors], []


def message(error: ValidationError) -> str:
    """Ein Fehler so, wie der Hub ihn ausdrückt."""
    field = ".".join(map(str, error.absolute_path)) or "metadata"
    wanted = error.validator_value
    match error.validator:
        case "required":
            missing = next(name for name in wanted if name not in error.instance)
            return f'"{missing}" is required'
        case "enum":
            return f'"{field}" must be one of [{", ".join(wanted)}]'
        case "type":
            article = "an" if wanted[0] in "aio" else "a"
            return f'"{field}" must be {article} {wanted}'
        case "maxLength":
            return f'"{field}" length must be less than or equal to {wanted} characters long'
        case "pattern":
            return f'"{field}" with value "{error.instance}" fails to match the required pattern'
    return f'"{field}" is invalid: {error.message}'


def main() -> int:
    """Hook `pre-receive`: liest, was gepusht wird, und prüft die neue Karte."""
    # Git macht sonst unter Windows aus jedem Umbruch zwei Zeilen.
    sys.stderr.reconfigure(newline="\n")
    for line in sys.stdin:
        _, new, ref = line.split()
        if ref != "refs/heads/main" or not new.strip("0"):
            print("Gepusht wird hier nur nach `main`.", file=sys.stderr)
            return 1
        card = subprocess.run(["git", "show", f"{new}:README.md"], capture_output=True)
        _, errors, _ = check(card.stdout.decode("utf-8", "replace"), sys.argv[1])
        if errors:
            print(WORDS["rejected"], *errors, sep="\n  - ", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
