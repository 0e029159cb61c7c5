"""Lücken, Secrets und Stücklisten: Die Werkzeuge werden rot, wenn sie sollen."""

import datetime
import json
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))  # dort ruft ein Werkzeug das andere

import audit  # noqa: E402
import find_secrets  # noqa: E402
import sbom  # noqa: E402

TODAY = datetime.date(2026, 11, 26)
GAP = ("flask", "3.1.3", "PYSEC-2026-1")


class Database(BaseHTTPRequestHandler):
    """Eine Datenbank, die nur zu `flask` eine Lücke kennt."""

    def do_POST(self) -> None:
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        known = [
            {
                "id": "PYSEC-2026-1",
                "published": "2026-01-01T00:00:00Z",
                "details": "Erfunden.",
                "affected": [{"package": {"name": "flask", "ecosystem": "PyPI"}, "ranges": []}],
            }
        ]
        found = {"vulns": known} if question["package"]["name"] == "flask" else {}
        body = json.dumps(found).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Bleibt still."""


@pytest.fixture(scope="module")
def database():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Database)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1/query"
    server.shutdown()
    thread.join()
    server.server_close()


def run(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, ROOT / "tools" / "audit.py", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8")


def test_known_vulnerability_is_named(database, tmp_path):
    lock = tmp_path / "requirements.txt"
    lock.write_text("flask==3.1.3\nidna==3.10\n", encoding="utf-8")
    done = run("--osv-url", database, lock)
    assert done.returncode == 1, done.stderr
    assert "flask 3.1.3: PYSEC-2026-1" in done.stdout and "idna" not in done.stdout


def test_lock_without_vulnerability_is_green(database, tmp_path):
    lock = tmp_path / "requirements.txt"
    lock.write_text("idna==3.10\n", encoding="utf-8")
    done = run("--osv-url", database, lock)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Keine bekannte Lücke." in done.stdout


def test_database_out_of_reach_is_an_error_and_not_green(tmp_path):
    lock = tmp_path / "requirements.txt"
    lock.write_text("idna==3.10\n", encoding="utf-8")
    done = run("--osv-url", "http://127.0.0.1:1/v1/query", lock)
    assert done.returncode == 1
    assert "ließ sich nicht abgleichen" in done.stderr and "Traceback" not in done.stderr


def test_gap_is_named_by_its_cve_number():
    assert audit.identifier({"id": "GHSA-1", "aliases": ["PYSEC-1", "CVE-2026-1"]}) == "CVE-2026-1"
    assert audit.identifier({"id": "PYSEC-1"}) == "PYSEC-1"


def test_exception_holds_until_its_day():
    entry = {"package": "flask", "id": GAP[2], "reason": "Kein Weg dorthin.", "until": TODAY}
    later = TODAY + datetime.timedelta(days=1)
    assert audit.judge({GAP}, [entry], TODAY) == []
    assert audit.judge({GAP}, [], TODAY) == ["flask 3.1.3: PYSEC-2026-1"]
    assert any("abgelaufen" in problem for problem in audit.judge({GAP}, [entry], later))
    assert any("nicht mehr gebraucht" in problem for problem in audit.judge(set(), [entry], TODAY))


def test_gap_in_the_first_of_several_locks_counts(monkeypatch, capsys, tmp_path):
    locks = [tmp_path / name for name in ("first.txt", "second.txt")]
    for lock in locks:
        lock.touch()
    monkeypatch.setattr(
        audit, "vulnerabilities", lambda lock, _: {GAP} if lock == locks[0] else set()
    )
    monkeypatch.setattr(audit, "exceptions", list)
    monkeypatch.setattr(sys, "argv", ["audit.py", *map(str, locks)])
    assert audit.main() == 1
    assert "flask 3.1.3: PYSEC-2026-1" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["audit.py", str(tmp_path / "fehlt.txt")])
    with pytest.raises(SystemExit, match=r"Gibt es nicht: .*fehlt\.txt"):
        audit.main()


def test_exception_without_reason_is_refused(tmp_path):
    path = tmp_path / "audit.yml"
    path.write_text("- {package: flask, id: X, until: 2026-12-01}\n", encoding="utf-8")
    with pytest.raises(SystemExit, match="reason"):
        audit.exceptions(path)
    assert isinstance(audit.exceptions(), list)


def test_every_lock_is_audited():
    names = {path.relative_to(ROOT).as_posix() for path in audit.locks()}
    assert all((ROOT / name).exists() for name in names)
    written = {
        path.relative_to(ROOT).as_posix() for path in ROOT.glob("examples/*/requirements.txt")
    }
    assert {*written, "requirements.txt", "examples/docker_image/serving.txt"} <= names


def test_files_hold_no_secret():
    assert find_secrets.unexplained(find_secrets.tree()) == []


@pytest.fixture
def repository(tmp_path):
    """Ein Repository mit einem Secret, das der nächste Commit wieder entfernt."""

    def git(*arguments: str) -> None:
        who = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
        subprocess.run(["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True)

    git("init")
    # Zusammengesetzt, damit die Suche im Projekt nicht hier anschlägt.
    key = "AKIA" + "QWERTZUIOPASDFGH"
    (tmp_path / "service.py").write_text(f'key = "{key}"\n', encoding="utf-8")
    cell = {"cell_type": "code", "source": [f"key = '{key}'\n"], "metadata": {}, "outputs": []}
    notebook = json.dumps({"cells": [cell]})
    (tmp_path / "a.ipynb").write_text(notebook, encoding="utf-8")
    git("add", ".")
    git("commit", "-m", "Zu viel")
    return tmp_path, git


def test_secret_in_file_and_notebook_is_found(repository):
    root, _ = repository
    found = {(name, kind) for name, kind, _ in find_secrets.tree(root)}
    assert {("service.py", "AWS Access Key"), ("a.ipynb", "AWS Access Key")} <= found
    problems = find_secrets.unexplained(find_secrets.tree(root))
    assert "service.py: AWS Access Key" in problems
    assert not re.search("QWERTZ", "".join(problems)), "Die Meldung verrät das Secret"


def test_removed_secret_is_found_in_the_history(repository):
    root, git = repository
    git("rm", "service.py", "a.ipynb")
    git("commit", "-m", "Weg damit")
    assert find_secrets.tree(root) == set()
    assert {kind for _, kind, _ in find_secrets.history(root)} == {"AWS Access Key"}


def test_secret_in_an_output_is_found(repository):
    root, _ = repository
    key = "AKIA" + "QWERTZUIOPASDFGH"
    cell = {"cell_type": "code", "source": [], "metadata": {}}
    cell["outputs"] = [{"output_type": "execute_result", "data": {"text/plain": [key]}}]
    (root / "b.ipynb").write_text(json.dumps({"cells": [cell]}), encoding="utf-8")
    # Noch kennt Git die Datei nicht; der nächste Commit nähme sie mit.
    assert ("b.ipynb", "AWS Access Key", key) in find_secrets.tree(root)


def test_secret_of_a_merge_is_found_in_the_history(repository):
    root, git = repository
    git("checkout", "-b", "neben")
    git("commit", "--allow-empty", "-m", "Daneben")
    git("checkout", "-")
    git("merge", "--no-ff", "--no-commit", "neben")
    key = "AKIA" + "ASDFGHJKLQWERTZU"
    (root / "b.py").write_text(f"key = '{key}'\n", encoding="utf-8")
    git("add", "b.py")
    git("commit", "-m", "Zusammen")
    assert ("history", "AWS Access Key", key) in find_secrets.history(root)


def test_secret_of_another_branch_is_found_in_the_history(repository):
    root, git = repository
    git("checkout", "--orphan", "sauber")
    git("rm", "-rf", ".")
    git("commit", "--allow-empty", "-m", "Neuer Anfang")
    assert {kind for _, kind, _ in find_secrets.history(root)} == {"AWS Access Key"}


def test_reason_covers_only_its_own_file_kind_and_value(tmp_path):
    reasons = tmp_path / "secrets.yml"
    reasons.write_text("- {file: a.py, type: Secret, value: 'unecht', reason: x}\n", "utf-8")
    explained = ("a.py", "Secret", "unecht")
    assert find_secrets.unexplained({explained}, reasons) == []
    for other in (
        ("b.py", "Secret", "unecht"),
        ("a.py", "Token", "unecht"),
        ("a.py", "Secret", "unecht, und doch echt"),
    ):
        assert find_secrets.unexplained({explained, other}, reasons) == [f"{other[0]}: {other[1]}"]


def test_finding_in_the_history_is_red_and_stays_hidden(monkeypatch, capsys):
    monkeypatch.setattr(find_secrets, "tree", set)
    monkeypatch.setattr(find_secrets, "unexplained", lambda _: [])
    monkeypatch.setattr(find_secrets, "history", lambda: {("history", "Token", "abcdefgh")})
    monkeypatch.setattr(sys, "argv", ["find_secrets.py"])
    assert find_secrets.main() == 0
    monkeypatch.setattr(sys, "argv", ["find_secrets.py", "--history"])
    assert find_secrets.main() == 1
    said = capsys.readouterr().out
    assert "Geschichte: Token" in said and "abcdefgh" not in said


def test_reason_without_a_finding_goes_red():
    problems = find_secrets.unexplained(set())
    assert problems and all(problem.startswith("Ausnahme ohne Fund") for problem in problems)


def test_lock_becomes_a_valid_bill_of_materials():
    content = json.loads(sbom.of_lock(ROOT / "examples/docker_image/serving.txt"))
    names = {component["name"] for component in content["components"]}
    assert content["specVersion"] == "1.6" and {"fastapi", "onnxruntime"} <= names


def test_image_becomes_a_valid_bill_of_materials():
    lists = ("fastapi 0.165.0\n", "libc6 2.36-9\n", "python 3.11.14\n")
    content = json.loads(sbom.of_packages("price-api:1.0.0", *lists))
    purls = {component["purl"] for component in content["components"]}
    assert purls == {
        *("pkg:pypi/fastapi@0.165.0", "pkg:deb/debian/libc6@2.36-9"),
        "pkg:generic/python@3.11.14",
    }
    assert content["metadata"]["component"]["type"] == "container"


@pytest.mark.parametrize("content", ['{"bomFormat": "CycloneDX", "components": [1]}', "{}"])
def test_invalid_bill_of_materials_is_refused(content):
    with pytest.raises(SystemExit, match="ungültig"):
        sbom.checked(content, "Probe")


def test_missing_image_is_named():
    command = [sys.executable, ROOT / "tools" / "sbom.py", "gibt-es-nicht:0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8")
    assert done.returncode == 1 and "Gibt es nicht: gibt-es-nicht:0" in done.stderr
