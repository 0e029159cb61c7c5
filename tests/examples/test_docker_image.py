"""Das Image: was darin steht, wie der Container endet und was ihm nichts anhaben kann."""

import errno
import gzip
import io
import json
import os
import secrets
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from unittest import mock

import httpx
import pytest

import needs
import process
from contract import CONTAINER, free_port, stone
from examples.docker_image import batch, build, cache, layers, next_model, stop
from examples.docker_image.build import TAG
from examples.load_balancing import load
from examples.price_model.predict import ARTIFACTS, load_metadata, load_model
from examples.price_model.schema import EXAMPLE, FEATURES

ROOT = process.ROOT
# Ein eigener Name: Andere Prüfungen bauen gleichzeitig unter dem gemeinsamen.
IMAGE = "docker-image:test"
# Was hadolint findet und finden soll: Diese Dateien zeigen Fehler.
SHOWN_MISTAKES = {
    "examples/docker_image/naive/Dockerfile": {"DL3025", "DL3042"},
    "examples/docker_image/secret/Dockerfile": {"DL3059", "DL3064"},
}
DOCKERFILES = sorted(
    path.relative_to(ROOT).as_posix() for path in (ROOT / "examples").rglob("Dockerfile")
)


def docker(*arguments: object, timeout: float = 120) -> str:
    """Ruft `docker` auf; scheitert es, auch der Test."""
    return process.output(["docker", *map(str, arguments)], timeout=timeout).strip()


def attempt(*arguments: object) -> subprocess.CompletedProcess:
    """Ruft `docker` auf und gibt auch einen Fehlschlag zurück."""
    words = ["docker", *map(str, arguments)]
    return subprocess.run(words, capture_output=True, encoding="utf-8", timeout=120)


@pytest.fixture(scope="module")
def image(needs_docker) -> str:
    process.output(["python", "-m", "examples.docker_image.build", IMAGE], timeout=600)
    return IMAGE


@contextmanager
def container(*options: object, image: str = IMAGE, command: tuple[str, ...] = ()) -> Iterator[str]:
    """Ein Container im Hintergrund; gibt seinen Namen zurück und räumt ihn weg."""
    name = f"docker-image-test-{secrets.token_hex(4)}"
    try:
        docker("run", "--detach", "--name", name, *options, image, *command)
        yield name
    finally:
        attempt("rm", "--force", "--volumes", name)


@pytest.fixture(scope="module")
def service(image) -> Iterator[str]:
    """Der laufende Dienst, so eingeschränkt wie im Kapitel; gibt seine Adresse zurück."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    words = [image if word == TAG else word.format(port=port) for word in CONTAINER]
    running = process.serve(words, f"{url}/health/ready")
    yield url
    running.stop()


@contextmanager
def under_load(url: str) -> Iterator[dict]:
    """Fragt währenddessen weiter; danach steht im Ergebnis, was daraus wurde."""
    done, answers, counts = threading.Event(), [], {}

    def work() -> None:
        while not done.is_set() and len(answers) < 5000:
            answers.extend(load.run(url, seconds=0.5, rate=40))

    asking = threading.Thread(target=work)
    asking.start()
    try:
        yield counts
    finally:
        done.set()
        asking.join()
        summary = load.summary(answers)
        counts.update({name: summary[name] for name in ("sent", "answered", "failed")})
        print(counts)


def state(name: str, field: str) -> str:
    return docker("inspect", "--format", f"{{{{.State.{field}}}}}", name)


def wait_for(condition, timeout: float = 60) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "Das Erwartete trat nicht ein"
        time.sleep(0.2)


def loading(url: str) -> bool:
    """Sagt, ob der Dienst sein Modell noch lädt oder nicht einmal zuhört."""
    try:
        return "noch" in httpx.get(f"{url}/health/ready").text
    except httpx.TransportError:  # Docker nimmt an, bevor im Container jemand zuhört
        return True


# --- Dockerfile -------------------------------------------------------------------------


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_hadolint_finds_only_what_is_shown_as_a_mistake(dockerfile):
    program = needs.program("hadolint", "make test richtet es ein")
    words = [program, "--no-fail", "--format", "json", dockerfile]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, encoding="utf-8", check=True)
    found = {finding["code"] for finding in json.loads(done.stdout)}
    assert found == SHOWN_MISTAKES.get(dockerfile, set()), done.stdout


@pytest.mark.parametrize("lock", ["serving", "sklearn"])
def test_lock_has_a_hash_for_every_package(lock):
    text = (ROOT / f"examples/docker_image/{lock}.txt").read_text(encoding="utf-8")
    packages = [part for part in text.split("\n") if part and not part.startswith("    ")]
    assert packages and all("==" in part and part.endswith("\\") for part in packages)


def test_locks_agree():
    pins = {
        name: set((ROOT / f"examples/docker_image/{name}.txt").read_text("utf-8").split())
        for name in ("serving", "sklearn")
    }
    assert pins["serving"] < pins["sklearn"]
    assert not any(word.startswith("scikit-learn==") for word in pins["serving"])
    assert any(word.startswith("scikit-learn==") for word in pins["sklearn"])


def test_builder_sees_only_what_the_image_needs(image, tmp_path):
    (tmp_path / ".dockerignore").write_bytes((ROOT / ".dockerignore").read_bytes())
    for name in (".env", "examples/docker_image/token", "notebooks/a.ipynb", "examples/x/app.py"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("geheim", encoding="utf-8")
    wanted = tmp_path / "examples" / "price_model" / "predict.py"
    wanted.parent.mkdir()
    wanted.touch()
    done = subprocess.run(
        ["docker", "build", "--quiet", "--file", "-", "--output", "type=tar,dest=-", tmp_path],
        input=b"FROM scratch\nCOPY . /\n",
        capture_output=True,
        check=True,
    )
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as sent:
        assert [file.name for file in sent if file.isfile()] == ["examples/price_model/predict.py"]


def test_cached_build_installs_nothing(image):
    assert cache.measure(cache.DOCKERFILE, "nothing", "code") == {
        "nothing": {"seconds": pytest.approx(0, abs=600), "pip": False},
        "code": {"seconds": pytest.approx(0, abs=600), "pip": False},
    }


def test_building_without_docker_is_one_sentence(tmp_path):
    with pytest.raises(process.ProcessError) as refused:
        process.output(["python", "-m", build.__name__], env={"PATH": str(tmp_path)})
    assert str(refused.value) == "Befehl endete mit 1:\nDocker ist nicht installiert."


# --- Image ------------------------------------------------------------------------------


def test_image_holds_the_service_and_nothing_else(image):
    found = docker("run", "--rm", image, "find", "/srv", "/models", "-type", "f").split()
    assert set(found) == {
        "/models/metadata.json",
        "/models/price_model.onnx",
        "/srv/examples/__init__.py",
        *(f"/srv/examples/docker_image/{name}.py" for name in ("__init__", "batch")),
        *(f"/srv/examples/fastapi_service/{name}.py" for name in ("__init__", "app", "metered")),
        *(f"/srv/examples/load_balancing/{name}.py" for name in ("__init__", "load")),
        *(f"/srv/examples/price_model/{name}.py" for name in ("__init__", "predict", "schema")),
    }
    packages = docker("run", "--rm", image, "ls", "/opt/venv/lib/python3.11/site-packages").split()
    assert "onnxruntime" in packages
    assert not {"sklearn", "scipy", "pandas", "pip"} & set(packages)


def test_process_has_no_rights_to_lose(service):
    name = f"docker-image-{service.rsplit(':', 1)[1]}"
    assert docker("exec", name, "id", "-u") == "10001"
    status = docker("exec", name, "cat", "/proc/1/status")
    lines = dict(line.split(":\t") for line in status.splitlines() if ":\t" in line)
    assert lines["CapEff"] == lines["CapBnd"] == "0" * 16 and lines["NoNewPrivs"] == "1"
    refused = attempt("exec", name, "touch", "/srv/examples/x")
    assert refused.returncode and "Read-only file system" in refused.stderr
    assert docker("inspect", "--format", "{{.HostConfig.Memory}}", name) == str(256 * 2**20)


def test_health_check_turns_healthy(service):
    name = f"docker-image-{service.rsplit(':', 1)[1]}"
    wait_for(lambda: state(name, "Health.Status") == "healthy")


def test_mounted_model_answers_with_its_own_version(image, service, tmp_path):
    metadata = next_model.train(tmp_path)
    tmp_path.chmod(0o755)
    port = free_port()
    mount = f"type=bind,source={tmp_path},target=/models,readonly"
    with container("--mount", mount, "--publish", f"127.0.0.1:{port}:8000"):
        stop.ready(port).close()
        answers = [
            httpx.post(f"{url}/predict", json=EXAMPLE).json()
            for url in (service, f"http://127.0.0.1:{port}")
        ]
    assert [answer["model_version"] for answer in answers] == ["1.0.0", next_model.MODEL_VERSION]
    assert answers[0]["price_usd"] != answers[1]["price_usd"]
    assert metadata["mae_usd"] < load_metadata()["mae_usd"]


def test_exec_form_ends_in_order_and_shell_form_does_not(image):
    assert stop.stop_while_working(image, free_port()) == {
        "running": 200,
        "late": "abgewiesen",
        "exit_code": 0,
    }
    # Dasselbe wie `CMD` als Satz: Die Shell ist der erste Prozess.
    sentence = "uvicorn examples.fastapi_service.metered:app --host 0.0.0.0; echo beendet"
    lost = stop.stop_while_working(image, free_port(), "sh", "-c", sentence)
    assert (lost["late"], lost["exit_code"]) == ("abgebrochen", 137)


# --- Secrets ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "places"),
    [("copied", ["Layer 3 von oben: srv/token"]), ("argument", ["Beschreibung"]), ("mounted", [])],
)
def test_secret_is_found_unless_it_was_mounted(image, tmp_path, target, places):
    token = secrets.token_hex(16)
    (tmp_path / "token").write_text(token, encoding="utf-8")
    tag = f"docker-image:test-{target}"
    options = ["--file", "examples/docker_image/secret/Dockerfile", "--target", target]
    options += ["--build-arg", f"TOKEN={token}"] if target == "argument" else []
    options += ["--secret", f"id=token,src={tmp_path / 'token'}"]
    docker("build", "--quiet", *options, "--tag", tag, tmp_path)
    try:
        # Im fertigen Container ist die gelöschte Datei unsichtbar; in der Layer liegt sie noch.
        assert docker("run", "--rm", tag, "find", "/srv", "-name", "token") == ""
        found = list(layers.search(tag, token.encode()))
        assert found == places
    finally:
        attempt("rmi", tag)


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_search_names_layer_and_file(pack):
    value = secrets.token_hex(16).encode()
    contents = {"a": tar({"etc/x": b"nichts"}), "b": tar({"etc/y": b"vor " + value, "etc/z": b""})}
    manifest = [{"Config": "c.json", "Layers": ["a", "b"]}]
    saved = tar(
        {name: pack(content) for name, content in contents.items()}
        | {"manifest.json": json.dumps(manifest).encode(), "c.json": b'{"a": "' + value + b'"}'}
    )
    with tarfile.open(fileobj=io.BytesIO(saved)) as archive:
        assert list(layers.search_archive(archive, value)) == [
            "Beschreibung",
            "Layer 1 von oben: etc/y",
        ]
        assert list(layers.search_archive(archive, b"steht nirgends")) == []


def tar(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


# --- Was im Betrieb schiefgeht: gesendet, beantwortet, gescheitert -----------------------


def test_port_in_use_leaves_the_first_container_alone(service):
    port = service.rsplit(":", 1)[1]
    with under_load(service) as counts:
        second = attempt("run", "--rm", "--publish", f"127.0.0.1:{port}:8000", IMAGE)
        assert second.returncode == 125 and "port is already allocated" in second.stderr
    assert counts["sent"] == counts["answered"] > 0 == counts["failed"]


def test_corrupt_model_never_becomes_ready_and_the_old_container_answers(service, tmp_path):
    content = (ARTIFACTS / "price_model.onnx").read_bytes()
    (tmp_path / "price_model.onnx").write_bytes(content[: len(content) // 2])
    (tmp_path / "metadata.json").write_bytes((ARTIFACTS / "metadata.json").read_bytes())
    tmp_path.chmod(0o755)
    port = free_port()
    options = ["--mount", f"type=bind,source={tmp_path},target=/models,readonly"]
    options += ["--health-interval", "1s", "--health-start-period", "1s"]
    with (
        under_load(service) as counts,
        container(*options, "--publish", f"127.0.0.1:{port}:8000") as name,
    ):
        wait_for(lambda: state(name, "Health.Status") == "unhealthy")
        url = f"http://127.0.0.1:{port}"
        wait_for(lambda: not loading(url))
        answers = [httpx.get(f"{url}/health/ready"), httpx.post(f"{url}/predict", json=EXAMPLE)]
        assert [answer.status_code for answer in answers] == [503, 503]
        for answer in answers:
            (problem,) = answer.json()["detail"]
            assert problem["field"] == "model"
            assert problem["reason"].startswith("Das Modell lässt sich nicht laden")
        assert httpx.get(f"{url}/health/live").status_code == 200
    assert counts["sent"] == counts["answered"] > 0 == counts["failed"]


def test_full_disk_leaves_no_half_file(image, tmp_path):
    rows = "0.7,Ideal,E,VS2,61.5,55.0,5.7,5.72,3.51\n" * 5000
    (tmp_path / "stones.csv").write_text(f"{','.join(FEATURES)}\n{rows}", encoding="utf-8")
    tmp_path.chmod(0o755)
    options = ["--read-only", "--mount", f"type=bind,source={tmp_path},target=/in,readonly"]
    options += ["--tmpfs", "/out:size=64k,uid=10001", "--tmpfs", "/big:size=4m,uid=10001"]
    run = ["python", "-m", "examples.docker_image.batch", "/in/stones.csv"]
    with container(*options, command=("sleep", "300")) as name:
        failed = attempt("exec", name, *run, "/out/prices.csv")
        assert (failed.returncode, failed.stdout) == (1, "")
        assert failed.stderr.strip() == (
            "Kein Platz mehr auf dem Datenträger von prices.csv. Es wurde nichts geschrieben."
        )
        assert docker("exec", name, "ls", "-A", "/out") == ""
        assert docker("exec", name, *run, "/big/prices.csv").startswith("5000 Steine bewertet")
        assert len(docker("exec", name, "cat", "/big/prices.csv").splitlines()) == 5001


def test_memory_limit_kills_only_the_container_that_ignores_it(service):
    hungry = ("python", "-c", "bytearray(400_000_000)")
    limit = ("--memory", "128m", "--memory-swap", "128m")
    with under_load(service) as counts, container(*limit, command=hungry) as name:
        wait_for(lambda: state(name, "Status") == "exited")
        assert (state(name, "ExitCode"), state(name, "OOMKilled")) == ("137", "true")
    assert counts["sent"] == counts["answered"] > 0 == counts["failed"]


# --- Stapelvorhersage -------------------------------------------------------------------


@pytest.fixture(scope="module")
def model():
    return load_model()


def csv_file(path: Path, *rows: str, header: str = ",".join(FEATURES)) -> Path:
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


ROW = ",".join(str(EXAMPLE[name]) for name in FEATURES)


@pytest.fixture
def call(monkeypatch, capsys):
    """Ruft ein Modul wie von der Kommandozeile; gibt (Exitcode, Ausgabe, Fehlertext) zurück."""
    monkeypatch.setattr(batch.signal, "signal", lambda *_: None)

    def main(module: ModuleType, *arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [module.__name__, *map(str, arguments)])
        code = module.main()
        return code, *capsys.readouterr()

    return main


@pytest.mark.parametrize("suffix", batch.FORMATS)
def test_batch_prices_are_those_of_the_model(model, tmp_path, suffix):
    stones = [stone(), stone(carat=1.5, x=7.3, y=7.3, z=4.5), stone(cut="Very Good")] * 700
    source = tmp_path / "stones.jsonl"
    source.write_text("".join(json.dumps(item) + "\n" for item in stones), encoding="utf-8")
    target = tmp_path / f"prices{suffix}"
    assert batch.run(source, target, model) == len(stones)
    if suffix == ".jsonl":
        lines = [json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()]
    else:
        with target.open(encoding="utf-8", newline="") as file:
            lines = [
                row | {"price_usd": float(row["price_usd"])} for row in batch.csv.DictReader(file)
            ]
    expected = model.predict(batch.parse(stones[:3])) * 700
    assert [line["price_usd"] for line in lines] == pytest.approx(expected)
    assert {line["model_version"] for line in lines} == {model.version}
    assert lines[2]["cut"] == "Very Good"


def test_batch_reads_what_spreadsheets_write(model, tmp_path):
    source = csv_file(tmp_path / "s.csv", ROW, "")
    source.write_bytes(b"\xef\xbb\xbf" + source.read_bytes().replace(b"\n", b"\r\n"))
    assert batch.run(source, tmp_path / "p.csv", model) == 1


BAD = {
    "wrong number": (
        "s.csv",
        f"{','.join(FEATURES)}\n{ROW}\n{ROW.replace('0.7', 'schwer')}\n",
        "Zeile 3, carat: Hier muss eine Zahl stehen.",
    ),
    "german comma": ("s.csv", f'{",".join(FEATURES)}\n"0,7"{ROW[3:]}\n', "carat"),
    "missing column": (
        "s.csv",
        f"{','.join(FEATURES[:-1])}\n{ROW.rsplit(',', 1)[0]}\n",
        "z: Das Feld fehlt.",
    ),
    "too many values": (
        "s.csv",
        f"{','.join(FEATURES)}\n{ROW},1\n",
        "mehr Werte als die Kopfzeile",
    ),
    "column twice": (
        "s.csv",
        f"{','.join(FEATURES)},carat\n{ROW},9\n",
        "nennt eine Spalte doppelt",
    ),
    "empty": ("s.csv", "", "kein Stein"),
    "only a header": ("s.csv", f"{','.join(FEATURES)}\n", "kein Stein"),
    "open quote": ("s.csv", f'{",".join(FEATURES)}\n"0.7', "keine lesbare CSV-Tabelle"),
    "not JSON": ("s.jsonl", json.dumps(EXAMPLE) + "\n{\n", "Zeile 2 ist kein gültiges JSON."),
    "a list": ("s.jsonl", json.dumps([EXAMPLE]) + "\n", "Zeile 1, body"),
    "deeply nested": ("s.jsonl", "[" * 100_000 + "\n", "Zeile 1"),
    "NaN": ("s.jsonl", json.dumps(stone(carat=float("nan"))) + "\n", "endlich"),
    "unknown suffix": ("s.txt", "", "Unbekannte Endung '.txt'"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_file_changes_nothing_and_names_the_place(name, tmp_path, call):
    file, content, reason = BAD[name]
    source, target = tmp_path / file, tmp_path / "prices.csv"
    source.write_text(content, encoding="utf-8")
    target.write_text("gestern", encoding="utf-8")
    code, out, complaint = call(batch, source, target)
    assert (code, out) == (1, "") and reason in complaint
    assert len(complaint.splitlines()) == 1
    assert target.read_text(encoding="utf-8") == "gestern"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted({file, "prices.csv"})


@pytest.mark.parametrize(
    ("source", "target", "reason"),
    [
        ("missing.csv", "prices.csv", "missing.csv fehlt."),
        ("s.csv", "nowhere/prices.csv", "Der Ordner von prices.csv fehlt."),
        ("latin.csv", "prices.csv", "latin.csv ist kein Text in UTF-8."),
    ],
)
def test_unreadable_or_unwritable_is_one_line(source, target, reason, tmp_path, call):
    csv_file(tmp_path / "s.csv", ROW)
    (tmp_path / "latin.csv").write_bytes("Güte\n".encode("latin-1"))
    code, _, complaint = call(batch, tmp_path / source, tmp_path / target)
    assert code == 1 and complaint.startswith(reason) and len(complaint.splitlines()) == 1


def test_unreadable_folder_is_one_line(tmp_path, monkeypatch):
    # Für root gilt kein Verbot; deshalb verweigert hier schon der Blick auf die Datei.
    refused = PermissionError(errno.EACCES, "Permission denied")
    monkeypatch.setattr(batch.os, "stat", mock.Mock(side_effect=refused))
    said = batch.explain(refused, tmp_path / "s.csv", tmp_path / "p.csv")
    monkeypatch.undo()
    assert said == "Der Zugriff ist verweigert. Es wurde nichts geschrieben."


def test_missing_model_is_one_line(tmp_path):
    words = ["python", "-m", "examples.docker_image.batch", tmp_path / "s.csv", tmp_path / "p.csv"]
    with pytest.raises(process.ProcessError) as error:
        process.output(words, env={"PRICE_MODEL_DIR": str(tmp_path)})
    first, *reason = str(error.value).splitlines()
    assert first == "Befehl endete mit 1:" and len(reason) == 1
    assert reason[0].startswith("Das Modell lässt sich nicht laden")


@pytest.mark.parametrize("module", [batch, layers, stop, next_model])
def test_wrong_call_explains_itself(module, call):
    code, out, complaint = call(module)
    assert (code, out) == (2, "") and complaint.startswith("Aufruf: python -m")


def test_terminated_batch_leaves_no_half_file(tmp_path):
    """SIGTERM kommt, solange die Quelle, eine Pipe, noch keine Zeile geliefert hat."""
    source = tmp_path / "s.jsonl"
    os.mkfifo(source)
    words = ["python", "-m", "examples.docker_image.batch", source, tmp_path / "p.csv"]
    running = subprocess.Popen(process._command(words), cwd=ROOT)
    with source.open("w", encoding="utf-8"):
        wait_for(lambda: list(tmp_path.glob(".p.csv.*.part")))
        running.terminate()
        assert running.wait(30) == 143
    assert list(tmp_path.iterdir()) == [source]
