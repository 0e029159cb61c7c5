"""Was ein Fork von einem geladenen Modell übrig lässt: Threads überleben ihn nicht (Linux).

Aufruf: python -m examples.flask_service.fork
"""

import json
import os
import signal
import sys
from collections.abc import Callable

# Vor dem Import von scikit-learn: mit nur einem Thread gäbe es nichts zu verlieren.
os.environ["OMP_NUM_THREADS"] = "2"

import numpy as np
import onnxruntime

from examples.price_model.predict import ARTIFACTS, ModelMissingError, load_model
from examples.price_model.schema import CATEGORIES, EXAMPLE, Stone

SECONDS = 3
STONES = [Stone(**EXAMPLE)]


def ask_in_child(ask: Callable[[], object]) -> str:
    """Stellt eine Frage in einem Kindprozess und sagt, ob er antwortet."""
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(SECONDS)  # beendet auch einen Prozess, der außerhalb von Python wartet
            ask()
            os._exit(0)
        finally:
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return {0: "antwortet", -signal.SIGALRM: "hängt"}.get(code, "stürzt ab")


def parallel_session() -> Callable[[], object]:
    """Ein ONNX-Modell, das seine Knoten auf eigene Threads verteilt."""
    options = onnxruntime.SessionOptions()
    options.execution_mode = onnxruntime.ExecutionMode.ORT_PARALLEL
    options.inter_op_num_threads = 2
    session = onnxruntime.InferenceSession(ARTIFACTS / "price_model.onnx", options)
    question = {
        name: np.array([[value]], object if name in CATEGORIES else np.float32)
        for name, value in EXAMPLE.items()
    }
    return lambda: session.run(None, question)


def main() -> None:
    """Lädt erst im Vater und fragt dann im Kind; zeigt je Fall das Ergebnis als JSON."""
    try:
        onnx, sklearn = load_model("onnx"), load_model("sklearn")
    except ModelMissingError as error:
        sys.exit(str(error))
    found = {"ONNX, ein Thread": ask_in_child(lambda: onnx.predict(STONES))}
    found["ONNX, eigene Threads"] = ask_in_child(parallel_session())
    found["scikit-learn"] = ask_in_child(lambda: sklearn.predict(STONES))
    sklearn.predict(STONES)
    found["scikit-learn, vorher aufgewärmt"] = ask_in_child(lambda: sklearn.predict(STONES))
    print(json.dumps(found, ensure_ascii=False))


if __name__ == "__main__":
    main()
