"""An Regeln prüfen, was `promtool` nicht prüft, und für Versuche verkürzen.

Aufruf: `python -m examples.monitoring_alerting.rules check REGELN ANLEITUNGEN`
oder `python -m examples.monitoring_alerting.rules shorten DATEI ZIEL --speed 60`
"""

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml

SEVERITIES = {"page", "ticket"}
# Woran Nutzer den Dienst messen; geweckt wird nur deswegen.
SYMPTOMS = ("price_request_errors", "price_request_seconds", 'up{job="price"}')
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
DURATION = re.compile(
    r"(\[|\b(?:for|keep_firing_for|group_wait|group_interval|repeat_interval): *)"
    r"(\d+)([smhd])(?=[\]\s,}]|$)",
    re.MULTILINE,
)
# Diese Zeiten verkürzte das Muster darüber nicht; lieber gar nicht als halb.
UNSUPPORTED = re.compile(r"\[\d+[smhd]:[^\]]*\]|\boffset\b|\b\d+[smhd]\d+[smhd]\b")
MIN_RANGE_SECONDS = 4


class RuleError(ValueError):
    """Eine Datei mit Regeln fehlt, ist unlesbar oder lässt sich nicht verkürzen."""


def read(path: Path) -> str:
    """Liest eine Datei."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise RuleError(f"{path.name} lässt sich nicht lesen.") from None


def shorten(text: str, speed: float) -> str:
    """Teilt jede Dauer durch `speed`, auch in Kommentaren; Namen und Schwellen bleiben."""
    if speed <= 0:
        raise RuleError("Der Zeitfaktor muss größer als 0 sein.")
    code = "\n".join(line.split(" #")[0] for line in text.splitlines())
    if found := UNSUPPORTED.search(code):
        raise RuleError(f"{found[0]!r} lässt sich nicht verkürzen.")

    def scaled(found: re.Match) -> str:
        seconds = int(found[2]) * UNITS[found[3]] / speed
        if found[1] == "[" and seconds < MIN_RANGE_SECONDS:
            raise RuleError(f"[{found[2]}{found[3]}] wird kürzer als {MIN_RANGE_SECONDS} s.")
        return f"{found[1]}{round(seconds * 1000)}ms"

    return DURATION.sub(scaled, text)


def alerts(text: str) -> Iterator[dict]:
    """Liefert die Alert-Regeln einer Datei."""
    try:
        groups = yaml.safe_load(text)["groups"]
        yield from (rule for group in groups for rule in group["rules"] if "alert" in rule)
    except (yaml.YAMLError, KeyError, TypeError):
        raise RuleError("Die Datei enthält keine Regeln.") from None


def problems(text: str, runbooks: str) -> list[str]:
    """Nennt, was einer Regel fehlt, damit ein Mensch nachts etwas mit ihr anfangen kann."""
    anchors = {line[3:].strip().lower() for line in runbooks.splitlines() if line[:3] == "## "}
    found = []
    for rule in alerts(text):
        # Ein Schlüssel ohne Wert ist in YAML kein leerer Eintrag, sondern nichts.
        name, expression = rule["alert"], str(rule.get("expr") or "")
        labels, notes = rule.get("labels") or {}, rule.get("annotations") or {}
        if not expression:
            found.append(f"{name}: Der Ausdruck fehlt.")
        if labels.get("severity") not in SEVERITIES:
            found.append(f"{name}: severity muss page oder ticket sein.")
        for label in ("owner", "service"):
            if not labels.get(label):
                found.append(f"{name}: Das Label {label} fehlt.")
        if not notes.get("summary"):
            found.append(f"{name}: Die Zusammenfassung fehlt.")
        if str(notes.get("runbook_url")).partition("#")[2] not in anchors:
            found.append(f"{name}: Das Runbook fehlt oder der Link führt ins Leere.")
        if labels.get("severity") == "page":
            if not any(symptom in expression for symptom in SYMPTOMS):
                found.append(f"{name}: Geweckt wird nur wegen eines Symptoms.")
            if "for" not in rule and " and " not in " ".join(expression.split()):
                found.append(
                    f"{name}: Ein Ausreißer weckt jemanden; `for` oder zwei Fenster fehlen."
                )
    return found


def main() -> int:
    """Zeigt die Probleme oder schreibt die verkürzte Fassung."""
    parser = argparse.ArgumentParser(description="Regeln prüfen und verkürzen")
    what = parser.add_subparsers(dest="what", required=True)
    check = what.add_parser("check")
    check.add_argument("rules", type=Path)
    check.add_argument("runbooks", type=Path)
    short = what.add_parser("shorten")
    short.add_argument("source", type=Path)
    short.add_argument("target", type=Path)
    short.add_argument("--speed", type=float, default=60)
    options = parser.parse_args()
    try:
        if options.what == "shorten":
            made = shorten(read(options.source), options.speed)
            options.target.write_text(made, encoding="utf-8")
            return 0
        text = read(options.rules)
        found = problems(text, read(options.runbooks))
        for problem in found:
            print(problem, file=sys.stderr)
        if not found:
            print(f"{len(list(alerts(text)))} Alert-Regeln, alle vollständig")
        return int(bool(found))
    except (RuleError, OSError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
