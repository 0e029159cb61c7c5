"""Was `make lab` an Variablen setzt, für Rechner ohne make: `jupyter lab --config=…`."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
os.environ.setdefault("IPYTHONDIR", str(ROOT / ".ipython"))
os.environ.setdefault("JUPYTER_PATH", str(ROOT / ".environments" / "share" / "jupyter"))
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
