"""Der Objektspeicher von Azure, soweit `azure-storage-blob` ihn hier braucht: im Speicher.

Zutritt gibt eine Signatur in der Adresse (SAS), die nur für einen Container gilt.
"""

from __future__ import annotations

import re
import secrets
from email.utils import formatdate
from pathlib import Path
from urllib.parse import quote
from xml.sax.saxutils import escape

from examples.local_cloud.azure_access import refusal
from examples.local_cloud.service import Refusal, Request, Response

DATE = formatdate(1767225600, usegmt=True)
META = "x-ms-meta-"
RANGE = re.compile(r"bytes=(\d+)-(\d*)")


class Blobs:
    """Container mit ihren Blobs; ein Blob ist Inhalt und Metadaten."""

    def __init__(self) -> None:
        self._containers: dict[str, dict[str, tuple[bytes, dict[str, str]]]] = {}
        self._signatures: dict[str, str] = {}

    def create(self, container: str) -> str:
        """Legt den Container an, wenn es ihn nicht gibt, und signiert für ihn eine Adresse."""
        self._containers.setdefault(container, {})
        signature = secrets.token_urlsafe(24)
        self._signatures[signature] = container
        return f"sv=2025-01-05&sr=c&sp=rwl&sig={signature}"

    def clear(self) -> None:
        """Leert alles, wie beim Löschen des Speicherkontos."""
        self._containers.clear()
        self._signatures.clear()

    def copy(self, container: str, prefix: str, target: Path) -> None:
        """Schreibt einen Blob oder einen Ordner von Blobs unter seinem Namen nach `target`."""
        parent = prefix.rstrip("/").rpartition("/")[0]
        for name, (content, _) in self._containers.get(container, {}).items():
            if name == prefix or name.startswith(prefix.rstrip("/") + "/"):
                path = (target / name.removeprefix(parent).lstrip("/")).resolve()
                if not path.is_relative_to(target.resolve()):
                    raise Refusal(400, f"Der Name {name} führt aus dem Ordner.", "InvalidBlobName")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)

    def answer(self, request: Request) -> Response:
        """Beantwortet einen Aufruf von `azure-storage-blob`."""
        container, name = request.args["container"], request.args["name"]
        if self._signatures.get(request.query.get("sig", "")) != container:
            raise refusal("bad_signature")
        blobs = self._containers[container]
        given = {n: v for n, v in request.headers.items() if n.startswith(META)}
        match request.method, request.query.get("comp"):
            case "PUT", None if request.headers.get("x-ms-blob-type") == "BlockBlob":
                blobs[name] = (request.body, given)
                return Response(b"", 201, headers())
            case "PUT", "metadata":
                blobs[name] = (self._find(blobs, name)[0], given)
                return Response(b"", 200, headers())
            case "GET", "list":
                return listing(blobs, request.query.get("prefix", ""))
            case (("GET" | "HEAD"), None):
                content, metadata = self._find(blobs, name)
                return partial(content, request.headers.get("x-ms-range", ""), metadata)
        call = f"{request.method} comp={request.query.get('comp')}"
        raise Refusal(501, f"Nicht nachgebildet: Blob {call}", "NotImplemented")

    def _find(self, blobs: dict, name: str) -> tuple[bytes, dict[str, str]]:
        if name not in blobs:
            raise refusal("no_blob")
        return blobs[name]


def headers(**more: str) -> dict[str, str]:
    """Was das SDK in jeder Antwort erwartet."""
    fixed = {"ETag": '"0x1"', "Last-Modified": DATE, "x-ms-request-server-encrypted": "true"}
    return fixed | {"x-ms-blob-type": "BlockBlob"} | more


def partial(content: bytes, wanted: str, metadata: dict[str, str]) -> Response:
    """Der ganze Inhalt oder das Stück, nach dem das SDK fragt."""
    found = RANGE.fullmatch(wanted)
    kind = "application/octet-stream"
    if not found or not content:
        return Response(content, 200, headers(**metadata), kind)
    start = int(found[1])
    piece = content[start : int(found[2]) + 1 if found[2] else None]
    span = f"bytes {start}-{start + len(piece) - 1}/{len(content)}"
    return Response(piece, 206, headers(**metadata, **{"Content-Range": span}), kind)


def listing(blobs: dict, prefix: str) -> Response:
    """Die Namen mit diesem Anfang, als XML."""
    items = "".join(
        f"<Blob><Name>{escape(name)}</Name><Properties><Last-Modified>{DATE}</Last-Modified>"
        f"<Etag>0x1</Etag><Content-Length>{len(content)}</Content-Length>"
        "<BlobType>BlockBlob</BlobType></Properties></Blob>"
        for name, (content, _) in sorted(blobs.items())
        if name.startswith(prefix)
    )
    text = '<?xml version="1.0" encoding="utf-8"?><EnumerationResults>'
    text += f"<Prefix>{escape(quote(prefix))}</Prefix><Blobs>{items}</Blobs><NextMarker/>"
    return Response(f"{text}</EnumerationResults>".encode(), media_type="application/xml")
