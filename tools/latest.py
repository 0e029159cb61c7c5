"""Kapitel mit den neuesten Versionen prüfen: `make latest`, eines mit NOTEBOOKS=notebooks/x.ipynb.

Arbeitet auf einer Kopie unter _build/latest; Umgebung und Modell des Projekts bleiben, wie sie
sind. Ausgaben werden nicht verglichen, die asserts in den Zellen und der Vertrag gelten. Die
Images der Container entstehen aus ihrem Lock, neu ist nur, was sie befragt.
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil

import runs
from run_nbval import missing

ROOT = Path(__file__).resolve().parent.parent
TREE = ROOT / "_build" / "latest"
RESULTS = ROOT / "_build" / "latest.json"
UV = Path(sys.executable).parent / "uv"
SCRIPTS = "Scripts" if os.name == "nt" else "bin"
COMMON = "requirements.txt"
SHOWN_LINES = 40
# Je Befehl: eine Umgebung einrichten, ein Notebook ausführen, seine Tests, sein Vertrag.
LIMIT_SECONDS = 900
PIN = re.compile(r"^([\w.-]+)==([^\s;]+)", re.MULTILINE)
CAP = re.compile(r"^([\w.-]+)[^#;\n]*<", re.MULTILINE)


def folder(name: str) -> Path:
    """Wo Lock und *.in einer Umgebung liegen."""
    return TREE if name == COMMON else TREE / "examples" / name


def python(name: str) -> Path:
    """Das Python einer Umgebung mit den neuesten Versionen."""
    environment = TREE / ".venv" if name == COMMON else TREE / ".environments" / name
    return environment / SCRIPTS / "python"


def copy() -> None:
    """Kopiert das Projekt, ohne was darin entstand."""
    shutil.rmtree(TREE, ignore_errors=True)
    ignored = (".git", ".venv", ".environments", "_build", "node_modules", "__pycache__")
    ignored += ("artifacts", ".hypothesis")
    shutil.copytree(ROOT, TREE, ignore=shutil.ignore_patterns(*ignored))


def needed(notebook: Path) -> list[str]:
    """Nennt die Umgebungen eines Kapitels: die gemeinsame, die des Notebooks, die der Tests."""
    test = TREE / "tests" / "examples" / f"test_{notebook.stem}.py"
    text = test.read_text(encoding="utf-8") if test.exists() else ""
    own = {*runs.own_environments(notebook), *re.findall(r'require_environment\("(\w+)"', text)}
    return [COMMON, *sorted(own)]


def setting_up(name: str) -> list[list]:
    """Befehle, die eine Umgebung mit den neuesten erlaubten Versionen anlegen."""
    environment = python(name).parent.parent
    # Die *.in statt des Locks: ihre Obergrenzen gelten, sonst kommt das Neueste.
    fill = [UV, "pip", "install", "--quiet", "--compile-bytecode", "--python", python(name)]
    commands = [
        [UV, "venv", "--quiet", "--seed", "-p", sys.executable, environment],
        [*fill, "--override", "tools/overrides.txt", "-r", folder(name) / "requirements.in"],
    ]
    if name == COMMON:
        # Manche Tests rufen ein Prüfprogramm.
        commands[1] += ["-r", TREE / "requirements-checks.in"]
        return [*commands, [python(name), "-m", "examples.price_model.train"]]
    if "ipykernel" in (folder(name) / "requirements.in").read_text(encoding="utf-8"):
        kernel = ["ipykernel", "install", "--prefix", environment.parent, "--name", name]
        commands.append([python(name), "-m", *kernel])
        # Wer keinen Kernel hat, enthält nur Werkzeuge; sein Modell entsteht anderswo.
        if (folder(name) / "train.py").exists():
            commands.append([python(name), "-m", f"examples.{name}.train"])
    return commands


def checks(notebook: Path) -> list[list]:
    """Befehle, die Notebook, Test und Vertrag eines Kapitels ausführen."""
    pytest = [python(COMMON), "-m", "pytest", "-q", "-W", "default"]
    pytest += [f"--junitxml={TREE / '_build' / 'reports' / 'tests.xml'}"]
    commands = [[python(COMMON), "tools/run_nbval.py", "--lax", notebook]]
    test = f"tests/examples/test_{notebook.stem}.py"
    if (TREE / test).exists():
        commands.append([*pytest, test])
    if (TREE / "examples" / notebook.stem).exists():
        commands.append([*pytest, "tests/test_contract.py", "-k", notebook.stem])
    return commands


def end(process: subprocess.Popen) -> None:
    """Beendet einen Prozess mit allen Kindern; Kernel haben eine eigene Gruppe."""
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    for child in children:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()


def run(command: list) -> tuple[int, str]:
    """Führt einen Befehl in der Kopie aus; gibt Exitcode und die letzten Zeilen zurück."""
    # Eine Datei statt einer Pipe: Was im Hintergrund weiterläuft, hält eine Pipe offen.
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        process = subprocess.Popen(command, cwd=TREE, stdout=output, stderr=subprocess.STDOUT)
        try:
            code, said = process.wait(LIMIT_SECONDS), ""
        except subprocess.TimeoutExpired:
            end(process)
            code, said = process.wait() or 1, f"Nach {LIMIT_SECONDS} s abgebrochen."
        except BaseException:
            end(process)
            raise
        output.seek(0)
        lines = runs.COLOUR.sub("", output.read()).splitlines()[-SHOWN_LINES:]
    shown = " ".join([Path(command[0]).name, *map(str, command[1:])])
    return code, without_machine("\n".join([f"$ {shown}", *lines, *([said] if said else [])]))


def without_machine(text: str) -> str:
    """Kürzt Pfade auf das Projekt: Die Ordner dieses Rechners gehen niemanden etwas an."""
    return text.replace(f"{TREE}{os.sep}", "")


def attempt(commands: list[list]) -> dict[str, str]:
    """Führt Befehle aus, bis einer scheitert; sagt dann in einer Zeile, wo, und darunter, wie."""
    for command in commands:
        shutil.rmtree(TREE / "_build" / "reports", ignore_errors=True)
        (TREE / "_build" / "reports").mkdir(parents=True)
        code, text = run(command)
        if code:
            return {"where": place(text), "failure": text}
    return {"where": "", "failure": ""}


def place(text: str) -> str:
    """Nennt die erste Zelle oder den ersten Test, der scheiterte, mit seiner Meldung."""
    reports = sorted((TREE / "_build" / "reports").glob("*.xml"))
    for found in runs.failures(reports).values():
        for name, message in found.items():
            number = re.fullmatch(r"Cell (\d+)", name)
            what = f"Zelle [{int(number[1]) + 1}]" if number else name
            return f"{what}: {last_line(message)}"
    return last_line(text)


def last_line(text: str) -> str:
    """Die letzte Zeile mit Inhalt, höchstens 200 Zeichen; bei Python steht dort der Fehler."""
    last = next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
    return without_machine(last)[:200]


def set_up(name: str) -> dict:
    """Richtet eine Umgebung ein; nennt, was neuer ist und was eine Obergrenze hält."""
    result = runs.origin() | attempt(setting_up(name)) | {"newer": {}, "held_back": {}}
    if result["failure"]:
        return result
    # Je nach Python kann ein Lock mehrere Versionen eines Pakets nennen.
    lock: dict[str, list[str]] = {}
    for package, version in PIN.findall((folder(name) / COMMON).read_text(encoding="utf-8")):
        lock.setdefault(package, []).append(version)
    listing = [UV, "pip", "list", "--outdated", "--format", "json", "--python", python(name)]
    freeze = subprocess.run(
        [UV, "pip", "freeze", "--python", python(name)], capture_output=True, encoding="utf-8"
    )
    for package, version in PIN.findall(freeze.stdout):
        if version not in lock.get(package, [version]):
            result["newer"][package] = [lock[package][0], version]
    outdated = subprocess.run(listing, cwd=TREE, capture_output=True, encoding="utf-8")
    capped = CAP.findall((folder(name) / "requirements.in").read_text(encoding="utf-8"))
    for package in json.loads(outdated.stdout or "[]"):
        if package["name"] in {name.lower().replace("_", "-") for name in capped}:
            result["held_back"][package["name"]] = package["latest_version"]
    return result


def check(notebook: Path, environments: dict[str, dict]) -> dict:
    """Prüft ein Kapitel, dessen Umgebungen eingerichtet sind."""
    result = runs.origin() | {"digest": runs.digest(notebook), "environments": needed(notebook)}
    for name in result["environments"]:
        if environments[name]["failure"]:
            where = f"Umgebung {name}: {environments[name]['where']}"
            failure = environments[name]["failure"]
            return result | {"outcome": "red", "where": where, "failure": failure}
    if lacking := missing(notebook, TREE / ".environments" / "share" / "jupyter" / "kernels"):
        return result | {"outcome": "skipped", "where": ", ".join(lacking), "failure": ""}
    found = attempt(checks(notebook))
    return result | found | {"outcome": "red" if found["failure"] else "green"}


def show(environments: dict[str, dict]) -> None:
    """Druckt je Umgebung, was neuer ist und was eine Obergrenze zurückhält."""
    for name, result in environments.items():
        newer = [f"{package} {new} statt {old}" for package, (old, new) in result["newer"].items()]
        print(f"\n{name}: {result['where'] or f'{len(newer)} neuer als im Lock'}")
        print("".join(f"  {line}\n" for line in newer), end="")
        for package, version in result["held_back"].items():
            print(f"  {package} {version} gibt es, eine Obergrenze hält es zurück")


def main() -> int:
    """Prüft die genannten Kapitel, sonst alle; 1, wenn eines nicht läuft."""
    named = [Path(argument).name for argument in sys.argv[1:]]
    if absent := [name for name in named if not (ROOT / "notebooks" / name).exists()]:
        sys.exit(f"Gibt es nicht: {', '.join(absent)}")
    copy()
    paths = sorted((TREE / "notebooks").glob("*.ipynb"))
    paths = [path for path in paths if not named or path.name in named]
    names = dict.fromkeys(name for path in paths for name in needed(path))
    print(f"Umgebungen: {', '.join(names)} …", flush=True)
    # Zuerst alle Umgebungen: Das Museum bei pickle öffnet auch, was TensorFlow braucht.
    environments = {name: set_up(name) for name in names}
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    results.setdefault("environments", {}).update(environments)
    words = {"green": "grün", "red": "rot", "skipped": "übersprungen"}
    outcomes = []
    for path in paths:
        result = check(path, environments)
        outcomes.append(result["outcome"])
        results.setdefault("chapters", {})[path.stem] = result
        text = json.dumps(results, indent=1, ensure_ascii=False) + "\n"
        RESULTS.with_suffix(".part").write_text(text, encoding="utf-8")
        RESULTS.with_suffix(".part").replace(RESULTS)
        print(f"{path.stem:<28} {words[outcomes[-1]]:<12} {result['where']}", flush=True)
    show(environments)
    # In CI muss alles da sein: dort ist ein übersprungenes Kapitel ein Fehler.
    return int("red" in outcomes or bool("skipped" in outcomes and os.environ.get("CI")))


if __name__ == "__main__":
    sys.exit(main())
