"""Die vier Webanwendungen vergleichen: Start, Speicher, Durchsatz. Teil von `make bench`."""

import io
import json
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import gradio_client
import psutil
from PIL import Image

import figures
import process
from examples.price_model.schema import EXAMPLE
from tests.benchmarks.cores import pin

RUNS, SECONDS, CLIENTS = 3, 3, 8
GAP = 12
PICTURE = process.ROOT / "book" / "_static" / "web_apps.webp"
STREAMLIT = ["python", "-m", "streamlit", "run", "examples/streamlit_app/app.py"]
FLASK = ["python", "-m", "examples.flask_service.serve", "--port", "8103"]
UVICORN = ["python", "-m", "uvicorn", "--no-access-log"]
APPS = {  # Name: (Befehl, Adresse, die antwortet, sobald der Dienst bereit ist)
    "gradio_app": (
        [*UVICORN, "examples.gradio_app.app:app", "--port", "8101"],
        "http://127.0.0.1:8101/health/ready",
    ),
    "streamlit_app": (STREAMLIT, "http://127.0.0.1:8102/_stcore/health"),
    "flask_service": (FLASK, "http://127.0.0.1:8103/health/ready"),
    "fastapi_service": (
        [*UVICORN, "examples.fastapi_service.app:app", "--port", "8104"],
        "http://127.0.0.1:8104/health/ready",
    ),
}


def memory() -> float:
    """Misst in MB, was der laufende Dienst samt Kindern für sich allein belegt."""
    guards = {guard.pid for guard in psutil.Process().children()}
    family = psutil.Process().children(recursive=True)
    return sum(p.memory_full_info().uss for p in family if p.pid not in guards) / 1e6


def rate(slug: str, url: str) -> float | None:
    """Misst Antworten je Sekunde bei acht Fragenden; Streamlit hat keine API."""
    if slug == "streamlit_app":
        return None
    root = url.split("/health")[0]
    if slug != "gradio_app":
        command = ["python", "-m", "examples.fastapi_service.load", f"{root}/predict"]
        return json.loads(process.output([*command, "--seconds", str(SECONDS)]))["per_second"]

    def ask_repeatedly(_: int) -> int:
        client = gradio_client.Client(root, verbose=False, analytics_enabled=False)
        answered, until = 0, time.monotonic() + SECONDS
        while time.monotonic() < until:
            client.predict(EXAMPLE, api_name="/predict")
            answered += 1
        client.close()
        return answered

    with ThreadPoolExecutor(CLIENTS) as clients:
        return sum(clients.map(ask_repeatedly, range(CLIENTS))) / SECONDS


def measure() -> dict[str, dict]:
    """Gibt je Anwendung die Mediane aus mehreren verschränkten Läufen zurück."""
    found = {slug: {"start": [], "memory": [], "rate": []} for slug in APPS}
    for run in range(RUNS):
        print(f"Webanwendungen, Lauf {run + 1} von {RUNS} …", flush=True)
        for slug, (command, url) in APPS.items():
            pin(0)
            started = time.monotonic()
            service = process.serve(command, url, timeout=60)
            found[slug]["start"].append(time.monotonic() - started)
            pin(-1)
            try:
                found[slug]["rate"].append(rate(slug, url))
                found[slug]["memory"].append(memory())
            finally:
                service.stop()
    fastest = statistics.median(found["fastapi_service"]["rate"])
    return {
        slug: {
            "start_seconds": round(statistics.median(values["start"]), 1),
            "memory_mb": round(statistics.median(values["memory"])),
        }
        | (
            {"percent_of_fastapi": round(100 * statistics.median(values["rate"]) / fastest, 1)}
            if None not in values["rate"]
            else {}
        )
        for slug, values in found.items()
    }


def photograph() -> None:
    """Stellt die vier Anwendungen nebeneinander; Flask hat keine Seite, es zeigt seine Antwort."""
    width, height = 1000, 700
    sheet = Image.new("RGB", (2 * width + GAP, 2 * height + GAP), "#0b6e75")
    pages = {"fastapi_service": "/docs", "flask_service": "/health/ready"}
    for place, (slug, (command, url)) in enumerate(APPS.items()):
        service = process.serve(command, url, timeout=60)
        try:
            address = url.split("/health")[0].split("/_stcore")[0] + pages.get(slug, "")
            # Gradio und Streamlit bauen die Seite erst auf; die vollste Aufnahme ist die größte.
            shots = [process.screenshot(address, slug, width, height).data for _ in range(4)]
        finally:
            service.stop()
        corner = (place % 2 * (width + GAP), place // 2 * (height + GAP))
        sheet.paste(Image.open(io.BytesIO(max(shots, key=len))).convert("RGB"), corner)
    sheet.resize((width, height)).save(PICTURE, quality=80)


def main() -> None:
    """Misst, fotografiert, zeigt die Tabelle und schreibt die Zahlen für die Seiten."""
    found = measure()
    photograph()
    print(f"\n{'Anwendung':<18}{'Start/s':>9}{'MB':>6}{'% FastAPI':>11}")
    for slug, row in found.items():
        share = row.get("percent_of_fastapi", "–")
        measured = f"{row['start_seconds']:>9}{row['memory_mb']:>6}"
        print(f"{slug:<18}{measured}{share:>11}")
    figures.write("web_apps", found)


if __name__ == "__main__":
    main()
