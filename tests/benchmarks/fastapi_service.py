"""Den FastAPI-Dienst gegen Echo und Anleitungsform messen: `make bench`.

Endet mit 1 und schreibt nichts, wenn ein Verhältnis unter seiner Grenze liegt.
"""

import json
import statistics
import sys

import figures
import process
from tests.benchmarks.cores import pin

RUNS, SECONDS = 7, 1.5
SERVICE, COMPARISON = "http://127.0.0.1:8104", "http://127.0.0.1:8114"
KINDS = {
    "predict": f"{SERVICE}/predict",
    "echo": f"{COMPARISON}/echo",
    "plain": f"{COMPARISON}/plain",
    "onnx_def": f"{COMPARISON}/onnx-def",
    "sklearn_def": f"{COMPARISON}/sklearn-def",
    "dataframe": f"{COMPARISON}/dataframe",
}
LOWEST_RATIOS = {"echo": 0.60, "dataframe": 15}


def serve(app: str, url: str) -> process.Service:
    """Startet eine Anwendung auf dem Kern für Server."""
    port = url.rsplit(":", 1)[1]
    command = ["python", "-m", "uvicorn", f"examples.fastapi_service.{app}:app"]
    return process.serve([*command, "--port", port, "--no-access-log"], f"{url}/health/ready")


def ask(url: str) -> float:
    """Misst Anfragen je Sekunde mit einem Lastgenerator auf dem anderen Kern."""
    command = ["python", "-m", "examples.fastapi_service.load", url, "--seconds", str(SECONDS)]
    return json.loads(process.output(command))["per_second"]


def measure() -> dict[str, float]:
    """Gibt je Bauart den Median aus mehreren verschränkten Läufen zurück."""
    rates = {kind: [] for kind in KINDS}
    for run in range(RUNS):
        print(f"Lauf {run + 1} von {RUNS} …", flush=True)
        # Jeder Lauf mit neuen Prozessen: Zufälle der Speicherbelegung mitteln sich heraus.
        pin(0)
        services = [serve("app", SERVICE), serve("comparison", COMPARISON)]
        pin(-1)
        try:
            for kind, url in KINDS.items():
                rates[kind].append(ask(url))
        finally:
            for service in services:
                service.stop()
    return {kind: statistics.median(values) for kind, values in rates.items()}


def main() -> int:
    """Misst, zeigt die Tabelle und schreibt die Zahlen für die Seiten."""
    rates = measure()
    ratios = {kind: round(rates["predict"] / rates[kind], 2) for kind in KINDS if kind != "predict"}
    print(f"\n{'Bauart':<14}{'Anfragen/s':>12}{'Dienst dazu':>14}")
    for kind, rate in rates.items():
        print(f"{kind:<14}{rate:>12.0f}{ratios.get(kind, 1):>14.2f}")
    low = {kind: least for kind, least in LOWEST_RATIOS.items() if ratios[kind] < least}
    for kind, least in low.items():
        print(f"predict/{kind} = {ratios[kind]}, verlangt sind mindestens {least}")
    if not low:
        per_second = {kind: round(rate, -1) for kind, rate in rates.items()}
        figures.write("fastapi_service", {"per_second": per_second, "ratio_to": ratios})
    return int(bool(low))


if __name__ == "__main__":
    sys.exit(main())
