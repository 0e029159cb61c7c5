"""Das Gemeinsame der Nachbildungen: klare Absagen, und nichts bleibt übrig."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

import process
from contract import free_port
from examples.local_cloud.service import Child, Refusal, Request

TOY = """
import os, sys
from examples.local_cloud.service import App, Refusal, Response, route, run

class Toy(App):
    def authorize(self, request):
        if request.headers.get("authorization") == "falsch":
            raise Refusal(401, "Der Schlüssel ist ungültig.")

    @route("POST", "/echo/{name}")
    def echo(self, request):
        return {"name": request.args["name"], "body": request.json(), "query": request.query}

    @route("GET", "/files/{rest:path}")
    def file(self, request):
        return Response(request.args["rest"].encode(), media_type="text/plain")

    @route("POST", "/crash")
    def crash(self, request):
        raise RuntimeError("geheim")

    @route("POST", "/child")
    def child(self, request):
        code = "import subprocess, sys, time; print('läuft', flush=True);"
        code += "subprocess.run([sys.executable, '-c', 'import time; time.sleep(600)'])"
        child = self.start([sys.executable, "-c", code], dict(os.environ))
        return {"folder": str(self.folder), "guard": child._guard.pid}

    @route("POST", "/short")
    def short(self, request):
        child = self.start([sys.executable, "-c", "print('kaputt'); raise SystemExit(3)"], {})
        ready = child.answers("http://127.0.0.1:9", timeout=30)
        return {"ready": ready, "code": child.exit_code, "log": child.log()}

run(Toy)
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("toy") / "toy.py"
    path.write_text(TOY, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def toy(script) -> Iterator[tuple]:
    """Eine kleine Plattform für alle, die sie nicht beenden."""
    with running(script) as pair:
        yield pair


@pytest.fixture
def own_toy(script) -> Iterator[tuple]:
    """Eine Plattform für einen Test, der sie beendet oder ihr ganzes Protokoll liest."""
    with running(script) as pair:
        yield pair


@contextmanager
def running(script: Path) -> Iterator[tuple[subprocess.Popen, httpx.Client]]:
    """Eine kleine Plattform als Prozess; gibt (Prozess, Client) zurück."""
    port = free_port()
    env = os.environ | {"PYTHONPATH": str(process.ROOT), "PYTHONUTF8": "1", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        [sys.executable, script, "--port", str(port)],
        env=env,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    ) as service:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            wait_until(lambda: answers(client))
            yield service, client
        service.terminate()


def answers(client: httpx.Client) -> bool:
    try:
        return client.get("/health/ready").status_code == 200
    except httpx.TransportError:
        return False


def wait_until(condition, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_route_gets_the_parts_of_the_address(toy):
    _, client = toy
    answer = client.post("/echo/a%20b?x=1&leer=", json={"y": 2})
    assert answer.json() == {"name": "a b", "body": {"y": 2}, "query": {"x": "1", "leer": ""}}
    assert client.get("/files/a/b.txt").text == "a/b.txt"
    half = client.post("/echo/a", content=rb'{"y": "\ud800"}')
    assert half.json()["body"] == {"y": "\ud800"}


def test_lines_of_calls_at_the_same_time_stay_whole(own_toy):
    service, client = own_toy
    paths = [f"/files/{number}" for number in range(1000)]
    with ThreadPoolExecutor(16) as together:
        assert all(answer.is_success for answer in together.map(client.get, paths))
    service.terminate()
    lines = [line for line in service.stdout.read().splitlines() if "/health/" not in line]
    assert sorted(lines) == sorted(f"GET {path} 200" for path in paths)


def test_chunked_body_is_read(toy):
    _, client = toy
    answer = client.post("/echo/a", content=(part for part in [b'{"y"', b": 2}"]))
    assert answer.json()["body"] == {"y": 2}


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_unknown_call_is_refused_by_name(toy, method):
    _, client = toy
    answer = client.request(method, "/echo/a")
    assert answer.status_code == 501
    assert answer.json() == {"error": f"Nicht nachgebildet: {method} /echo/a"}


@pytest.mark.parametrize("body", ["", "kein JSON", "[1]", b"\xff"])
def test_bad_body_is_refused(toy, body):
    _, client = toy
    answer = client.post("/echo/a", content=body)
    assert answer.status_code == 400 and "JSON" in answer.json()["error"]


def test_body_nested_too_deeply_is_refused():
    with pytest.raises(Refusal, match="kein gültiges JSON"):
        Request("POST", "/", {}, {}, b"[" * 100_000).json()


def test_wrong_key_is_refused(toy):
    _, client = toy
    answer = client.post("/echo/a", json={}, headers={"Authorization": "falsch"})
    assert answer.status_code == 401


def test_too_large_body_is_refused(toy):
    _, client = toy
    with socket.create_connection((client.base_url.host, client.base_url.port), 30) as line:
        line.sendall(b"POST /echo/a HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n")
        assert line.recv(100).startswith(b"HTTP/1.1 413 ")


def test_chunks_are_too_large_together(toy):
    _, client = toy
    with socket.create_connection((client.base_url.host, client.base_url.port), 30) as line:
        line.sendall(b"POST /echo/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        # Jedes Stück für sich wäre klein genug.
        line.sendall(b"1\r\n \r\n5f5e100\r\n")
        assert line.recv(100).startswith(b"HTTP/1.1 413 ")


def test_refused_body_is_not_read_as_the_next_call(toy):
    _, client = toy
    with socket.create_connection((client.base_url.host, client.base_url.port), 30) as line:
        head = b"POST /echo/a HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n"
        line.sendall(head + b"GET /files/geheim HTTP/1.1\r\nHost: x\r\n\r\n")
        said = b""
        while part := line.recv(1000):
            said += part
    assert said.startswith(b"HTTP/1.1 413 ") and b"geheim" not in said
    assert b"\r\nConnection: close\r\n" in said


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: viel\r\n\r\n",
        b"Content-Length: -1\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_unreadable_length_is_refused(toy, head):
    _, client = toy
    with socket.create_connection((client.base_url.host, client.base_url.port), 30) as line:
        line.sendall(b"POST /echo/a HTTP/1.1\r\nHost: x\r\n" + head)
        assert line.recv(100).startswith(b"HTTP/1.1 400 ")


def test_crash_is_answered_without_its_cause(toy):
    _, client = toy
    answer = client.post("/crash")
    assert answer.status_code == 500 and "geheim" not in answer.text


def test_child_that_ends_is_not_waited_for(toy):
    _, client = toy
    assert client.post("/short").json() == {"ready": False, "code": 3, "log": "kaputt\n"}


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.skipif(sys.platform == "win32", reason="Signale")
def test_children_die_with_the_service(own_toy, how):
    service, client = own_toy
    answers = [client.post("/child").json() for _ in range(2)]
    guards = [psutil.Process(answer["guard"]) for answer in answers]
    wait_until(lambda: all(len(guard.children(recursive=True)) == 2 for guard in guards))
    family = [process for guard in guards for process in guard.children(recursive=True)]
    service.send_signal(how)
    service.wait(30)
    gone, alive = psutil.wait_procs([*guards, *family], timeout=30)
    assert not alive and len(gone) == 6
    if how == signal.SIGTERM:
        assert service.returncode == 0
        assert not Path(answers[0]["folder"]).exists()


def test_calls_are_logged_without_their_parameters(own_toy):
    service, client = own_toy
    client.post("/echo/a?schluessel=geheim", json={})
    client.get("/x%0aPOST%20/predict%20200%0d%1b[2J%e2%80%a8")
    service.terminate()
    logged = service.stdout.read()
    assert "POST /echo/a 200" in logged and "geheim" not in logged
    assert logged.splitlines()[-1] == "GET /x?POST /predict 200??[2J? 501"


def test_log_outlives_a_stopped_process(tmp_path):
    code = "import time; print('läuft', flush=True); time.sleep(99)"
    env = os.environ | {"PYTHONUTF8": "1"}
    child = Child([sys.executable, "-c", code], env, tmp_path, tmp_path)
    deadline = time.monotonic() + 30
    while "läuft" not in child.log():
        assert time.monotonic() < deadline
    child.stop()
    child.stop()
    assert "läuft" in child.log()


def test_body_that_breaks_off_is_refused(toy):
    _, client = toy
    with socket.create_connection((client.base_url.host, client.base_url.port), 30) as line:
        line.sendall(b"POST /echo/a HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n")
        line.sendall(b'{"y": 2}')
        line.shutdown(socket.SHUT_WR)
        assert line.recv(100).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("port", ["belegt", "99999", "zwei"])
def test_bad_port_is_a_sentence_and_an_exit_code(script, port):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1]) if port == "belegt" else port
        done = subprocess.run(
            [sys.executable, script, "--port", port],
            env=os.environ | {"PYTHONPATH": str(process.ROOT), "PYTHONUTF8": "1"},
            capture_output=True,
            encoding="utf-8",
            timeout=60,
        )
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert port in done.stderr


def test_service_listens_on_loopback_only(toy):
    service, _ = toy
    listening = [c for c in psutil.Process(service.pid).net_connections() if c.status == "LISTEN"]
    assert [c.laddr.ip for c in listening] == ["127.0.0.1"]
