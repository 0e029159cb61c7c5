"""Eine Klasse nachspielen: alle melden sich an, führen ein Kapitel aus und gehen wieder.

Aufruf, bei laufendem Hub: python -m examples.classroom_hub.simulate flask_service <kennwoerter.csv
Je Zeile ein Name und sein Kennwort, wie `passwords` sie ausgibt.
"""

import argparse
import asyncio
import csv
import json
import os
import random
import statistics
import sys
import time
from collections import Counter, defaultdict
from contextlib import suppress
from pathlib import Path

import httpx
import nbformat
from jupyter_client.session import Session, json_packer
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import WebSocketError, websocket_connect

HUB = "http://127.0.0.1:8260"
DOCKER = "/var/run/docker.sock"
NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
# So lange darf das Warten auf den eigenen Server dauern, Schlange eingeschlossen.
START_SECONDS = 600
CELL_SECONDS = 300
PAUSE = 2  # Lesezeit je Zelle in s
SAMPLE_SECONDS = 2
# Woran Hub, Server oder Verbindung einer Person scheitern können, ohne dass es ein Fehler hier ist.
BROKEN = (httpx.HTTPError, HTTPClientError, WebSocketError, OSError, ValueError, KeyError)


class PersonError(Exception):
    """Was einer Person misslang, in einem Satz."""


class Person:
    """Eine Person vor ihrem Browser: ein Cookie, ein Token, eine Verbindung zum Kernel."""

    def __init__(self, name: str, password: str) -> None:
        self.name, self.password = name, password
        self.client = httpx.AsyncClient(base_url=HUB, timeout=60, follow_redirects=True)
        self.token, self.socket = "", None

    async def log_in(self) -> None:
        """Füllt das Formular aus und holt sich ein Token für alles Weitere."""
        await self.client.get("/hub/login")
        form = {"username": self.name, "password": self.password}
        answer = await self.client.post(
            "/hub/login", data=form | self.xsrf(), follow_redirects=False
        )
        if answer.status_code != 302:
            raise PersonError(f"Anmeldung abgewiesen ({answer.status_code})")
        await self.client.get(
            "/hub/home"
        )  # ein Cookie gegen fremde Formulare, jetzt für die Person
        answer = await self.client.post(
            f"/hub/api/users/{self.name}/tokens",
            params=self.xsrf(),
            headers={"Referer": f"{HUB}/hub/token"},
            json={"note": "simulate"},
        )
        answer.raise_for_status()
        self.token = answer.json()["token"]
        self.client.headers["Authorization"] = f"token {self.token}"

    def xsrf(self) -> dict[str, str]:
        """Gibt das Feld zurück, ohne das der Hub ein Formular abweist."""
        jar = self.client.cookies.jar
        found = [c.value for c in jar if c.name == "_xsrf" and c.path == "/hub/"]
        return {"_xsrf": found[0] if found else ""}

    async def start_server(self) -> None:
        """Startet den eigenen Server und wartet, bis er bereit ist; bei Andrang nochmals."""
        address = f"/hub/api/users/{self.name}"
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            answer = await self.client.post(f"{address}/server")
            if answer.status_code == 429:
                await asyncio.sleep(float(answer.headers.get("Retry-After", 5)))
                continue
            if answer.status_code not in (201, 202):
                raise PersonError(f"Start abgewiesen ({answer.status_code}): {answer.text[:100]}")
            while time.monotonic() < deadline:
                server = (await self.client.get(address)).json()["servers"].get("", {})
                if server.get("ready"):
                    return
                if not server.get("pending"):
                    raise PersonError("Der Server kam nicht hoch")
                await asyncio.sleep(0.5)
        raise PersonError(f"Kein Server nach {START_SECONDS} s")

    async def open_notebook(self, chapter: str) -> None:
        """Öffnet ein Notebook und die Verbindung, die auch JupyterLab zum Kernel hält."""
        answer = await self.client.post(
            f"/user/{self.name}/api/sessions",
            json={"path": f"{chapter}.ipynb", "name": "", "type": "notebook", "kernel": {}},
        )
        answer.raise_for_status()
        kernel = answer.json()["kernel"]["id"]
        self.session = Session()
        address = f"{HUB.replace('http', 'ws')}/user/{self.name}/api/kernels/{kernel}/channels"
        self.socket = await websocket_connect(
            HTTPRequest(address, headers={"Authorization": f"token {self.token}"})
        )

    async def execute(self, source: str) -> list[dict]:
        """Führt eine Zelle aus und gibt ihre Ausgaben zurück."""
        request = self.session.msg(
            "execute_request",
            {"code": source, "silent": False, "store_history": True, "stop_on_error": False},
        )
        request |= {"channel": "shell", "buffers": []}
        await self.socket.write_message(json_packer(request))
        outputs, waiting = [], {"reply", "idle"}
        while waiting:
            try:
                text = await asyncio.wait_for(self.socket.read_message(), CELL_SECONDS)
            except TimeoutError:
                raise PersonError(f"Eine Zelle war nach {CELL_SECONDS} s nicht fertig") from None
            if text is None:
                raise PersonError("Die Verbindung zum Kernel brach ab")
            message = json.loads(text)
            kind, content = message["header"]["msg_type"], message["content"]
            # Startet der Server einen toten Kernel neu, gehört die Nachricht zu keiner Zelle.
            if kind == "status" and content["execution_state"] in ("restarting", "dead"):
                raise PersonError("Der Kernel starb: mehr Speicher verlangt als erlaubt?")
            if message["parent_header"].get("msg_id") != request["header"]["msg_id"]:
                continue
            if kind == "execute_reply":
                waiting.discard("reply")
            elif kind == "status" and content["execution_state"] == "idle":
                waiting.discard("idle")
            elif kind in ("stream", "execute_result", "display_data", "error"):
                outputs.append(nbformat.v4.output_from_msg(message))
        return outputs

    async def leave(self) -> None:
        """Beendet den eigenen Server, wartet, bis er fort ist, und schließt die Verbindungen."""
        if self.socket:
            self.socket.close()
        if self.token:
            address = f"/hub/api/users/{self.name}"
            await self.client.delete(f"{address}/server")
            deadline = time.monotonic() + START_SECONDS
            while (await self.client.get(address)).json()["servers"]:
                if time.monotonic() > deadline:
                    raise PersonError(f"Der Server endete nicht in {START_SECONDS} s")
                await asyncio.sleep(0.5)
        await self.client.aclose()


def texts(outputs: list[dict]) -> dict[str, str]:
    """Fasst Ausgaben zusammen, wie nbval sie vergleicht: Text je Art, ohne Bilder."""
    found = defaultdict(str)
    for output in outputs:
        if output["output_type"] == "stream":
            found[output["name"]] += output["text"]
        elif output["output_type"] == "error":
            found["error"] += f"{output['ename']}: {output['evalue']}"
        else:
            found["result"] += output["data"].get("text/plain", "")
    return dict(found)


async def memory(client: httpx.AsyncClient, container: str) -> float:
    """Gibt den belegten Speicher eines Containers in MB zurück, ohne Dateicache."""
    query = {"stream": "false", "one-shot": "true"}
    answer = await client.get(f"/containers/{container}/stats", params=query)
    # Verschwindet ein Container beim Messen, ist die Antwort leer.
    known = answer.status_code == 200 and answer.content
    used = answer.json().get("memory_stats", {}) if known else {}
    details = used.get("stats", {})
    # Die Namen hängen von der Fassung von `cgroup` ab.
    cache = details.get("total_inactive_file", details.get("inactive_file", 0))
    return (used.get("usage", 0) - cache) / 1e6


async def watch(prefix: str, names: list[str], peaks: Counter) -> None:
    """Misst alle Container, bis die Aufgabe abgebrochen wird; `peaks` behält das Höchste."""
    transport = httpx.AsyncHTTPTransport(uds=DOCKER)
    async with httpx.AsyncClient(transport=transport, base_url="http://docker") as client:
        while True:
            # Unter Last antwortet Docker manchmal spät; die nächste Messung zählt wieder.
            with suppress(httpx.TimeoutException):
                used = await asyncio.gather(*(memory(client, f"{prefix}-{name}") for name in names))
                for name, value in zip([*names, "together"], [*used, sum(used)], strict=True):
                    peaks[name] = max(peaks[name], value)
            await asyncio.sleep(SAMPLE_SECONDS)


async def attend(person: Person, chapter: str, pause: float) -> dict:
    """Ein Schultag einer Person; gibt zurück, wie lange was dauerte und was misslang."""
    row = {"name": person.name, "failure": None}
    chance = random.Random(person.name)
    started = time.monotonic()
    try:
        await person.log_in()
        await person.start_server()
        await person.open_notebook(chapter)
        row["ready_seconds"] = round(time.monotonic() - started, 1)
        working = 0.0
        for cell in nbformat.read(NOTEBOOKS / f"{chapter}.ipynb", as_version=4).cells:
            if cell.cell_type != "code":
                continue
            await asyncio.sleep(chance.uniform(0, 2 * pause))  # lesen
            begun = time.monotonic()
            outputs = await person.execute(cell.source)
            working += time.monotonic() - begun
            ignored = "nbval-ignore-output" in cell.metadata.get("tags", [])
            if not ignored and texts(outputs) != texts(cell.outputs):
                raise PersonError(f"Zelle „{cell.id}“ gab anderes aus: {str(texts(outputs))[:200]}")
        row["chapter_seconds"] = round(working, 1)
    except PersonError as failed:
        row["failure"] = str(failed)
    except BROKEN as error:
        row["failure"] = f"{type(error).__name__}: {error}"
    finally:
        try:
            await person.leave()
        except (PersonError, *BROKEN) as error:
            # Was einem beim Gehen misslingt, kostet nicht die Ergebnisse aller anderen.
            row["failure"] = row["failure"] or f"Gehen: {type(error).__name__}: {error}"
    return row


async def run(people: list[list[str]], chapter: str, pause: float, prefix: str) -> dict:
    """Alle zugleich; gibt je Person eine Zeile zurück und dazu, was alle zusammen brauchten."""
    peaks = Counter()
    watching = asyncio.create_task(watch(prefix, [name for name, _ in people], peaks))
    started = time.monotonic()
    rows = await asyncio.gather(*(attend(Person(*person), chapter, pause) for person in people))
    seconds = round(time.monotonic() - started)
    # Gemessen wird, bis die Aufgabe abgebrochen wird; endete sie vorher, gilt keine ihrer Zahlen.
    measured = watching.cancel()
    if measured:
        for row in rows:
            row["memory_mb"] = round(peaks[row["name"]])
    else:
        print(f"Der Speicher ließ sich nicht messen: {watching.exception()}", file=sys.stderr)
    together = round(peaks["together"]) if measured else None
    return {"total_seconds": seconds, "memory_together_mb": together, "people": rows}


def summary(found: dict) -> dict:
    """Fasst die Zeilen zusammen: Mitte und Schlechtestes von allem, und wie oft was misslang."""
    rows, result = found["people"], {"users": len(found["people"])}
    for key in ("ready_seconds", "chapter_seconds", "memory_mb"):
        values = [row[key] for row in rows if key in row]
        result[key] = {
            "median": round(statistics.median(values), 1) if values else None,
            "worst": max(values, default=None),
        }
    failures = Counter(row["failure"] for row in rows if row["failure"])
    rest = {key: found[key] for key in ("total_seconds", "memory_together_mb")}
    return result | rest | {"failed": failures.total(), "failures": dict(failures)}


def main() -> None:
    """Spielt die Klasse von der Standardeingabe nach; Exitcode 1, wenn etwas misslang."""
    parser = argparse.ArgumentParser(description="Eine Klasse nachspielen.")
    parser.add_argument("chapter", help="Kapitel, etwa flask_service")
    options = parser.parse_args()
    if not (NOTEBOOKS / f"{options.chapter}.ipynb").exists():
        sys.exit(f"Ein Kapitel {options.chapter} gibt es nicht.")
    people = [row for row in csv.reader(sys.stdin) if row]
    if not people or any(len(row) != 2 for row in people):
        sys.exit("Auf der Standardeingabe wird je Zeile ein Name und ein Kennwort erwartet.")
    prefix = os.environ.get("CLASSROOM_NAME", "classroom")  # so heißt die Klasse auch dem Hub
    found = summary(asyncio.run(run(people, options.chapter, PAUSE, prefix)))
    print(json.dumps(found, indent=2, ensure_ascii=False))
    sys.exit(bool(found["failed"]) or found["memory_together_mb"] is None)


if __name__ == "__main__":
    main()
