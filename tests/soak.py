"""Dauerlast: Jeder Dienst der Beispiele beantwortet lange gemischte, auch kaputte Fragen.

`make soak` startet alle Varianten des Vertrags, hinter denen ein Dienst steht, in drei
Gruppen nebeneinander. Verlangt wird: gültige Steine immer richtig, nie ein Status ab 500, nach dem
Aufwärmen höchstens zehn Prozent mehr Speicher, und nach dem Ende kein Prozess, kein Port, keine
Datei. `SOAK_SECONDS` ist die Dauer je Gruppe; Varianten, die als Argumente genannt sind, laufen
in einer Gruppe. Ein Lauf von zehn Minuten schreibt seine Zahlen nach book/data/soak.json.
"""

import contextlib
import functools
import json
import math
import os
import random
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

import contract
import process
from contract import (
    HTTP_VARIANTS,
    INVALID,
    INVALID_BODIES,
    NOT_FINITE,
    VALID,
    VARIANTS,
    Ask,
    Rejected,
    priced,
)
from test_contract import ANYTHING, QUESTIONS, STONES, TOLERANCE_USD, valid
from tools import figures
from vertex import PLACE

GROUPS = 3
# So lange läuft jede Gruppe; nur solche Zahlen kommen ins Buch.
FULL_SECONDS = 600
GROWTH = 0.10
# Anteile der Dauer: nach dem Aufwärmen wird verglichen, davor darf der Speicher wachsen.
WARM, END = (0.25, 0.40), (0.85, 1.0)
QUESTION_PAUSE, RAW_PAUSE, SAMPLES = 0.5, 1.5, 80
# Nur hinter diesen Varianten laufen Container.
CONTAINERS = ("docker_image", "compose_stack", "kubernetes_cluster")
# In jedem Prozess eines Dienstes steht, zu welcher Variante er gehört; auch Waisen erben es.
MARK = "SOAK_SERVICE"
# So lange darf ein Container oder Pod noch brauchen, bis er weg ist.
END_SECONDS = 60
# Der Weg, auf dem eine Variante gefragt wird, wenn es nicht der des Vertrags ist.
PATHS = {
    "gradio_app": "/gradio_api/call/predict",
    "huggingface_space": "/gradio_api/call/predict",
    "tensorflow_savedmodel": "/v1/models/price:predict",
    "sagemaker_endpoint": "/endpoints/price/invocations",
    "vertex_ai_endpoint": f"/v1/{PLACE}/endpoints/price:predict",
    "azure_ml_endpoint": "/endpoints/price/score",
    "streamlit_app": "/_stcore/agent/interact",
}


@dataclass
class Target:
    """Ein laufender Dienst, was ihm geschah und was daran falsch war."""

    name: str
    ask: Ask
    urls: list[str]
    roots: list[int]
    folder: Path
    counts: Counter = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    memory: list[tuple[float, int]] = field(default_factory=list)

    @property
    def path(self) -> str:
        """Der Weg zur Vorhersage."""
        return PATHS.get(self.name.split()[0], "/predict")

    def processes(self) -> set[psutil.Process]:
        """Alle Prozesse des Dienstes ohne den Wächter, der ihn gestartet hat."""
        found = set()
        for root in self.roots:
            with contextlib.suppress(psutil.NoSuchProcess):
                found.update(psutil.Process(root).children(recursive=True))
        return found

    def complain(self, problem: str) -> None:
        """Hält einen Fehler fest; die ersten genügen, gezählt werden alle."""
        self.counts["falsch"] += 1
        if len(self.wrong) < 5:
            self.wrong.append(problem)

    def growth(self, seconds: float) -> tuple[float, float]:
        """Der Speicher in MB nach dem Aufwärmen und am Ende, je der Median."""
        return tuple(
            statistics.median(
                [size for at, size in self.memory if low <= at / seconds <= high] or [0]
            )
            / 1e6
            for low, high in (WARM, END)
        )


@contextmanager
def from_streamlit_server() -> Iterator[Ask]:
    """Streamlit als Server; der Vertrag fragt die Anwendung sonst ohne Server."""
    port = contract.free_port()
    command = ["python", "-m", "streamlit", "run", "examples/streamlit_app/app.py"]
    command += ["--server.port", port, "--server.enableAgentApi", "true"]
    service = process.serve(command, f"http://127.0.0.1:{port}/_stcore/health")
    client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30)

    def interact(**content: object) -> dict:
        response = client.post("/_stcore/agent/interact", json=content)
        response.raise_for_status()
        return response.json()

    def code(tree: dict) -> str | None:
        inner = (code(child) for child in tree.get("children", []))
        own = tree["props"]["body"] if tree["type"] == "code" else None
        return own or next(filter(None, inner), None)

    session = interact()["session_id"]

    def ask(payload: object) -> tuple[list[float], str]:
        entered = {"question": json.dumps(payload)}
        shown = interact(session_id=session, widget_state=entered, trigger={"key": "ask"})
        reply = json.loads(code(shown["tree"]))
        if "detail" in reply:
            raise Rejected([(p["field"], p["reason"]) for p in reply["detail"]])
        return priced(reply if isinstance(payload, list) else [reply])

    try:
        yield ask
    finally:
        client.close()
        service.stop()


# Hinter diesen Varianten steht kein Dienst, sondern eine Datei.
FILES = ("price_model", "joblib_model", "pickle_model", "onnx_model", "experiment_tracking")
SERVICES = {name: variant for name, variant in VARIANTS.items() if not name.startswith(FILES)}
SERVICES["streamlit_app"] = from_streamlit_server


@functools.cache
def drawn(strategy: st.SearchStrategy, number: int) -> list:
    """Beispiele einer Strategie, bei jedem Lauf dieselben."""
    found = []

    @settings(
        max_examples=number,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @seed(7)
    @given(strategy)
    def collect(value: object) -> None:
        found.append(value)

    collect()
    return found


def fragments(path: str) -> list[bytes]:
    """Rohe Anfragen, wie sie kein ordentlicher Client schickt."""
    start = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n".encode()
    body = json.dumps(contract.stone()).encode()
    kind = b"Content-Type: application/json\r\n"
    sized = start + kind + f"Content-Length: {len(body)}\r\n\r\n".encode()
    bodies = [*drawn(st.binary(), 50), *(json.dumps(v).encode() for v in drawn(ANYTHING, 50))]
    bodies += [b"[" * 50_000, b'{"a":' * 50_000, b"\xff\xfe" * 100, b'{"cut":"\xed\xa0\x80"}']
    whole = [start + kind + f"Content-Length: {len(b)}\r\n\r\n".encode() + b for b in bodies]
    return [
        *whole,
        *drawn(st.binary(min_size=1), 50),
        sized + body[:20],  # der Rest kommt nie
        start + kind + b"Content-Length: 300000\r\n\r\n" + b" " * 300_000,
        start + kind + b"Content-Length: 99999999999\r\n\r\n" + body,
        start + b"Content-Length: -1\r\n\r\n",
        start + b"Content-Length: viel\r\n\r\n" + body,
        start + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n" + body,
        start + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + body,
        start + b"Transfer-Encoding: chunked\r\n\r\n5\r\n[1,2]\r\n",
        start + b"Content-Type: \xff\xff\r\nContent-Length: 2\r\n\r\n{}",
        start + kind + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
        start + b"X-Long: " + b"a" * 100_000 + b"\r\n\r\n",
        start + b"Ohne Doppelpunkt\r\n\r\n",
        start + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n",
        b"POST " + path.encode() + b"\r\n\r\n",
        b"G\xc3\xb6T / HTTP/1.1\r\n\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /%ff%00%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
        b"DELETE " + path.encode() + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /health/ready HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: " + b"\xff" * 10 + b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # der Anfang von TLS
        b"\r\n" * 50,
    ]


# Geprüft wird, was hinter der Verschlüsselung steht, nicht das Zertifikat.
TRUSTING = ssl.create_default_context()
TRUSTING.check_hostname, TRUSTING.verify_mode = False, ssl.CERT_NONE


def send_raw(target: Target, content: bytes, slow: bool) -> None:
    """Schickt rohe Bytes, auf Wunsch langsam, und liest den Status, falls einer kommt."""
    target.counts["gesendet"] += 1
    address = urlsplit(target.urls[-1])
    answer = b""
    try:
        with ExitStack() as stack:
            connection = socket.create_connection((address.hostname, address.port), timeout=2)
            stack.enter_context(connection)
            if address.scheme == "https":
                connection = stack.enter_context(TRUSTING.wrap_socket(connection))
            pieces = [content[i : i + 40] for i in range(0, min(len(content), 400), 40)]
            for piece in pieces if slow else [content]:
                connection.sendall(piece)
                time.sleep(0.1 if slow else 0)
            connection.settimeout(0.5)
            while len(answer) < 4096 and (more := connection.recv(4096)):
                answer += more
    except ConnectionRefusedError:
        target.complain("Der Dienst nimmt keine Verbindung mehr an.")
        return
    except OSError:
        pass  # getrennt, zurückgesetzt oder keine Antwort auf eine halbe Frage: alles erlaubt
    status = int(answer[9:12]) if answer[:5] == b"HTTP/" and answer[9:12].isdigit() else 0
    count(target, status, content)


def count(target: Target, status: int, question: object) -> None:
    """Zählt eine Antwort; ab 500 ist sie ein Fehler."""
    # 501 ist die Antwort des Standards auf eine Methode, die es nicht gibt.
    if status >= 500 and status != 501:
        target.counts["5xx"] += 1
        target.complain(f"Status {status} auf {str(question)[:200]}")
    elif status >= 400 or not status:
        target.counts["abgelehnt"] += 1
    else:
        target.counts["beantwortet"] += 1


def send_question(target: Target, question: object, expected: list[float] | None) -> None:
    """Stellt eine Frage auf dem Weg des Vertrags; gültige brauchen den richtigen Preis."""
    target.counts["gesendet"] += 1
    try:
        prices, _ = target.ask(question)
    except Rejected:
        target.counts["abgelehnt"] += 1
        if expected is not None:
            target.complain(f"Eine gültige Frage wurde abgelehnt: {str(question)[:200]}")
        return
    except httpx.HTTPStatusError as error:
        count(target, error.response.status_code, question)
        if expected is not None:
            target.complain(f"Statt eines Preises: {error.response.text[:200]}")
        return
    except Exception as error:
        # Was immer schiefgeht, der Lauf geht weiter.
        target.complain(f"{type(error).__name__}: {error}"[:300] + f" auf {str(question)[:200]}")
        return
    target.counts["beantwortet"] += 1
    if isinstance(question, bytes) or expected is None:
        target.complain(f"Einen Preis bekam {str(question)[:200]}")
    elif len(prices) != len(expected) or any(
        abs(price - right) > TOLERANCE_USD for price, right in zip(prices, expected, strict=False)
    ):
        target.complain(f"Falscher Preis {prices[:3]} statt {expected[:3]}")


Question = tuple[object, list[float] | None]


def questions(target: Target, fuzz: list) -> list[Question]:
    """Alle Fragen für einen Dienst mit der richtigen Antwort, `None` für eine Ablehnung."""
    reference = contract.REFERENCES.get(target.name, contract.bare_model)()
    # Ein anderes Modell kennt die Preise nur der festen Fragen.
    if target.name in contract.REFERENCES:
        fuzz = [question for question in fuzz if not valid(question)]
    asked = [*VALID.values(), *fuzz]
    # Alle Steine in einem Aufruf; ein Stapel nimmt sich davon so viele, wie er enthält.
    stones = [stone for item in asked if valid(item) for stone in contract.as_list(item)]
    prices = iter(reference(stones)[0])
    found = [
        (item, [next(prices) for _ in contract.as_list(item)] if valid(item) else None)
        for item in asked
    ]
    found += [(question, None) for question, _ in (INVALID | NOT_FINITE).values()]
    if target.name in HTTP_VARIANTS:
        found += [(body, None) for body, _ in INVALID_BODIES.values()]
    return found


def repeat(act: Callable[[random.Random], None], pause: float, stop: threading.Event) -> None:
    """Wiederholt eine Handlung in unregelmäßigem Abstand."""
    dice = random.Random(7)
    while not stop.is_set():
        act(dice)
        stop.wait(dice.uniform(0.5, 1.5) * pause)


def load(target: Target, pool: list[Question], raw: list[bytes], stop: threading.Event) -> list:
    """Startet die Last auf einen Dienst: ordentliche Fragen und rohe Bytes nebeneinander."""
    known = [item for item in pool if item[1] is not None]

    def ask(dice: random.Random) -> None:
        send_question(target, *dice.choice(known if dice.random() < 0.5 else pool))

    def break_in(dice: random.Random) -> None:
        send_raw(target, dice.choice(raw), slow=dice.random() < 0.1)

    threads = [
        threading.Thread(target=repeat, args=(act, pause, stop))
        for act, pause in ((ask, QUESTION_PAUSE), (break_in, RAW_PAUSE))
    ]
    for thread in threads:
        thread.start()
    return threads


def size(processes: set[psutil.Process]) -> int:
    """Der Speicher der Prozesse; gemeinsame Seiten zählen unter Linux nur einmal."""
    total = 0
    for member in processes:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            memory = member.memory_full_info()
            total += getattr(memory, "pss", memory.rss)
    return total


def containers() -> set[int]:
    """Worunter Container laufen, in Docker wie im Cluster; ihr Inneres sind die Kinder davon."""
    members = psutil.process_iter(["name"])
    return {m.pid for m in members if (m.info["name"] or "").startswith("containerd-shim")}


def start(name: str, variant: Callable, stack: ExitStack, folder: Path) -> Target:
    """Startet eine Variante und merkt sich, welche Dienste dabei entstehen."""
    urls, roots, serve = [], [], process.serve
    before = containers() if name in CONTAINERS else None

    def recorded(command: list, url: str, *rest: object, **options: object) -> process.Service:
        service = serve(command, url, *rest, **options)
        urls.append(url)
        roots.append(service._guard.pid)
        return service

    def noted(client: Callable) -> Callable:
        def opened(url: str) -> AbstractContextManager[Ask]:
            urls.append(url)
            return client(url)

        return opened

    # Alles Vorläufige landet in einem eigenen Ordner, der am Ende leer sein muss.
    variables = mock.patch.dict(os.environ, {MARK: name, "TMPDIR": str(folder)})
    own = mock.patch.object(tempfile, "tempdir", str(folder))
    with mock.patch.object(process, "serve", recorded), variables, own, ExitStack() as clients:
        # Nicht jeden Dienst startet `serve`: Compose und der Space-Runner tun es selbst.
        for client in ("asking", "gradio_api"):
            opened = noted(getattr(contract, client))
            clients.enter_context(mock.patch.object(contract, client, opened))
        ask = stack.enter_context(variant())
    if before is not None:
        roots += containers() - before
    return Target(name, ask, urls, roots, folder)


def orphans(name: str, known: set[psutil.Process] = frozenset()) -> list[str]:
    """Prozesse, die zu dieser Variante gehören oder gehörten und noch laufen."""
    found = []
    for member in {*psutil.process_iter(), *known}:
        with contextlib.suppress(psutil.Error):
            ours = member in known or member.environ().get(MARK) == name
            if ours and member.is_running() and member.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(member.cmdline())[:80])
    return found


def watch(targets: list[Target], seconds: float) -> None:
    """Misst den Speicher, bis die Zeit um ist, und sagt jede Minute Bescheid."""
    started = spoken = time.monotonic()
    while (passed := time.monotonic() - started) < seconds:
        for target in targets:
            target.memory.append((passed, size(target.processes())))
        if time.monotonic() - spoken > 60:
            spoken = time.monotonic()
            sent = sum(target.counts["gesendet"] for target in targets)
            wrong = sum(target.counts["falsch"] for target in targets)
            print(f"{passed:4.0f} s, {sent} Fragen, {wrong} falsch", flush=True)
        time.sleep(seconds / SAMPLES)


def left_behind(stacks: dict[str, ExitStack], targets: list[Target]) -> None:
    """Beendet die Dienste der Reihe nach und bemängelt, was von ihnen übrig ist."""
    for target in targets:
        ports, known = {urlsplit(url).port for url in target.urls}, target.processes()
        for member in known:
            with contextlib.suppress(psutil.Error):
                listening = (c for c in member.net_connections("tcp") if c.status == "LISTEN")
                ports |= {connection.laddr.port for connection in listening}
        stacks[target.name].close()
        until = time.monotonic() + END_SECONDS
        while (running := orphans(target.name, known)) and time.monotonic() < until:
            time.sleep(0.5)
        left = [f"läuft noch: {command}" for command in running]
        for port in sorted(ports):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    left.append(f"antwortet noch Port {port}.")
        left += [f"liegt noch da: {path.name}" for path in sorted(target.folder.iterdir())]
        target.counts["übrig"] = len(left)
        for problem in left:
            target.complain(f"Nach dem Ende {problem}")


def soak(variants: dict[str, Callable], seconds: float) -> tuple[list[Target], dict[str, str]]:
    """Eine Gruppe unter Last; gibt die Dienste zurück und warum andere ausblieben."""
    fuzz = [*drawn(STONES, 150), *drawn(QUESTIONS, 250)]
    targets, broken, skipped, stacks = [], [], {}, {}
    stop = threading.Event()
    with ExitStack() as everything:
        folders = Path(everything.enter_context(tempfile.TemporaryDirectory(prefix="soak-")))
        for name, variant in variants.items():
            stacks[name] = everything.enter_context(ExitStack())
            own = folders / str(len(stacks))
            own.mkdir()
            try:
                target = start(name, variant, stacks[name], own)
            except pytest.skip.Exception as reason:
                skipped[name] = str(reason)
                continue
            except (
                process.ProcessError,
                subprocess.TimeoutExpired,
                pytest.fail.Exception,  # in CI fehlt etwas, das da sein muss
            ) as error:
                broken.append(Target(name, None, [], [], own))
                broken[-1].complain(f"Ließ sich nicht starten: {error}"[:500])
                continue
            targets.append(target)
        print(f"Unter Last: {', '.join(target.name for target in targets)}", flush=True)
        threads = []
        everything.callback(stop.set)  # auch bei Abbruch endet zuerst die Last
        for target in targets:
            raw = fragments(target.path)
            threads += load(target, questions(target, fuzz), raw, stop)
        watch(targets, seconds)
        stop.set()
        for thread in threads:
            thread.join()
        left_behind(stacks, targets)
    for target in targets:
        before, after = target.growth(seconds)
        if not before:
            target.complain("Der Speicher ließ sich nicht messen.")
        elif after > before * (1 + GROWTH):
            target.complain(f"Der Speicher wuchs von {before:.0f} auf {after:.0f} MB.")
    return targets + broken, skipped


def report(targets: list[Target], seconds: float) -> str:
    """Die Tabelle: was gesendet wurde, was als Antwort kam, der Speicher davor und danach."""
    columns = ("gesendet", "beantwortet", "abgelehnt", "5xx", "falsch", "übrig")
    lines = [
        f"{'Dienst':<36}" + "".join(f"{name:>12}" for name in columns) + "   MB vorher  nachher"
    ]
    for target in targets:
        before, after = target.growth(seconds)
        change = f"{100 * (after / before - 1):+.1f} %" if before else "–"
        numbers = "".join(f"{target.counts[name]:>12}" for name in columns)
        lines.append(f"{target.name:<36}{numbers}{before:>12.0f}{after:>9.0f}  {change}")
        lines += [f"    {problem}" for problem in target.wrong]
    return "\n".join(lines)


def publish(targets: list[Target], seconds: float) -> None:
    """Übernimmt die Zahlen für die Seiten; wer nicht dabei war, behält seine."""
    path = figures.ROOT / "book" / "data" / "soak.json"
    known = json.loads(path.read_text(encoding="utf-8"))["services"] if path.exists() else {}
    for target in targets:
        before, after = target.growth(seconds)
        if not before:  # nie gestartet oder nicht zu messen; beides meldet der Lauf
            continue
        known[target.name] = {
            "seconds": round(seconds),
            "sent": target.counts["gesendet"],
            "server_errors": target.counts["5xx"],
            "memory_mb": round(before),
            "growth_percent": round(100 * (after / before - 1), 1),
            "left": target.counts["übrig"],
            "wrong": target.counts["falsch"],
        }
    figures.write("soak", {"services": {name: known[name] for name in SERVICES if name in known}})


def main() -> int:
    """Alle Varianten in höchstens drei Gruppen; 1, wenn an einer etwas falsch war."""
    given_seconds = os.environ.get("SOAK_SECONDS", f"{FULL_SECONDS}")
    try:
        seconds = float(given_seconds)
    except ValueError:
        seconds = math.nan
    if not 1 <= seconds < math.inf:
        sys.exit(f"SOAK_SECONDS muss eine Zahl ab 1 sein, nicht {given_seconds!r}.")
    if unknown := set(sys.argv[1:]) - set(SERVICES):
        sys.exit(f"Kein Dienst: {', '.join(sorted(unknown))}")
    groups = [sys.argv[1:]] if sys.argv[1:] else [[*SERVICES][i::GROUPS] for i in range(GROUPS)]
    done, skipped = [], {}
    for names in groups:
        targets, absent = soak({name: SERVICES[name] for name in names}, seconds)
        done, skipped = done + targets, skipped | absent
        print(report(targets, seconds), flush=True)
        if seconds >= FULL_SECONDS:
            publish(targets, seconds)
    if done:
        print(f"\nGesamt, {seconds:.0f} s je Gruppe\n{report(done, seconds)}")
    for name, reason in skipped.items():
        print(f"Übersprungen: {name}: {reason}")
    return int(not done or any(target.counts["falsch"] for target in done))


if __name__ == "__main__":
    sys.exit(main())
