"""Das Archiv für den Raum ohne Netz: vollständig, auspackbar, ohne Netz einzurichten."""

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from starlette.testclient import TestClient

import classroom
import setup
from needs import own_network
from tools import site_server

ROOT = Path(__file__).resolve().parent.parent
SYSTEM = setup.SYSTEMS.get(sys.platform, sys.platform)
VERSION = ".".join(map(str, sys.version_info[:2]))


def wheel(folder: Path, name: str = "kreide", version: str = "1.0") -> Path:
    """Legt ein winziges Rad in einen Ordner."""
    folder.mkdir(parents=True, exist_ok=True)
    path, info = folder / f"{name}-{version}-py3-none-any.whl", f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(f"{name}.py", "farbe = 'weiß'\n")
        file.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        file.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def room(tmp_path) -> Path:
    """Ein ausgepacktes Archiv mit einem einzigen Paket."""
    (tmp_path / "tools").mkdir()
    shutil.copy(ROOT / "tools" / "setup.py", tmp_path / "tools")
    (tmp_path / "requirements-book.txt").write_text("kreide==1.0\n")
    wheel(tmp_path / "wheelhouse" / SYSTEM)
    (tmp_path / "wheelhouse" / "python").write_text(f"{VERSION}\n")
    return tmp_path


def set_up(room: Path) -> subprocess.CompletedProcess:
    command = [*own_network(), sys.executable, "tools/setup.py", "book"]
    # Ein Verzeichnis, das diesem Rechner bekannt ist, gibt es im Raum nicht.
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "UV_"))}
    return subprocess.run(command, cwd=room, capture_output=True, encoding="utf-8", env=environment)


def test_packages_come_from_the_archive(room):
    # Das Rad von uv ist 20 MB groß; hier genügt das Programm dieser Umgebung.
    venv.create(room / ".venv", with_pip=False)
    shutil.copy(setup.BIN / "uv", room / ".venv" / setup.SCRIPTS / "uv")
    done = set_up(room)
    assert done.returncode == 0, done.stderr
    python = room / ".venv" / setup.SCRIPTS / "python"
    found = subprocess.run(
        [python, "-c", "import kreide; print(kreide.farbe)"], capture_output=True
    )
    assert found.stdout.decode().strip() == "weiß"


def test_missing_package_is_not_fetched_from_elsewhere(room):
    venv.create(room / ".venv", with_pip=False)
    shutil.copy(setup.BIN / "uv", room / ".venv" / setup.SCRIPTS / "uv")
    (room / "requirements-book.txt").write_text("kreide==1.0\ntafel==2.0\n")
    done = set_up(room)
    assert done.returncode == 1 and "tafel" in done.stderr and "Traceback" not in done.stderr


def test_other_python_is_named_before_anything_happens(room):
    (room / "wheelhouse" / "python").write_text("3.99\n")
    done = set_up(room)
    assert done.returncode == 1 and "Python 3.99" in done.stderr and VERSION in done.stderr
    assert not (room / ".venv").exists()


@pytest.mark.parametrize(
    ("version", "fits"),
    [((3, 10, 9), 0), ((3, 11, 4), 0), ((3, 11, 5), 1), ((3, 13, 9), 1), ((3, 14, 0), 0)],
)
def test_only_the_locked_pythons_are_accepted(monkeypatch, tmp_path, version, fits):
    monkeypatch.setattr(setup, "sys", SimpleNamespace(version_info=version, exit=sys.exit))
    monkeypatch.setattr(setup, "WHEELHOUSE", tmp_path)
    if fits:
        setup.check_python()
    else:
        with pytest.raises(SystemExit, match=r"passt nicht: gebraucht wird 3\.11\.5 bis 3\.13"):
            setup.check_python()


def test_another_uv_is_replaced_and_the_environment_stays(monkeypatch, tmp_path):
    called = []
    monkeypatch.setattr(setup, "BIN", tmp_path)
    monkeypatch.setattr(setup.venv, "create", lambda *_, **__: called.append("venv"))
    monkeypatch.setattr(setup, "fill", lambda *_: None)
    for said in ("uv 0.0.1 (alt)", setup.UV.replace("==", " ")):
        answer = subprocess.CompletedProcess([], 0, said)
        monkeypatch.setattr(
            setup.subprocess, "run", lambda c, answer=answer, **_: called.append(c[1]) or answer
        )
        setup.install("book")
    assert called == ["--version", "-m", "--version"]


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """Ein Projekt mit einer Datei in Git und dem, was gebaut wird."""
    # Gemeint ist ein Ordner dieses Namens im Projekt, nicht darüber.
    tree = tmp_path / "wheels" / "projekt"
    for name in ("notebooks/a.ipynb", *(f"{folder}/datei" for folder in classroom.BUILT)):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text("Inhalt")
    (tree / ".env").write_text("nicht in Git")
    for command in (["init", "--quiet"], ["add", "notebooks"]):
        subprocess.run(["git", *command], cwd=tree, check=True)
    monkeypatch.setattr(classroom, "ROOT", tree)
    return tree


def test_archive_holds_what_git_knows_and_what_was_built(project, tmp_path):
    wheel(tmp_path / "wheelhouse" / "linux")
    archive = tmp_path / "fertig" / "klasse.zip"
    size = classroom.pack(tmp_path / "wheelhouse", archive)
    with zipfile.ZipFile(archive) as file:
        names = {name.removeprefix(f"{classroom.TOP}/") for name in file.namelist()}
    assert names == {
        "LIESMICH.md",
        "notebooks/a.ipynb",
        "wheelhouse/linux/kreide-1.0-py3-none-any.whl",
        *(f"{folder}/datei" for folder in classroom.BUILT),
    }
    assert size == archive.stat().st_size and [archive] == list(archive.parent.iterdir())


def test_packages_of_the_images_stay_out(project, tmp_path):
    wheel(project / "_build/student/examples/docker_image/wheels")
    classroom.pack(tmp_path / "wheelhouse", tmp_path / "klasse.zip")
    with zipfile.ZipFile(tmp_path / "klasse.zip") as file:
        assert not [name for name in file.namelist() if name.endswith(".whl")]


def test_archive_that_cannot_be_set_up_is_refused(tmp_path, monkeypatch):
    archive, real = tmp_path / "klasse.zip", subprocess.run
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(f"{classroom.TOP}/tools/setup.py", "raise SystemExit(3)")

    def run(command: list, **options: object) -> subprocess.CompletedProcess:
        if "find" in command:  # `uv` wird nicht gefragt: Es genügt dieses Python
            return subprocess.CompletedProcess(command, 0, f"{sys.executable}\n")
        return real(command, **options)

    monkeypatch.setattr(classroom.subprocess, "run", run)
    with pytest.raises(SystemExit, match=r"Ausgepackt und ohne Netz scheitert: tools/setup\.py"):
        classroom.try_out(archive, VERSION)


def test_archive_that_is_too_large_is_refused_before_it_is_tried(tmp_path, monkeypatch):
    monkeypatch.setattr(classroom, "TARGET", tmp_path)
    monkeypatch.setattr(classroom, "download", lambda _, python, folder: folder.mkdir(parents=True))
    monkeypatch.setattr(classroom, "contents", list)
    monkeypatch.setattr(classroom, "pack", lambda *_: classroom.LIMIT_BYTES + 1)
    monkeypatch.setattr(classroom, "try_out", lambda *_: pytest.fail("ausprobiert"))
    monkeypatch.setattr(sys, "argv", ["classroom.py"])
    with pytest.raises(SystemExit, match="erlaubt sind 3"):
        classroom.main()


def test_scripts_are_scripts_where_the_machine_calls_them_text():
    code = "import mimetypes as m; m.add_type('text/plain', '.js'); import site_server;"
    code += "print(m.guess_type('a.js')[0])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT / "tools", capture_output=True)
    assert done.stdout.decode().strip() == "text/javascript"


def test_impossible_port_is_named(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["site_server", "--port", "99999"])
    with pytest.raises(SystemExit) as ended:
        site_server.main()
    assert ended.value.code == 2
    assert "99999 ist kein Port von 1 bis 65535." in capsys.readouterr().err


def test_package_that_is_not_to_be_had_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(classroom, "lock_for", lambda *_: ["x==1"])
    monkeypatch.setattr(subprocess, "run", lambda *_: subprocess.CompletedProcess([], 1))
    with pytest.raises(SystemExit, match="Nicht alle Pakete für linux"):
        classroom.download("linux", "3.13", tmp_path)


@pytest.mark.parametrize("folder", classroom.BUILT)
def test_what_was_not_built_is_named(project, tmp_path, folder):
    shutil.rmtree(project / folder)
    with pytest.raises(SystemExit, match=folder):
        classroom.pack(tmp_path / "wheelhouse", tmp_path / "klasse.zip")
    assert not (tmp_path / "klasse.zip").exists()


def test_wheels_that_left_the_lock_leave_the_archive(tmp_path, monkeypatch):
    kept, older, gone = (wheel(tmp_path, *what) for what in (("Die_Kreide",), ("x", "1"), ("y",)))
    lock = ["die-kreide==1.0", "x==2"]
    monkeypatch.setattr(classroom, "lock_for", lambda *_: lock)
    monkeypatch.setattr(subprocess, "run", lambda *_: subprocess.CompletedProcess([], 0))
    classroom.download("linux", "3.13", tmp_path)
    assert kept.exists() and not older.exists() and not gone.exists()


def test_unusable_version_is_one_german_line():
    command = [sys.executable, "tools/classroom.py", "--python", "2.7"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8")
    assert done.returncode == 1 and done.stderr.startswith("Python 2.7 passt nicht")


def test_site_forbids_everything_foreign(tmp_path):
    (tmp_path / "index.html").write_text("x", encoding="utf-8")
    headers = TestClient(site_server.build_app(tmp_path)).get("/index.html").headers
    assert "default-src 'self'; " in headers["content-security-policy"]
    assert (headers["x-content-type-options"], headers["cache-control"]) == ("nosniff", "no-cache")
