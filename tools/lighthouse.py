"""Die Startseite mit Lighthouse messen: mobil, Median aus drei Läufen.

Aufruf: python tools/lighthouse.py; Rückgabewert 1, wenn ein Wert unter seiner Grenze liegt.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import uvicorn

from site_server import HOST, SITE, bind, build_app

LIGHTHOUSE = Path(__file__).resolve().parent.parent / "node_modules" / ".bin" / "lighthouse"
# None: wird gezeigt, aber nicht verlangt.
LIMITS = {"performance": 85, "accessibility": 100, "best-practices": None, "seo": 100}
RUNS = 3


def measure(url: str, chromium: str, report: Path) -> dict[str, int]:
    """Gibt die Punkte eines Laufs zurück, 0 bis 100."""
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
    subprocess.run(command, check=True, env={**os.environ, "CHROME_PATH": chromium}, timeout=120)
    categories = json.loads(report.read_text(encoding="utf-8"))["categories"]
    return {name: round(categories[name]["score"] * 100) for name in LIMITS}


def main() -> int:
    """Misst, zeigt die Tabelle und vergleicht mit den Grenzen."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    for missing, command in (
        (not LIGHTHOUSE.exists(), "npm ci"),
        (not chromium, "sudo apt install chromium"),
        (not (SITE / "index.html").exists(), "make book"),
    ):
        if missing:
            sys.exit(f"Für Lighthouse fehlt noch etwas. Abhilfe: {command}")
    listener = bind(0)
    server = uvicorn.Server(uvicorn.Config(build_app(SITE), log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    url = f"http://{HOST}:{listener.getsockname()[1]}/book/index.html"
    try:
        with tempfile.TemporaryDirectory() as folder:
            runs = [measure(url, chromium, Path(folder) / f"{n}.json") for n in range(RUNS)]
    finally:
        server.should_exit = True
        thread.join(timeout=10)
    failed = False
    for name, limit in LIMITS.items():
        score = statistics.median(run[name] for run in runs)
        low = limit is not None and score < limit
        failed |= low
        wanted = "" if limit is None else f"mindestens {limit}"
        print(f"{name:<15} {score:>4.0f}  {wanted}{' – zu wenig' if low else ''}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
