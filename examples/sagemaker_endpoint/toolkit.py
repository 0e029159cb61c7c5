"""Der Server um die Handler aus model.tar.gz: dünne HTTP-Schale, innen das Toolkit von AWS.

Images von AWS mit diesem Toolkit stellen einen Server in Java davor; er gibt ihm dieselben
Angaben. Starten, wie die Plattform es tut: `python -m examples.sagemaker_endpoint.toolkit serve`
"""

import os
import sys

# Eine Frage lohnt keine Aufteilung auf Threads; auf vollen Kernen warten sie nur aufeinander.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import uvicorn
from sagemaker_inference import environment
from sagemaker_inference.default_handler_service import DefaultHandlerService
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


class Context:
    """Was das Toolkit über eine Anfrage wissen will und wohin es die Antwort schreibt."""

    def __init__(self, headers: dict[str, str]) -> None:
        self.system_properties = {"model_dir": environment.model_dir}
        self.request_processor = [self]
        self.headers, self.status, self.content_type = headers, 200, "application/json"

    def get_request_properties(self) -> dict[str, str]:
        """Die Header der Anfrage."""
        return self.headers

    def set_response_content_type(self, _: int, content_type: str) -> None:
        """Ruft das Toolkit nach einer gelungenen Vorhersage."""
        self.content_type = content_type

    def set_response_status(self, code: int, phrase: str) -> None:
        """Ruft das Toolkit, wenn ein Handler scheitert."""
        self.status, self.content_type = code, "text/plain"


def ping(_: Request) -> Response:
    """Der Server lauscht erst, wenn das Modell geladen ist; wer antwortet, ist bereit."""
    return Response()


async def invocations(request: Request) -> Response:
    """Gibt Inhalt und Header an die Handler; immer nur eine Anfrage zugleich."""
    body, context = await request.body(), Context(dict(request.headers))
    (content,) = service.handle([{"body": body}], context)
    return Response(content, context.status, media_type=context.content_type)


SERVE = "serve"  # das einzige Argument, mit dem die Plattform ein Image startet
service = DefaultHandlerService()
app = Starlette(routes=[Route("/ping", ping), Route("/invocations", invocations, methods=["POST"])])


def main() -> None:
    """Lädt die Handler und das Modell, dann lauscht der Server."""
    if sys.argv[1:] != [SERVE]:
        sys.exit(f"Aufruf: python -m {__spec__.name} {SERVE}")
    sys.path.insert(0, environment.code_dir)
    service.initialize(Context({}))
    host = os.environ.get("PRICE_HOST", "127.0.0.1")
    uvicorn.run(app, host=host, port=int(os.environ.get("SAGEMAKER_BIND_TO_PORT", "8080")))


if __name__ == "__main__":
    main()
