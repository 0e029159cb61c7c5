"""process.py startet wirklich, meldet Fehler auf Deutsch und hinterlässt nichts."""

import contextlib
import io
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

import httpx
import psutil
import pytest
from PIL import Image

import process
from contract import free_port
from examples.price_model.schema import EXAMPLE
from needs import skip_or_fail

URL = "http://127.0.0.1:{port}/"
FILES = ["python", "-m", "http.server", "--bind", "127.0.0.1"]


@pytest.fixture
def port() -> int:
    return free_port()


def listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_until_free(port: int) -> bool:
    deadline = time.monotonic() + 15
    while listening(port) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not listening(port)


def test_service_answers_and_stops_with_port_free(port, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    env = {"TMPDIR": str(tmp_path)}
    service = process.serve([*FILES, port], URL.format(port=port), env=env)
    with urllib.request.urlopen(URL.format(port=port), timeout=5) as response:
        assert response.status == 200
    service.stop()
    service.stop()
    assert not listening(port)
    assert '"GET / HTTP/1.1" 200' in service.log() and "Traceback" not in service.log(50)
    assert not list(tmp_path.iterdir()), "Dienst oder Wächter ließen etwas liegen"


def test_process_that_dies_at_once_shows_its_last_words(port):
    command = ["python", "-c", "raise SystemExit('kein Modell da')"]
    with pytest.raises(process.ProcessError, match=r"endete beim Start(?s:.)*kein Modell da"):
        process.serve(command, URL.format(port=port))


def test_process_that_never_gets_ready_is_stopped(port):
    command = ["python", "-c", f"import time; print('warte', {port}); time.sleep(99)"]
    with pytest.raises(process.ProcessError, match=r"nach 3 s nicht bereit(?s:.)*warte"):
        process.serve(command, URL.format(port=port), timeout=3)
    assert not [p for p in psutil.process_iter(["cmdline"]) if f"'warte', {port}" in str(p.info)]


def test_service_with_workers_is_ready_when_each_of_them_is(port):
    command = ["uvicorn", "examples.fastapi_service.app:app", "--port", port, "--workers", "3"]
    url = f"http://127.0.0.1:{port}"
    service = process.serve(command, f"{url}/health/ready", timeout=90, workers=3)
    answers = [httpx.post(f"{url}/predict", json=EXAMPLE).status_code for _ in range(60)]
    service.stop()
    assert answers == [200] * 60


def test_worker_that_never_gets_ready_is_counted(port):
    with pytest.raises(process.ProcessError, match="nach 3 s mit [01] von 2 Workern bereit"):
        process.serve([*FILES, port], URL.format(port=port), timeout=3, workers=2)


def test_process_that_ignores_sigterm_is_killed(port):
    code = (
        "import signal, http.server; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        f"http.server.HTTPServer(('127.0.0.1', {port}), "
        "http.server.SimpleHTTPRequestHandler).serve_forever()"
    )
    service = process.serve(["python", "-c", code], URL.format(port=port))
    service.stop()
    assert not listening(port)


def test_occupied_port_is_named(port):
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        with pytest.raises(process.ProcessError, match=f"Port {port} ist belegt"):
            process.serve([*FILES, port], URL.format(port=port))


def test_missing_program_is_named(port):
    with pytest.raises(process.ProcessError, match="gibt-es-nicht ist nicht installiert"):
        process.serve(["gibt-es-nicht"], URL.format(port=port))


@pytest.mark.skipif(os.name == "nt", reason="Prozessgruppen gibt es nur auf POSIX")
def test_service_and_its_children_die_with_a_killed_kernel(port, tmp_path):
    """Der Dienst startet ein eigenes Kind; der „Kernel“ stirbt samt Prozessgruppe an SIGKILL."""
    server = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port)]
    launcher = f"import subprocess; subprocess.run({server!r})"
    kernel = (
        "import sys, time; sys.path.insert(0, 'notebooks'); import process;"
        f"process.serve(['python', '-c', {launcher!r}], {URL.format(port=port)!r});"
        "print('bereit', flush=True); time.sleep(99)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", kernel],
        cwd=process.ROOT,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as parent:
        assert parent.stdout.readline().strip() == b"bereit"
        assert listening(port) and list(tmp_path.iterdir())
        os.killpg(parent.pid, signal.SIGKILL)
    assert wait_until_free(port)
    deadline = time.monotonic() + 15
    while list(tmp_path.iterdir()):
        assert time.monotonic() < deadline, "Das Log des Dienstes blieb liegen"
        time.sleep(0.1)


def wait_until_used(port: int) -> None:
    deadline = time.monotonic() + 15
    while not listening(port):
        assert time.monotonic() < deadline, "Der Befehl lief nicht an"
        time.sleep(0.1)


# Ein Befehl, der auf dem Port lauscht, nach einem Abbruch aufräumt und dann noch ein Kind hat.
TIDYING = """
import pathlib, subprocess, sys
server = subprocess.Popen([sys.executable, "-c", sys.argv[2]])
try:
    server.wait()
finally:
    pathlib.Path(sys.argv[1]).write_text("aufgeräumt")
"""
# Dieses Kind überhört den Abbruch.
STUBBORN = """
import http.server, signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
http.server.HTTPServer(("127.0.0.1", {port}), http.server.BaseHTTPRequestHandler).serve_forever()
"""


def calling(command: list[str], timeout: float) -> str:
    """Ein „Kernel“ ruft einen Befehl auf; `SIGINT` wirkt dort immer, hier vielleicht nicht."""
    return (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "sys.path.insert(0, 'notebooks'); import process;"
        "process.COMMAND_GUARD = process.COMMAND_GUARD.replace('range(200)', 'range(30)');"
        f"process.output({command!r}, timeout={timeout})"
    )


@pytest.mark.skipif(os.name == "nt", reason="Prozessgruppen gibt es nur auf POSIX")
def test_command_tidies_up_and_dies_with_a_killed_kernel(port, tmp_path):
    command = ["python", "-c", TIDYING, str(tmp_path / "trace"), STUBBORN.format(port=port)]
    with subprocess.Popen(
        [sys.executable, "-c", calling(command, 99)], cwd=process.ROOT, start_new_session=True
    ) as parent:
        wait_until_used(port)
        os.killpg(parent.pid, signal.SIGKILL)
    assert wait_until_free(port)
    assert (tmp_path / "trace").read_text() == "aufgeräumt"


@pytest.mark.skipif(os.name == "nt", reason="Prozessgruppen gibt es nur auf POSIX")
def test_command_that_takes_too_long_tidies_up_and_leaves_no_child(port, tmp_path):
    command = ["python", "-c", TIDYING, str(tmp_path / "trace"), STUBBORN.format(port=port)]
    done = subprocess.run(
        [sys.executable, "-c", calling(command, 8)],
        cwd=process.ROOT,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    assert "TimeoutExpired" in done.stderr
    assert not listening(port)
    assert (tmp_path / "trace").read_text() == "aufgeräumt"


@pytest.mark.skipif(os.name == "nt", reason="Prozessgruppen gibt es nur auf POSIX")
def test_children_that_outlive_their_parent_are_ended(port):
    code = "import subprocess, sys; child = [sys.executable, '-c', 'import time; time.sleep(99)'];"
    code += "print('Kind', subprocess.Popen(child).pid)"
    with pytest.raises(process.ProcessError, match="endete beim Start") as error:
        process.serve(["python", "-c", code], URL.format(port=port))
    child = int(re.search(r"Kind (\d+)", str(error.value))[1])
    deadline = time.monotonic() + 15
    with contextlib.suppress(psutil.NoSuchProcess):
        while psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline, "Das Kind läuft weiter"
            time.sleep(0.1)


def test_run_shows_stdout_and_fails_with_stderr(capsys):
    process.run(["python", "-c", "print('Grüße')"])
    assert capsys.readouterr().out == "Grüße\n"
    with pytest.raises(process.ProcessError, match=r"endete mit 3(?s:.)*schade"):
        process.run(["python", "-c", "import sys; print('schade', file=sys.stderr); sys.exit(3)"])


def test_show_fences_a_file_or_one_definition():
    whole = process.show("examples/price_model/schema.py").data
    part = process.show("examples/price_model/schema.py", "parse").data
    assert whole.startswith("```python\n") and whole.endswith("\n```")
    assert part.startswith("```python\ndef parse(")
    assert part.removeprefix("```python\n").removesuffix("\n```") in whole
    for name in ("gibt_es_nicht", "Stone.gibt_es_nicht", "parse.gibt_es_nicht"):
        with pytest.raises(LookupError, match=f"kein {name}"):
            process.show("examples/price_model/schema.py", name)


def test_show_finds_an_assignment_with_and_without_a_type(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "ROOT", tmp_path)
    (tmp_path / "limits.py").write_text("SMALL = 1\nLARGE: int = 2\nunset: int\n")
    for line in ("SMALL = 1", "LARGE: int = 2", "unset: int"):
        assert (
            process.show("limits.py", re.split("[ :]", line)[0]).data == f"```python\n{line}\n```"
        )


def test_show_takes_a_method_out_of_its_class():
    part = process.show("examples/model_registry/registry.py", "Registry.register").data
    assert part.startswith("```python\ndef register(self, ")
    assert "\n    with tempfile" in part and "def approve" not in part


def test_screenshot_without_browser_names_the_address(monkeypatch):
    monkeypatch.setattr(process, "BROWSERS", ())
    assert "http://127.0.0.1:1/" in process.screenshot("http://127.0.0.1:1/", "Eine Seite").data


def test_browser_without_a_picture_names_the_address_but_not_in_ci(monkeypatch):
    monkeypatch.setattr(process, "BROWSERS", ("false",))
    monkeypatch.delenv("CI", raising=False)
    assert "http://127.0.0.1:1" in process.screenshot("http://127.0.0.1:1", "Nichts").data
    monkeypatch.setenv("CI", "true")
    with pytest.raises(process.ProcessError, match="kein Bild"):
        process.screenshot("http://127.0.0.1:1", "Nichts")


def test_screenshot_shows_the_page(port, tmp_path):
    if not any(map(shutil.which, process.BROWSERS)):
        skip_or_fail("Chromium fehlt. Abhilfe: sudo apt install chromium")
    page = '<body style="margin: 0; background: #0b6e75">'
    (tmp_path / "index.html").write_text(page, encoding="utf-8")
    url = URL.format(port=port)
    service = process.serve([*FILES, "--directory", tmp_path, port], url)
    shown = process.screenshot(url, "Farbe", 200, 100)
    service.stop()
    with Image.open(io.BytesIO(shown.data)) as picture:
        assert picture.convert("RGB").getpixel((100, 50)) == (11, 110, 117)
    assert shown.alt == "Farbe"


def test_interrupted_start_leaves_no_service(port, monkeypatch):
    def interrupt(_):
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        process.serve([sys.executable, "-c", "import time; time.sleep(60)"], URL.format(port=port))
    assert not [p for p in psutil.Process().children(recursive=True) if p.is_running()]


def test_missing_environment_is_named_with_its_remedy():
    with pytest.raises(process.ProcessError, match=r"tools/setup\.py gibt_es_nicht"):
        process.output(["python:gibt_es_nicht", "-c", "pass"])


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"no_proxy": "schule.example"}, "schule.example,127.0.0.1,localhost"),
        ({"NO_PROXY": "schule.example"}, "schule.example,127.0.0.1,localhost"),
        ({"no_proxy": "*"}, "*"),
    ],
)
def test_configured_proxy_keeps_nobody_from_a_local_service(port, given, kept):
    # Ein eigener Prozess: process.py ändert die Umgebung beim Import, und hier ist es importiert.
    code = (
        "import sys, urllib.request; sys.path.insert(0, 'notebooks'); import process;"
        f"process.serve({[*FILES, port]!r}, {URL.format(port=port)!r}).stop();"
        "print(urllib.request.getproxies()['no'])"
    )
    dead = dict.fromkeys(("http_proxy", "HTTP_PROXY"), "http://127.0.0.1:9")
    env = dead | {"no_proxy": "", "NO_PROXY": ""} | given
    assert process.output(["python", "-c", code], env=env) == f"{kept}\n"
