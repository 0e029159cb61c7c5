"""Der Klassenserver: Personen stören einander nicht, und danach bleibt nichts übrig."""

import asyncio
import contextlib
import importlib
import json
import os
import secrets
import socket
import subprocess
from collections.abc import Coroutine, Iterator
from pathlib import Path
from unittest import mock

import docker
import httpx
import nbformat
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_notebook
from nbformat.v4 import new_output as output
from tornado.httpclient import HTTPClientError
from tornado.websocket import WebSocketClosedError
from traitlets.config import Config

import needs
import process
from examples.classroom_hub import build, remove, simulate
from notebook_files import files_named

HUB = process.ROOT / "examples" / "classroom_hub"
ENVIRONMENT = process.ROOT / ".environments" / "classroom_hub"
PROXY = ENVIRONMENT / "node_modules" / ".bin" / "configurable-http-proxy"
NAME = "classroom-test"  # neben einer echten Klasse auf demselben Rechner
# Ein Dienst auf einem festen Port, der sagt, wessen er ist.
SERVICE = """
import http.server, threading
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"{name}")
    def log_message(self, *ignored): pass
server = http.server.HTTPServer(("127.0.0.1", 8103), Answer)
threading.Thread(target=server.serve_forever, daemon=True).start()
"""
ASK = "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8103').read().decode()"


def together(*tasks: Coroutine) -> list:
    """Führt alles gleichzeitig aus, wie in einer Klasse."""

    async def all_of_them() -> list:
        return await asyncio.gather(*tasks)

    return LOOP.run_until_complete(all_of_them())


# Eine Schleife für alle Tests: Die Verbindungen zu den Kernels hängen an ihr.
LOOP = asyncio.new_event_loop()


@pytest.fixture(scope="module")
def variables(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("hub")
    (folder / "people").write_text("lehre\nanna\nbela\n", encoding="utf-8")
    return {
        "CLASSROOM_NAME": NAME,
        "CLASSROOM_USERS": str(folder / "people"),
        "CLASSROOM_KEY": secrets.token_hex(16),
        "CLASSROOM_STATE": str(folder / "state"),
    }


def passwords(variables: dict[str, str]) -> subprocess.CompletedProcess:
    if not (ENVIRONMENT / ".ready").exists():
        needs.skip_or_fail("Die Umgebung classroom_hub fehlt. Abhilfe: make test richtet sie ein")
    return subprocess.run(
        [ENVIRONMENT / "bin" / "python", "-m", "examples.classroom_hub.passwords"],
        cwd=process.ROOT,
        env=os.environ | variables,
        capture_output=True,
        encoding="utf-8",
    )


@pytest.fixture(scope="module")
def hub(needs_docker, variables) -> Iterator[dict[str, str]]:
    """Der laufende Hub; gibt die Kennwörter zurück, auch für zwei Fremde."""
    everybody = Path(variables["CLASSROOM_USERS"]).with_name("everybody")
    everybody.write_text("lehre\nanna\nbela\nfremd\ncem\n", encoding="utf-8")
    lines = passwords(variables | {"CLASSROOM_USERS": str(everybody)}).stdout.split()
    if not PROXY.exists():
        needs.skip_or_fail("configurable-http-proxy fehlt. Abhilfe: sudo apt install npm")
    build.build()
    remove.remove(NAME, files=True)
    try:
        command = ["python:classroom_hub", "-m", "jupyterhub", "-f", f"{HUB}/jupyterhub_config.py"]
        service = process.serve(command, f"{simulate.HUB}/hub/health", 120, env=variables)
        try:
            yield dict(line.split(",") for line in lines)
        finally:
            service.stop()
    finally:
        remove.remove(NAME, files=True)


@pytest.fixture(scope="module")
def two(hub) -> Iterator[list[simulate.Person]]:
    """Zwei Personen, angemeldet und mit offenem Notebook."""
    people = [simulate.Person(name, hub[name]) for name in ("anna", "bela")]

    async def arrive(person: simulate.Person) -> None:
        await person.log_in()
        await person.start_server()
        await person.open_notebook("flask_service")

    try:
        together(*map(arrive, people))
        yield people
    finally:
        together(*(person.leave() for person in people))


def said(outputs: list[dict]) -> str:
    return simulate.texts(outputs).get("result", "") or str(simulate.texts(outputs))


async def refused(person: simulate.Person) -> None:
    try:
        with pytest.raises(simulate.PersonError, match=r"Anmeldung abgewiesen \(403\)"):
            await person.log_in()
    finally:
        await person.leave()


def test_image_holds_every_package_its_chapters_import(hub):
    code = r"""
import importlib, json, pathlib, re
names = {".".join(path.with_suffix("").parts) for path in pathlib.Path("examples").glob("*/*.py")}
for path in pathlib.Path("notebooks").glob("*.ipynb"):
    cells = json.loads(path.read_text())["cells"]
    cells = [cell for cell in cells if "raises-exception" not in cell["metadata"].get("tags", ())]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    names |= set(re.findall(r"^(?:import|from) ([\w.]+)", chr(10).join(sources), re.MULTILINE))
for name in sorted(names):
    importlib.import_module(name)
print(len(names))
"""
    command = ["docker", "run", "--rm", "--network", "none", "--workdir", "/opt/course"]
    command += ["--env", f"PRICE_API_KEY={secrets.token_urlsafe(24)}"]
    command += ["--env", "PYTHONPATH=/opt/course:/opt/course/notebooks", "--entrypoint", "python"]
    assert int(process.output([*command, build.TAG, "-c", code])) > 30


def test_image_holds_no_solution(hub):
    code = r"""
import json, pathlib
for path in sorted(pathlib.Path("notebooks").glob("*.ipynb")):
    cells = json.loads(path.read_text())["cells"]
    tags = {tag for cell in cells for tag in cell["metadata"].get("tags", ())}
    print(path.stem, "exercise" in tags, "solution" in tags)
"""
    command = ["docker", "run", "--rm", "--network", "none", "--workdir", "/opt/course"]
    lines = process.output([*command, "--entrypoint", "python", build.TAG, "-c", code])
    chapters = ("fastapi_service", "flask_service", "joblib_model")
    assert lines.splitlines() == [f"{chapter} True False" for chapter in chapters]


def test_image_holds_every_file_its_chapters_read(hub):
    allowed = (HUB / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    chapters = [process.ROOT / line[1:] for line in allowed if line.endswith(".ipynb")]
    named = sorted({name for path in chapters for name in files_named(path)})
    command = ["docker", "run", "--rm", "--network", "none", "--workdir", "/opt/course"]
    command += ["--entrypoint", "python", build.TAG]
    code = "import os, sys; print(*(name for name in sys.argv[1:] if not os.path.exists(name)))"
    assert named and process.output([*command, "-c", code, *named]).strip() == ""


def test_wrong_password_is_refused(hub):
    together(refused(simulate.Person("anna", hub["bela"])))


def test_who_is_not_on_the_list_is_refused(hub):
    together(refused(simulate.Person("fremd", hub["fremd"])))


def test_first_name_sees_the_others_and_only_the_list_lets_in(hub):
    async def visit() -> None:
        teacher, student = (simulate.Person(name, hub[name]) for name in ("lehre", "anna"))
        try:
            await teacher.log_in()
            await student.log_in()
            assert (await teacher.client.get("/hub/api/users")).status_code == 200
            assert (await student.client.get("/hub/api/users")).status_code == 403
            # Auch wer in der Datenbank steht, aber nicht auf der Liste, kommt nicht hinein.
            assert (await teacher.client.post("/hub/api/users/cem")).status_code == 201
        finally:
            await teacher.leave()
            await student.leave()

    together(visit())
    together(refused(simulate.Person("cem", hub["cem"])))


def test_same_port_for_everybody(two):
    together(*(person.execute(SERVICE.replace("{name}", person.name)) for person in two))
    answers = together(*(person.execute(ASK) for person in two))
    assert [said(answer) for answer in answers] == ["'anna'", "'bela'"]
    with socket.socket() as probe:  # und auf dem Rechner selbst ist der Port frei
        assert probe.connect_ex(("127.0.0.1", 8103)) != 0


def test_chapter_starts_and_ends_its_services(two):
    code = "import process\nurl = 'http://127.0.0.1:8109'\n"
    code += "command = ['python', '-m', 'http.server', '8109', '--bind', '127.0.0.1']\n"
    code += "process.serve(command, url).stop()"
    (outputs,) = together(two[0].execute(code))
    assert outputs == []


def test_files_of_others_are_out_of_sight(two):
    anna, bela = two
    write = "from pathlib import Path; Path('geheim.txt').write_text('meins')"
    together(anna.execute(write))
    (outputs,) = together(bela.execute("import os; sorted(os.listdir('/home'))"))
    assert said(outputs) == "['student']"
    (outputs,) = together(bela.execute("import os; 'geheim.txt' in os.listdir()"))
    assert said(outputs) == "False"

    async def read(reader: simulate.Person, owner: simulate.Person) -> int:
        address = f"/user/{owner.name}/api/contents/geheim.txt"
        return (await reader.client.get(address)).status_code

    assert together(read(anna, anna), read(bela, anna)) == [200, 403]


def test_course_is_read_only_and_own_copy_is_not(two):
    # Der Kurs gehört root, und selbst wo jeder schreiben dürfte, ist das Image schreibgeschützt.
    for path, reason in (
        ("/opt/course/notebooks/process.py", "Permission denied"),
        ("/var/tmp/x", "Read-only file system"),
    ):
        (outputs,) = together(two[0].execute(f"open('{path}', 'a')"))
        assert reason in said(outputs)
    (outputs,) = together(two[0].execute("open('process.py', 'a').writable()"))
    assert said(outputs) == "True"


def test_containers_reach_neither_each_other_nor_the_internet(two):
    address = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{.Gateway}}{{end}}"
    command = ["docker", "inspect", "--format", address, f"{NAME}-bela"]
    other, host = process.output(command).split()
    places = [(other, 8888), ("192.0.2.1", 80), (host, 8261)]
    # Kurze Frist: Verworfene Pakete beantwortet niemand.
    source = "import socket\nsocket.setdefaulttimeout(2)\n"
    source += f"[socket.socket().connect_ex(place) for place in {places}]"
    (outputs,) = together(two[0].execute(source))
    neighbour, internet, hub = json.loads(said(outputs))
    # 0 heißt verbunden, 111 abgelehnt: Auch dann kam das Paket an.
    assert {neighbour, internet}.isdisjoint({0, 111}) and hub == 0


def test_hungry_kernel_dies_and_the_other_goes_on(two):
    anna, bela = two

    async def eat() -> str:
        with pytest.raises(simulate.PersonError) as failed:
            await anna.execute("bytearray(2_000_000_000)\nimport time; time.sleep(60)")
        return str(failed.value)

    reason, outputs = together(eat(), bela.execute("import time; time.sleep(3); 6 * 7"))
    assert reason == "Der Kernel starb: mehr Speicher verlangt als erlaubt?"
    assert said(outputs) == "42"
    # Der Container lebt noch, und derselbe Kernel ist neu gestartet wieder da. Was er sagt, bevor
    # ihn wieder jemand hört, geht verloren: Gefragt wird, bis eine Antwort ankommt.
    for _ in range(10):
        with contextlib.suppress(TimeoutError):
            (outputs,) = together(asyncio.wait_for(anna.execute("6 * 8"), 6))
            break
    assert said(outputs) == "48"


def test_nothing_is_left_but_the_files(two):
    together(*(person.leave() for person in two))
    for person in two:
        person.token, person.socket = "", None  # gegangen ist gegangen
    found = remove.left(NAME)
    assert found["container"] == []
    assert found["volume"] == [f"{NAME}-anna", f"{NAME}-bela"]
    remove.remove(NAME, files=True)
    assert set(map(len, remove.left(NAME).values())) == {0}


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("CLASSROOM_KEY", "kurz", "CLASSROOM_KEY fehlt oder hat weniger als 32 Zeichen."),
        ("CLASSROOM_USERS", "fehlt", "CLASSROOM_USERS muss eine Datei nennen"),
    ],
)
def test_bad_settings_are_named(variables, variable, value, message):
    done = passwords(variables | {variable: value})
    assert done.returncode == 1 and message in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("names", ["anna anna", "Anna", "anna-lena", ""])
def test_bad_class_list_is_named(variables, tmp_path, names):
    path = tmp_path / "people.txt"
    path.write_text(names, encoding="utf-8")
    done = passwords(variables | {"CLASSROOM_USERS": str(path)})
    assert done.returncode == 1 and done.stderr.startswith("people.txt")


def test_class_list_may_come_from_windows(variables, tmp_path):
    path = tmp_path / "people.txt"
    path.write_bytes(b"\xef\xbb\xbfanna\r\nbela\r\n")
    done = passwords(variables | {"CLASSROOM_USERS": str(path)})
    assert [line.partition(",")[0] for line in done.stdout.split()] == ["anna", "bela"]


def test_class_list_in_another_encoding_is_named(variables, tmp_path):
    path = tmp_path / "people.txt"
    path.write_bytes("jürgen\n".encode("latin-1"))
    done = passwords(variables | {"CLASSROOM_USERS": str(path)})
    assert done.returncode == 1 and done.stderr.startswith("people.txt ist kein Text in UTF-8.")


def test_summary_counts_what_failed():
    rows = [
        {
            "name": "a",
            "failure": None,
            "ready_seconds": 2.0,
            "chapter_seconds": 9.0,
            "memory_mb": 5,
        },
        {"name": "b", "failure": "Kein Server", "memory_mb": 7},
    ]
    found = simulate.summary({"people": rows, "total_seconds": 3, "memory_together_mb": 12})
    assert found == {
        "users": 2,
        "ready_seconds": {"median": 2.0, "worst": 2.0},
        "chapter_seconds": {"median": 9.0, "worst": 9.0},
        "memory_mb": {"median": 6.0, "worst": 7},
        "total_seconds": 3,
        "memory_together_mb": 12,
        "failed": 1,
        "failures": {"Kein Server": 1},
    }


def kubernetes(name: str) -> dict:
    return yaml.safe_load((HUB / "kubernetes" / name).read_text(encoding="utf-8"))


def test_values_fit_the_schema_and_a_typo_does_not():
    check = importlib.import_module("jsonschema").Draft7Validator(kubernetes("schema.yaml"))
    values = kubernetes("values.yaml")
    assert list(check.iter_errors(values)) == []
    values["singleuser"]["memory"]["limits"] = values["singleuser"]["memory"].pop("limit")
    values["cull"]["timeout"] = "eine Stunde"
    assert len(list(check.iter_errors(values))) == 2


def test_cluster_and_server_have_the_same_limits():
    text = (HUB / "jupyterhub_config.py").read_text(encoding="utf-8")
    user = kubernetes("values.yaml")["singleuser"]
    assert f'mem_limit = "{user["memory"]["limit"]}"' in text
    assert f"cpu_limit = {user['cpu']['limit']}" in text
    for name, value in user["extraEnv"].items():
        assert f'"{name}": "{value}"' in text


FOUND = {
    "ps": ["classroom-anna", "classroom-abend-anna", "price-api-1"],
    "volume": ["classroom-anna", "classroom-abend-anna", "classroom-abend-b1"],
    "network": ["classroom"],
}


@pytest.mark.parametrize("files", [False, True])
def test_only_this_class_is_removed_and_files_only_on_request(monkeypatch, files):
    called = []

    def docker(kind: str, *words: str) -> list[str]:
        called.append([kind, *words])
        return FOUND.get(kind, [])

    monkeypatch.setattr(remove, "docker", docker)
    gone = remove.remove("classroom", files)
    wanted = ["classroom-anna"] if files else []
    assert gone == {"container": ["classroom-anna"], "network": ["classroom"], "volume": wanted}
    removed = [words for words in called if words[1] == "rm"]
    assert ["container", "rm", "--force", "classroom-anna"] in removed
    assert [words[2:] for words in removed if words[0] == "volume"] == ([wanted] if files else [])


@pytest.mark.parametrize(
    ("answer", "used"),
    [
        (httpx.Response(200, json={"memory_stats": {"usage": 3e6, "stats": {}}}), 3),
        (httpx.Response(200, content=b""), 0),
        (httpx.Response(404, json={"message": "No such container"}), 0),
    ],
    ids=["running", "vanishing", "gone"],
)
def test_container_that_is_not_there_uses_nothing(answer, used):
    transport = httpx.MockTransport(lambda _: answer)
    client = httpx.AsyncClient(base_url="http://docker", transport=transport)
    assert together(simulate.memory(client, "x")) == [used]


@pytest.mark.parametrize(
    "problem", [httpx.ConnectError("weg"), KeyError("servers"), WebSocketClosedError()]
)
@pytest.mark.parametrize("before", [None, simulate.PersonError("Kein Server")])
def test_results_survive_a_failed_goodbye(tmp_path, monkeypatch, problem, before):
    nbformat.write(nbformat.v4.new_notebook(), tmp_path / "leer.ipynb")
    monkeypatch.setattr(simulate, "NOTEBOOKS", tmp_path)
    person = mock.AsyncMock()
    person.name, person.start_server.side_effect = "anna", before
    person.leave.side_effect = problem
    (row,) = together(simulate.attend(person, "leer", 0))
    assert row["name"] == "anna" and ("chapter_seconds" in row) == (before is None)
    assert row["failure"] == (
        str(before) if before else f"Gehen: {type(problem).__name__}: {problem}"
    )


@pytest.mark.parametrize("problem", [HTTPClientError(599), WebSocketClosedError(), KeyError("x")])
def test_a_broken_connection_is_the_failure_of_one_person(chapter, problem):
    broken = mock.AsyncMock()
    broken.execute.side_effect = problem
    broken.name = "bela"
    rows = together(*(simulate.attend(person, chapter, 0) for person in (Actor("gut"), broken)))
    assert [row["failure"] for row in rows] == [None, f"{type(problem).__name__}: {problem}"]
    broken.leave.assert_awaited_once()


def test_without_a_kernel_leaving_still_ends_the_server():
    calls = []

    def hub(request: httpx.Request) -> httpx.Response:
        calls.append(request.method)
        return httpx.Response(200, json={"servers": {}})

    person = simulate.Person("ada", "")
    person.client = httpx.AsyncClient(base_url=simulate.HUB, transport=httpx.MockTransport(hub))
    person.token = "x"
    together(person.leave())
    assert calls == ["DELETE", "GET"]


@pytest.mark.parametrize("working", [True, False])
def test_memory_that_was_not_measured_is_no_zero(monkeypatch, capsys, working):
    async def attend(person, chapter, pause):
        await asyncio.sleep(0.01)
        return {"name": person.name, "failure": None}

    used = mock.AsyncMock(return_value=7.0, side_effect=None if working else OSError("kein Docker"))
    monkeypatch.setattr(simulate, "attend", attend)
    monkeypatch.setattr(simulate, "memory", used)
    (found,) = together(simulate.run([["ada", ""]], "tiny", 0, "x"))
    assert found["memory_together_mb"] == (7 if working else None)
    assert simulate.summary(found)["memory_mb"]["worst"] == (7 if working else None)
    assert ("kein Docker" in capsys.readouterr().err) != working


def test_removing_without_docker_is_one_sentence(tmp_path):
    with pytest.raises(process.ProcessError) as refused:
        process.output(["python", "-m", remove.__name__], env={"PATH": str(tmp_path)})
    assert str(refused.value) == "Befehl endete mit 1:\nDocker ist nicht installiert."


class Actor:
    """Eine erfundene Person: Ihr Kernel sagt immer dasselbe."""

    def __init__(self, said: str) -> None:
        self.name, self.said, self.left = "ada", said, 0

    async def log_in(self) -> None:
        """Gelingt."""

    start_server = log_in

    async def open_notebook(self, chapter: str) -> None:
        """Gelingt."""

    async def execute(self, source: str) -> list[dict]:
        return [output("stream", text=self.said)]

    async def leave(self) -> None:
        self.left += 1


@pytest.fixture
def chapter(tmp_path, monkeypatch) -> str:
    """Ein Kapitel mit einer Zelle, die schwanken darf, und einer, die es nicht darf."""
    cells = [new_code_cell("1", id=name, outputs=[output("stream", text="gut")]) for name in "ab"]
    cells[0].outputs[0].text = "gestern"
    cells[0].metadata["tags"] = ["nbval-ignore-output"]
    nbformat.write(new_notebook(cells=cells), tmp_path / "tiny.ipynb")
    monkeypatch.setattr(simulate, "NOTEBOOKS", tmp_path)
    return "tiny"


def test_cell_that_says_something_else_is_a_failure(chapter):
    good, bad = Actor("gut"), Actor("schlecht")
    rows = together(*(simulate.attend(person, chapter, 0) for person in (good, bad)))
    assert rows[0]["failure"] is None and rows[0]["chapter_seconds"] >= 0
    assert rows[1]["failure"].startswith("Zelle „b“ gab anderes aus: ")
    assert (good.left, bad.left) == (1, 1)


def test_server_is_asked_for_again_when_too_many_start():
    answers = [httpx.Response(429, headers={"Retry-After": "0"}), httpx.Response(201)]
    calls = []

    def hub(request: httpx.Request) -> httpx.Response:
        calls.append(request.method)
        if request.method == "POST":
            return answers.pop(0)
        return httpx.Response(200, json={"servers": {"": {"ready": True}}})

    person = simulate.Person("ada", "")
    person.client = httpx.AsyncClient(base_url=simulate.HUB, transport=httpx.MockTransport(hub))
    together(person.start_server())
    assert calls == ["POST", "POST", "GET"]


def test_container_of_a_person_is_limited_and_without_rights(tmp_path, monkeypatch):
    (tmp_path / "people").write_text("lehre\n", encoding="utf-8")
    monkeypatch.setenv("CLASSROOM_USERS", str(tmp_path / "people"))
    monkeypatch.setenv("CLASSROOM_KEY", "k" * 32)
    monkeypatch.setenv("CLASSROOM_STATE", str(tmp_path / "state"))
    network = mock.Mock(attrs={"IPAM": {"Config": [{"Gateway": "172.30.0.1"}]}})
    client = mock.Mock(
        **{"networks.list.return_value": [], "networks.create.return_value": network}
    )
    monkeypatch.setattr(docker, "from_env", lambda: client)
    config = Config()
    path = HUB / "jupyterhub_config.py"
    exec(
        compile(path.read_text("utf-8"), path, "exec"),
        {"get_config": lambda: config, "__file__": str(path)},
    )
    host = config.DockerSpawner.extra_host_config
    assert host["memswap_limit"] == config.DockerSpawner.mem_limit, "Sonst wird ausgelagert"
    assert host["pids_limit"] <= 512 and host["read_only"]
    assert host["cap_drop"] == ["ALL"] and host["security_opt"] == ["no-new-privileges"]
    assert config.DockerSpawner.pull_policy == "never"
    (made,) = client.networks.create.call_args_list
    assert made.kwargs["internal"]
    assert made.kwargs["options"] == {"com.docker.network.bridge.enable_icc": "false"}
    # Nur der eigene Rechner sieht den Hub, und nur der Besitzer liest, wo seine Schlüssel liegen.
    assert config.JupyterHub.bind_url.startswith("http://127.0.0.1:")
    assert config.ConfigurableHTTPProxy.api_url.startswith("http://127.0.0.1:")
    assert (tmp_path / "state").stat().st_mode & 0o077 == 0
