"""Je Ansatz ein Beispiel, das sich wirklich betreiben lässt."""

import os

# Vor jedem Import von onnxruntime: Es meldet sich sonst bei seinem Hersteller.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
