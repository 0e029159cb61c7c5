"""Was FastAPI von sich aus über OpenTelemetry aufzeichnet.

Aufruf: python -m examples.service_logging.spans
"""

import json
import sys
import time

from fastapi.testclient import TestClient
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from examples.fastapi_service.app import app
from examples.price_model.schema import EXAMPLE

# Das Beispiel aus der Norm „Trace Context“: Version, Kennung der Kette, Absender, Flags.
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
HEADERS = {"traceparent": f"00-{TRACE_ID}-b7ad6b7169203331-01"}


def main() -> None:
    """Stellt eine Frage und zeigt die Spans, die dabei entstehen."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    with TestClient(app) as client:
        while (ready := client.get("/health/ready")).status_code != 200:
            # Scheitert das Laden, steht hier sofort der Grund; dann kommt kein Modell mehr.
            reason = ready.json()["detail"][0]["reason"]
            if "noch geladen" not in reason:
                sys.exit(reason)
            time.sleep(0.05)
        exporter.clear()
        client.post("/predict?customer=Mustermann", json=EXAMPLE, headers=HEADERS)
    spans = exporter.get_finished_spans()
    report = {
        "spans": sorted(span.name for span in spans),
        "same_trace": {f"{span.context.trace_id:032x}" for span in spans} == {TRACE_ID},
        "query": [span.attributes["url.query"] for span in spans if "url.query" in span.attributes],
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
