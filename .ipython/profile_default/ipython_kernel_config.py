"""Profil der Kernel: knappe Fehler, keine Verlaufsdatei, keine Meldungen auf stderr."""

import os

c = get_config()  # noqa: F821 – stellt IPython bereit

# Eine Meldung statt eines Tracebacks mit Pfaden dieser Maschine.
c.InteractiveShell.xmode = "Minimal"
# Farben stünden als Steuerzeichen in den gespeicherten Ausgaben.
c.InteractiveShell.colors = "nocolor"
# Sonst meldet jeder Kernel „running over TCP without encryption“.
c.IPKernelApp.log_level = 40
# Parallele Kernel stritten um dieselbe SQLite-Datei.
c.HistoryManager.hist_file = ":memory:"
# onnxruntime meldet sich sonst bei seinem Hersteller.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
