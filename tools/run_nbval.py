"""Alle Notebooks ausführen und mit ihren gespeicherten Ausgaben vergleichen: `make notebooks`.

Aufruf: python tools/run_nbval.py [--only alone] [--lax] [--python-only] [--in-order] [Notebook …]
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import runs

ROOT = Path(__file__).resolve().parent.parent
KERNELS = ROOT / ".environments" / "share" / "jupyter" / "kernels"
CELL_TIMEOUT_SECONDS = 120
# Die Threads von scikit-learn warten sonst in Schleifen aufeinander: Laufen mehrere Prozesse
# nebeneinander, nehmen sie einander den Kern weg, und Sekunden werden zu Minuten.
PATIENT = {"OMP_WAIT_POLICY": "passive"}
# Was ein Notebook über Python hinaus braucht: (Befehl, der gelingen muss, Abhilfe).
REQUIREMENTS = {
    "docker": (
        ["docker", "compose", "ls"],
        "Docker Desktop oder Docker Engine mit Compose starten",
    ),
    "kubernetes": (
        ["kubectl", "get", "--raw", "/readyz", "--request-timeout=5s"],
        "ein Cluster, auf den kubectl zeigt, etwa kind",
    ),
    "haproxy": (["haproxy", "-v"], "sudo apt install haproxy"),
    "prometheus": (["promtool", "--version"], "sudo apt install prometheus"),
    "alertmanager": (["amtool", "--version"], "sudo apt install prometheus-alertmanager"),
}
# Diese sprechen mit einem Dienst außerhalb ihres Netzes. Alle anderen laufen in CI ohne Weg nach
# draußen: Fragt ein SDK doch seine Cloud, so scheitert die Zelle, statt still zu gelingen.
REACHES_OUT = {"docker", "kubernetes"}
# Die Teile in ihrer Reihenfolge: nebeneinander, dann allein, was misst, dann was nach draußen
# spricht; das teilt Namen und Ports von Docker und läuft deshalb nie nebeneinander.
PARTS = ("inside", "alone", "outside")
NETWORK_REMEDY = "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu)"
# Fremde Zertifikate gibt es dort nicht zu prüfen; `httpx` liest sie sonst bei jeder Frage ohne
# eigenen Client alle, das sind 23 statt 0,3 Millisekunden.
LOOPBACK = 'ip link set lo up && unset SSL_CERT_FILE && SSL_CERT_DIR=/dev/null exec "$@"'
LOOPBACK_ONLY = ["sh", "-c", LOOPBACK, "sh"]


def metadata(path: Path) -> dict:
    """Gibt die Metadaten eines Notebooks zurück."""
    return json.loads(path.read_text(encoding="utf-8"))["metadata"]


def part(path: Path) -> str:
    """Nennt den Teil, in dem ein Notebook läuft."""
    if REACHES_OUT & set(metadata(path).get("requires", [])):
        return "outside"
    return "alone" if metadata(path).get("exclusive") else "inside"


def missing(path: Path, kernels: Path = KERNELS) -> list[str]:
    """Nennt, was dem Notebook auf diesem Rechner fehlt, samt Abhilfe."""
    found = []
    for name in metadata(path).get("requires", []):
        command, remedy = REQUIREMENTS[name]
        if not shutil.which(command[0]) or subprocess.run(command, capture_output=True).returncode:
            found.append(f"{name} (Abhilfe: {remedy})")
    slug = metadata(path).get("environment")
    if slug and not (kernels / slug / "kernel.json").exists():
        found.append(f"die Umgebung {slug} (Abhilfe: python tools/setup.py {slug})")
    return found


def note_skipped(reason: str) -> None:
    """Merkt sich für das Ende von `make test`, was hier nicht geprüft wurde."""
    if path := os.environ.get("SKIPPED_FILE"):
        with open(path, "a", encoding="utf-8") as file:
            file.write(f"{reason}\n")


def without_network() -> list[str]:
    """Beginn eines Befehls, der nur Loopback sieht; nur Linux hat diese Namensräume."""
    if sys.platform != "linux":
        return []
    # Ohne root gehört der Namensraum einem Benutzer, der nur darin root ist.
    rights = [] if os.geteuid() == 0 else ["--map-root-user"]
    return ["unshare", "--net", *rights, *LOOPBACK_ONLY]


def compare(paths: list[Path], reports: Path, prefix: list[str], *options: str) -> bool:
    """Führt die Notebooks aus; falsch, wenn eine Zelle scheitert oder anderes ausgibt."""
    if not paths:
        return True
    command = [*prefix, sys.executable, "-m", "pytest", "-q", *options]
    command += ["--nbval-sanitize-with", "tests/nbval.cfg"]
    command += [f"--nbval-cell-timeout={CELL_TIMEOUT_SECONDS}", *map(str, paths)]
    # Lädt in jedem Prozess länger als eine Sekunde und hat mit Notebooks nichts zu tun.
    command += ["-p", "no:schemathesis"]
    command += [f"--junitxml={reports / f'{paths[0].stem}.xml'}"]
    # Der Kernel soll das Profil des Projekts lesen, auch ohne make.
    environment = {"IPYTHONDIR": str(ROOT / ".ipython"), **PATIENT, **os.environ}
    environment["JUPYTER_PATH"] = str(KERNELS.parent)
    return subprocess.run(command, cwd=ROOT, env=environment).returncode == 0


def main() -> int:
    """Erst alle nebeneinander, dann einzeln, was den Rechner für sich braucht."""
    parser = argparse.ArgumentParser(description="Notebooks ausführen und vergleichen.")
    parser.add_argument("--only", choices=PARTS, help="nur dieser Teil")
    parser.add_argument("--lax", action="store_true", help="keine Ausgaben vergleichen")
    parser.add_argument("--python-only", action="store_true", help="nur was Python genügt")
    parser.add_argument("--in-order", action="store_true", help="nicht die größten zuerst")
    parser.add_argument("notebooks", nargs="*", type=Path, help="Vorgabe: alle")
    options = parser.parse_args()
    paths = [path.resolve() for path in options.notebooks]
    if absent := [path.name for path in paths if not path.exists()]:
        sys.exit(f"Gibt es nicht: {', '.join(absent)}")
    paths = paths or sorted((ROOT / "notebooks").glob("*.ipynb"))
    if options.python_only:
        more = {"requires", "environment"}
        paths = [path for path in paths if not more & set(metadata(path))]
    if not paths:
        sys.exit("Kein Notebook gefunden.")
    parts = [options.only] if options.only else PARTS
    paths = [path for path in paths if part(path) in parts]
    lacking = {path: found for path in paths if (found := missing(path))}
    ready = [path for path in paths if path not in lacking]
    # Teile, die nebeneinander laufen, räumen einander nichts weg.
    reports = runs.REPORTS / (options.only or "")
    shutil.rmtree(reports, ignore_errors=True)
    green = True
    for name in parts:
        chosen = [path for path in ready if part(path) == name]
        # loadfile: die Zellen eines Notebooks brauchen denselben Kernel.
        spread = ["-n", "auto", "--dist", "loadfile"] if name == "inside" else []
        # Sonst ordnet `xdist` die Dateien nach ihrer Größe.
        spread += ["--no-loadscope-reorder"] if spread and options.in_order else []
        prefix = without_network() if os.environ.get("CI") and name != "outside" else []
        # Ein Kapitel mit eigener Umgebung nennt deren Kernel; alle anderen nehmen dieses Python.
        own = [path for path in chosen if metadata(path).get("environment")]
        shared = [path for path in chosen if path not in own]
        spread += ["--nbval-lax" if options.lax else "--nbval"]
        green = compare(shared, reports, prefix, "--nbval-current-env", *spread) and green
        green = compare(own, reports, prefix, *spread) and green
    for path, found in lacking.items():
        reason = f"{path.name}, es fehlt {', '.join(found)}"
        print(f"Übersprungen: {reason}")
        note_skipped(reason)
    if not options.lax:  # was nicht verglichen wurde, ist kein Beleg
        runs.write(runs.outcomes(ready, lacking, reports.glob("*.xml")))
    # In CI muss alles da sein: dort ist ein übersprungenes Notebook ein Fehler.
    return int(not green or bool(lacking and os.environ.get("CI")))


if __name__ == "__main__":
    sys.exit(main())
