"""Die fertigen Seiten mit Lighthouse messen: mobil, je Seite der Median aus drei Läufen.

Aufruf: python tools/lighthouse.py [Seite …], zum Beispiel `book/index notebooks/ab_test`; ohne
Angabe alle Seiten aus _toc.yml, die Suche und 404. Die Werte stehen danach in
_build/lighthouse.json. Rückgabewert 1, wenn ein Wert unter seiner Grenze liegt.

Das Tempo simuliert Lighthouse aus dem, was es auf diesem Rechner misst: Läuft daneben anderes,
sinkt `performance`; die übrigen Werte hängen nicht davon ab.
"""

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import uvicorn
import yaml

from latest import end
from site_server import HOST, SITE, bind, build_app

ROOT = Path(__file__).resolve().parent.parent
LIGHTHOUSE = ROOT / "node_modules" / ".bin" / "lighthouse"
RESULT = ROOT / "_build" / "lighthouse.json"
LIMITS = {"performance": 95, "accessibility": 100, "best-practices": 100, "seo": 100}
RUNS = 3
TIMEOUT = 300


def all_pages() -> list[str]:
    """Gibt die Seiten aus _toc.yml zurück, dazu die beiden, die dort nicht stehen."""

    def files(node: dict) -> list[str]:
        inner = [*node.get("parts", []), *node.get("chapters", []), *node.get("sections", [])]
        own = [node[key] for key in ("root", "file") if key in node]
        return own + [name for child in inner for name in files(child)]

    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    return [*files(toc), "search", "404"]


def scores(report: dict) -> dict[str, int]:
    """Liest einen Bericht: Punkte von 0 bis 100 und das Gewicht der Seite in KiB.

    Raises:
        ValueError: Die Messung ist gescheitert; Lighthouse gibt dann keine Punkte.
    """
    if problem := report.get("runtimeError"):
        raise ValueError(problem.get("message") or problem["code"])
    values = {name: report["categories"][name]["score"] for name in LIMITS}
    if missing := [name for name, value in values.items() if value is None]:
        raise ValueError(f"keine Punkte für {', '.join(missing)}")
    weight = report["audits"]["total-byte-weight"]["numericValue"]
    return {name: round(value * 100) for name, value in values.items()} | {
        "kib": round(weight / 1024)
    }


def measure(url: str, chromium: str, folder: Path) -> dict[str, int]:
    """Gibt die Werte eines Laufs zurück.

    Raises:
        ValueError: Die Messung ist gescheitert.
    """
    report = folder / "report.json"
    report.unlink(missing_ok=True)
    flags = "--headless=new"
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        flags += " --no-sandbox"
    command = [
        str(LIGHTHOUSE),
        url,
        "--quiet",
        "--output=json",
        f"--output-path={report}",
        f"--only-categories={','.join(LIMITS)}",
        f"--chrome-flags={flags}",
    ]
    with subprocess.Popen(
        command,
        env={**os.environ, "CHROME_PATH": chromium},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        try:
            said = process.communicate(timeout=TIMEOUT)[1]
        except BaseException as problem:
            end(process)
            if isinstance(problem, subprocess.TimeoutExpired):
                raise ValueError(f"nach {TIMEOUT} s nicht fertig") from None
            raise
    if not report.exists():
        raise ValueError((said.strip().splitlines() or ["kein Bericht"])[-1])
    return scores(json.loads(report.read_text(encoding="utf-8")))


def median(runs: list[dict[str, int]]) -> dict[str, int]:
    """Fasst die Läufe einer Seite zusammen."""
    return {name: round(statistics.median(run[name] for run in runs)) for name in runs[0]}


def too_low(page: dict[str, int]) -> list[str]:
    """Nennt die Werte unter ihrer Grenze."""
    return [
        f"{name} {page[name]} statt {limit}" for name, limit in LIMITS.items() if page[name] < limit
    ]


def line(name: str, values: dict[str, int], note: str = "") -> str:
    """Setzt eine Zeile der Tabelle."""
    columns = "".join(f"{values[key]:>15}" for key in LIMITS)
    return f"{name:<44}{columns}{values['kib']:>6} KiB  {note}".rstrip()


def summary(pages: dict[str, dict[str, int]]) -> list[str]:
    """Setzt die Zeilen für den schlechtesten und den mittleren Wert aller Seiten."""
    worst = {name: min(page[name] for page in pages.values()) for name in LIMITS}
    worst["kib"] = max(page["kib"] for page in pages.values())
    return [line("schlechteste", worst), line("mittlere", median(list(pages.values())))]


def measure_all(names: list[str], chromium: str) -> tuple[dict[str, list[dict[str, int]]], bool]:
    """Misst die Seiten eine nach der anderen und zeigt jede, sobald sie fertig ist."""
    listener = bind(0)
    server = uvicorn.Server(uvicorn.Config(build_app(SITE), log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    root = f"http://{HOST}:{listener.getsockname()[1]}"
    runs, failed = {}, False
    print(f"{'Seite':<44}" + "".join(f"{name:>15}" for name in LIMITS), flush=True)
    try:
        with tempfile.TemporaryDirectory() as folder:
            for name in names:
                url = f"{root}/{name}.html"
                try:
                    found = [measure(url, chromium, Path(folder)) for _ in range(RUNS)]
                except ValueError as problem:
                    failed = True
                    print(f"{name:<44}nicht gemessen: {problem}", flush=True)
                    continue
                runs[name] = found
                low = too_low(median(found))
                failed |= bool(low)
                note = f"zu wenig: {', '.join(low)}" if low else ""
                print(line(name, median(found), note), flush=True)
    finally:
        server.should_exit = True
        thread.join(timeout=10)
        listener.close()
    return runs, failed


def main() -> int:
    """Misst, zeigt die Tabelle, vergleicht mit den Grenzen und legt die Werte ab."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    for missing, command in (
        (not LIGHTHOUSE.exists(), "npm ci"),
        (not chromium, "sudo apt install chromium"),
        (not (SITE / "index.html").exists(), "make book"),
    ):
        if missing:
            sys.exit(f"Für Lighthouse fehlt noch etwas. Abhilfe: {command}")
    names = [name.removesuffix(".html") for name in sys.argv[1:]] or all_pages()
    if unknown := [name for name in names if not (SITE / f"{name}.html").exists()]:
        sys.exit(f"Diese Seiten gibt es nicht: {', '.join(unknown)}. Abhilfe: _toc.yml ansehen")
    runs, failed = measure_all(names, chromium)
    pages = {name: median(found) for name, found in runs.items()}
    if pages:
        print("\n".join(summary(pages)))
    result = {
        "measured": time.strftime("%Y-%m-%d"),
        "limits": LIMITS,
        "pages": {name: {"median": pages[name], "runs": found} for name, found in runs.items()},
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return int(failed)


if __name__ == "__main__":
    # Sonst bliebe nach einem Abbruch von außen der Browser zurück.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
