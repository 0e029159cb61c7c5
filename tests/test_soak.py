"""Die Dauerlast wird rot, wenn sie soll: kleine Dienste mit je einem Fehler."""

import json
import os
import re
import subprocess
import sys

import psutil
import pytest

import contract
import soak
from tools import figures

# Sekunden je Lauf; alle Dienste laufen nebeneinander.
SECONDS = 6
SERVICE = """
import json, os, subprocess, sys, tempfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from examples.price_model.predict import load_model
from examples.price_model.schema import InvalidStoneError, parse

fault, model, kept = sys.argv[1], load_model("onnx"), []
if fault == "litter":
    tempfile.mkdtemp(prefix="vergessen-")


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(200, {})

    def do_POST(self):
        if fault == "leak":
            kept.append(b"." * 10_000_000)
        if fault == "crash":
            os._exit(1)
        try:
            body = self.rfile.read(min(max(int(self.headers["Content-Length"]), 0), 400_000))
            question = json.loads(body)
            if fault == "wrong" and isinstance(question, dict):
                return self.answer(200, {"price_usd": 1.0, "model_version": "1"})
            prices = model.predict(parse(question))
            answers = [{"price_usd": price, "model_version": model.version} for price in prices]
            self.answer(200, answers if isinstance(question, list) else answers[0])
        except InvalidStoneError as error:
            self.answer(500 if fault == "5xx" else 422, {"detail": error.problems})
        except Exception:
            self.answer(400, {"detail": []})

    def answer(self, status, content):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Handler).serve_forever()
"""
FAULTS = {
    "leak": "Der Speicher wuchs",
    "crash": "nimmt keine Verbindung mehr an|ConnectError",
    "5xx": "Status 500",
    "wrong": "Falscher Preis",
    "litter": "liegt noch da: vergessen-",
}


@pytest.fixture(scope="module")
def targets():
    variants = {
        fault: lambda fault=fault: contract.over_http(command_for(fault), timeout=60)
        for fault in ("none", *FAULTS)
    }
    found, skipped = soak.soak(variants, SECONDS)
    assert not skipped
    return {target.name: target for target in found}


def command_for(fault: str) -> list[str]:
    """Startet den kleinen Dienst mit diesem Fehler; die Klammern im Code sind kein Platzhalter."""
    return ["python", "-c", SERVICE.replace("{", "{{").replace("}", "}}"), fault, "{port}"]


def test_service_without_a_fault_is_green(targets):
    target = targets["none"]
    assert not target.wrong
    assert target.counts["beantwortet"] and target.counts["abgelehnt"]


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_found(targets, fault):
    assert any(re.search(FAULTS[fault], problem) for problem in targets[fault].wrong), targets[
        fault
    ].wrong
    assert targets[fault].counts["falsch"]
    assert bool(targets[fault].counts["übrig"]) == (fault == "litter")
    assert fault in soak.report([targets[fault]], SECONDS)


def test_orphan_is_found():
    # Der Wächter tötet, was zur Familie gehört; hier läuft eine Waise ohne ihn.
    variables = os.environ | {soak.MARK: "waise"}
    # `input` schreibt zuerst: Kurz nach dem Start nennt Linux die Umgebung noch nicht.
    command = [sys.executable, "-c", "input('da\\n')"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, env=variables, **pipes) as child:
        assert child.stdout.readline().strip() == b"da"
        assert soak.orphans("waise") and not soak.orphans("keine")
        assert soak.orphans("keine", {psutil.Process(child.pid)})
        child.stdin.close()
    assert not soak.orphans("waise")


@pytest.mark.parametrize("value", ["viel", "0", "-1", "inf", "nan"])
def test_bad_duration_is_named(monkeypatch, value):
    monkeypatch.setenv("SOAK_SECONDS", value)
    with pytest.raises(SystemExit, match="SOAK_SECONDS"):
        soak.main()


def test_make_starts_it_and_an_unknown_name_is_refused():
    # Mit den Pfaden aus dem Makefile; pytest hat eigene und merkte nicht, wenn dort einer fehlt.
    makefile = (figures.ROOT / "Makefile").read_text(encoding="utf-8")
    (paths,) = re.findall(r"PYTHONPATH=(\S+) \S+ tests/soak\.py", makefile)
    done = subprocess.run(
        [sys.executable, "tests/soak.py", "gibt_es_nicht"],
        cwd=figures.ROOT,
        env=os.environ | {"PYTHONPATH": paths, "PYTHONUTF8": "1"},
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    assert done.returncode == 1
    assert done.stderr == "Kein Dienst: gibt_es_nicht\n"


def test_numbers_of_one_run_leave_the_others(monkeypatch, tmp_path, targets):
    folder = tmp_path / "book" / "data"
    folder.mkdir(parents=True)
    monkeypatch.setattr(figures, "ROOT", tmp_path)
    monkeypatch.setattr(soak, "SERVICES", ["leak", "none"])
    for name in ("none", "leak", "litter"):  # den letzten kennt der Vertrag nicht
        soak.publish([targets[name]], SECONDS)
    services = json.loads((folder / "soak.json").read_text(encoding="utf-8"))["services"]
    assert list(services) == ["leak", "none"]
    assert services["none"]["sent"] and not services["none"]["wrong"]
    assert services["leak"]["growth_percent"] > 10


def test_published_numbers_are_within_the_limits():
    found = json.loads((figures.ROOT / "book" / "data" / "soak.json").read_text(encoding="utf-8"))
    assert list(found["services"]) == list(soak.SERVICES), "tests/soak.py mit dem Namen aufrufen"
    for name, numbers in found["services"].items():
        assert numbers["seconds"] >= soak.FULL_SECONDS
        assert numbers["growth_percent"] <= 100 * soak.GROWTH, name
        assert not (numbers["server_errors"] or numbers["left"] or numbers["wrong"]), name
