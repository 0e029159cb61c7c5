"""Eine Klasse von 30 auf diesem Rechner: make classroom-bench."""

import asyncio
import os
import secrets
import sys
import tempfile
from pathlib import Path

import psutil

import figures
import process
from examples.classroom_hub import remove, simulate

USERS = int(os.environ.get("USERS", 30))
CHAPTER = "joblib_model"
NAME = "classroom-bench"


def main() -> None:
    """Startet den Hub, spielt die Klasse nach, räumt auf und schreibt die Zahlen."""
    with tempfile.TemporaryDirectory() as folder:
        people = Path(folder) / "people"
        people.write_text("\n".join(f"person{n:02}" for n in range(USERS)), encoding="utf-8")
        variables = {
            "CLASSROOM_NAME": NAME,
            "CLASSROOM_USERS": str(people),
            "CLASSROOM_KEY": secrets.token_hex(16),
            "CLASSROOM_STATE": f"{folder}/state",
        }
        python = "python:classroom_hub"
        lines = process.output([python, "-m", "examples.classroom_hub.passwords"], env=variables)
        config = "examples/classroom_hub/jupyterhub_config.py"
        remove.remove(NAME, files=True)
        load = os.getloadavg()[0]  # was der Rechner nebenher tut
        try:
            hub = process.serve(
                [python, "-m", "jupyterhub", "-f", config],
                f"{simulate.HUB}/hub/health",
                timeout=120,
                env=variables,
            )
            try:
                pairs = [line.split(",") for line in lines.split()]
                found = asyncio.run(simulate.run(pairs, CHAPTER, simulate.PAUSE, NAME))
            finally:
                hub.stop()
        finally:
            remove.remove(NAME, files=True)
    result = simulate.summary(found)
    image = process.output(["docker", "image", "inspect", "-f", "{{.Size}}", "classroom:1"])
    result |= {
        "chapter": CHAPTER,
        "pause_seconds": simulate.PAUSE,
        "load_before": round(load, 1),
        "machine_memory_gb": round(psutil.virtual_memory().total / 1e9),
        "image_gb": round(int(image) / 1e9, 2),
    }
    for key, value in result.items():
        print(f"{key:<22}{value}")
    if result["failed"] or result["memory_together_mb"] is None:
        sys.exit("Etwas misslang; die Zahlen bleiben, wie sie waren.")
    figures.write("classroom_hub", result)


if __name__ == "__main__":
    main()
