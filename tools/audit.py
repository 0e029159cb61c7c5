"""Alle Locks für Python mit der Datenbank bekannter Lücken abgleichen: `make audit`.

Gefragt wird die Datenbank OSV mit `pip-audit`. Was in `tools/audit.yml` steht, ist mit Grund
und Ablaufdatum ausgenommen; eine abgelaufene oder nicht mehr gebrauchte Ausnahme ist ein Fehler.
"""

import argparse
import datetime
import json
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
OSV = "https://api.osv.dev/v1/query"
EXCEPTIONS = ROOT / "tools" / "audit.yml"
FIELDS = {"package", "id", "reason", "until"}


def locks(root: Path = ROOT) -> list[Path]:
    """Jeder Lock: die *.txt, neben der ihre *.in steht."""
    inputs = [*root.glob("*.in"), *root.glob("examples/**/*.in")]
    return sorted(path.with_suffix(".txt") for path in inputs)


def vulnerabilities(lock: Path, url: str) -> set[tuple[str, str, str]]:
    """Die Lücken eines Locks als (Paket, Version, Kennung)."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", lock, "--format", "json"]
    # Der Lock ist vollständig; ausgelassene Pakete wären sonst still grün.
    command += ["--no-deps", "--disable-pip", "--strict", "--progress-spinner", "off"]
    command += ["--vulnerability-service", "osv", "--osv-url", url]
    done = subprocess.run(command, capture_output=True, encoding="utf-8")
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        said = (done.stderr.strip().splitlines() or ["ohne Meldung"])[-1]
        sys.exit(f"{lock.name} ließ sich nicht abgleichen: {said[:300]}")
    if not packages:
        sys.exit(f"In {lock.name} wurde kein Paket abgeglichen.")
    return {
        (package["name"], package["version"], identifier(found))
        for package in packages
        for found in package["vulns"]
    }


def identifier(found: dict) -> str:
    """Die CVE-Nummer einer Lücke, wenn sie eine hat; Datenbanken geben daneben eigene."""
    names = [found["id"], *found.get("aliases", [])]
    return next((name for name in names if name.startswith("CVE-")), found["id"])


def exceptions(path: Path = EXCEPTIONS) -> list[dict]:
    """Die Ausnahmen; jede nennt Paket, Kennung, Grund und Ablaufdatum."""
    entries = yaml.safe_load(path.read_text(encoding="utf-8")) or []
    for entry in entries:
        if set(entry) != FIELDS or not isinstance(entry["until"], datetime.date):
            sys.exit(f"{path.name}: Eine Ausnahme nennt {', '.join(sorted(FIELDS))}: {entry}")
    return entries


def judge(found: set[tuple[str, str, str]], allowed: list[dict], today: datetime.date) -> list[str]:
    """Nennt jede Lücke ohne gültige Ausnahme und jede Ausnahme, die nicht mehr gilt."""
    valid = {(entry["package"], entry["id"]) for entry in allowed if entry["until"] >= today}
    problems = [
        f"{package} {version}: {vulnerability}"
        for package, version, vulnerability in sorted(found)
        if (package, vulnerability) not in valid
    ]
    known = {(package, vulnerability) for package, _, vulnerability in found}
    for entry in allowed:
        name = f"{entry['package']} {entry['id']}"
        if entry["until"] < today:
            problems.append(f"Ausnahme abgelaufen: {name}")
        elif (entry["package"], entry["id"]) not in known:
            problems.append(f"Ausnahme wird nicht mehr gebraucht: {name}")
    return problems


def main() -> int:
    """Gleicht alle oder die genannten Locks ab; 1, wenn etwas zu tun ist."""
    parser = argparse.ArgumentParser(description="Locks mit bekannten Lücken abgleichen.")
    parser.add_argument("--osv-url", default=OSV, help="Adresse der Datenbank")
    parser.add_argument("locks", nargs="*", type=Path, help="Vorgabe: alle")
    options = parser.parse_args()
    if absent := [path for path in options.locks if not path.is_file()]:
        sys.exit(f"Gibt es nicht: {', '.join(map(str, absent))}")
    allowed, found = exceptions(), set()
    for lock in options.locks or locks():
        here = vulnerabilities(lock, options.osv_url)
        print(f"{lock.resolve().relative_to(ROOT) if not options.locks else lock}: {len(here)}")
        found |= here
    if options.locks:  # was die übrigen Locks betrifft, fehlt hier nicht
        known = {(package, name) for package, _, name in found}
        allowed = [entry for entry in allowed if (entry["package"], entry["id"]) in known]
    problems = judge(found, allowed, datetime.date.today())
    print("\n".join(problems) if problems else "Keine bekannte Lücke.")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
