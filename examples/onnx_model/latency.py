"""Wie lange ONNX und scikit-learn für einen Stein und für einen Stapel brauchen, als JSON.

Aufruf: python -m examples.onnx_model.latency
"""

import json
import statistics
import sys
import time

from examples.price_model.predict import ModelMissingError, load_model
from examples.price_model.schema import EXAMPLE, MAX_BATCH, Stone

REPEATS = 200


def measure(engine: str) -> dict[int, dict[str, float]]:
    """Gibt je Stapelgröße Median (p50) und 99. Perzentil (p99) eines Aufrufs in µs zurück."""
    model = load_model(engine)
    stones = [Stone(**EXAMPLE | {"carat": 0.3 + n / MAX_BATCH}) for n in range(MAX_BATCH)]
    result = {}
    for size in (1, MAX_BATCH):
        batch, times = stones[:size], []
        model.predict(batch)  # der erste Aufruf legt Speicher an
        for _ in range(REPEATS):
            started = time.perf_counter()
            model.predict(batch)
            times.append(1e6 * (time.perf_counter() - started))
        p99 = statistics.quantiles(times, n=100)[-1]
        result[size] = {"p50": statistics.median(times), "p99": p99}
    return result


if __name__ == "__main__":
    try:
        print(json.dumps({engine: measure(engine) for engine in ("onnx", "sklearn")}))
    except ModelMissingError as error:
        sys.exit(str(error))
