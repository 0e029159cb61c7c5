"""Der Lasttest misst, was er behauptet: gegen numpy, HdrHistogram, locust und die Theorie."""

import asyncio
import errno
import json
import math
import random
import subprocess
import sys
from contextlib import contextmanager

import httpx
import numpy as np
import pytest

import process
from contract import free_port, require_environment
from examples.load_test import generate, measures, queueing
from examples.price_model.predict import load_model
from examples.price_model.schema import EXAMPLE, Stone

SEAT_SECONDS = 0.01
GENERATE = ["python", "-m", "examples.load_test.generate"]
LOCUST = ["python:load_test", "-m", "locust", "-f", "examples/load_test/locustfile.py"]


@contextmanager
def serving(app: str = "examples.load_test.service:app", **env: str):
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = ["python", "-m", "uvicorn", app, "--port", port, "--no-access-log"]
    service = process.serve(command, f"{url}/health/ready", timeout=60, env=env)
    try:
        yield url
    finally:
        service.stop()


@pytest.fixture(scope="module")
def seat():
    """Der Dienst mit einem Platz zu 10 ms."""
    with serving(SEAT_SECONDS=str(SEAT_SECONDS)) as url:
        yield url


@pytest.fixture(scope="module")
def plain():
    """Der Preisdienst, so schnell er kann."""
    with serving() as url:
        yield url


def slow_down(url: str, **how: float) -> None:
    httpx.post(f"{url}/slow", params=how).raise_for_status()


def load(url: str, *options: object) -> dict:
    return json.loads(process.output([*GENERATE, url, *options]).splitlines()[0])


def exit_code(*arguments: object) -> tuple[int, str]:
    command = [sys.executable, "-m", "examples.load_test.generate", *map(str, arguments)]
    done = subprocess.run(command, cwd=process.ROOT, capture_output=True, encoding="utf-8")
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("size", [1, 2, 99, 1000])
def test_percentiles_equal_numpy(size):
    chance = random.Random(size)
    values = [chance.expovariate(1) for _ in range(size)]
    for percent in (0, 50, 95, 99, 99.9, 100):
        expected = np.percentile(values, percent)
        assert measures.percentile(values, percent) == pytest.approx(expected)


def test_failed_requests_count_as_infinite():
    latencies = [0.01] * 97 + [math.inf] * 3
    assert measures.percentile(latencies, 95) == 0.01
    assert measures.summary(latencies)["p99_ms"] is None
    assert measures.summary([])["n"] == 0


def test_correction_by_hand():
    assert measures.corrected([1, 5, 2], 1) == [1, 5, 4, 3, 2, 1, 2, 1]
    assert measures.corrected([0.5], 1) == [0.5]


def test_correction_equals_hdrhistogram():
    require_environment("load_test")
    chance = random.Random(3)
    micros = [chance.randrange(500, 30_000) for _ in range(500)] + [1_000_000, 345_678]
    code = (
        "import json, sys; from hdrh.histogram import HdrHistogram\n"
        "h = HdrHistogram(1, 10_000_000, 4)\n"
        "[h.record_corrected_value(v, 20_000) for v in json.loads(sys.argv[1])]\n"
        "print(json.dumps([h.total_count, *(h.get_value_at_percentile(p) for p in (50, 90, 99))]))"
    )
    reply = json.loads(process.output(["python:load_test", "-c", code, json.dumps(micros)]))
    # Die Fassung für Python ergänzt, anders als das Original in Java, auch den Rest unter einem
    # Abstand: einen Wert je Latenz, die darüber lag.
    rest = [value % 20_000 for value in micros if value > 20_000 and value % 20_000]
    filled = measures.corrected(micros, 20_000) + rest
    assert reply[0] == len(filled)
    for percent, theirs in zip((50, 90, 99), reply[1:], strict=True):
        rank = int(percent / 100 * len(filled) + 0.5)
        assert theirs == pytest.approx(sorted(filled)[rank - 1], rel=0.001)


def test_waiting_follows_lindley():
    assert queueing.waiting([0, 0.5, 5], 1) == [1, 1.5, 1]


@pytest.mark.parametrize("utilisation", [0.3, 0.8, 0.9])
def test_model_agrees_with_the_formula(utilisation):
    (row,) = queueing.formula([utilisation]).values()
    assert row["model"] == pytest.approx(row["formula"], rel=0.02)


def test_no_formula_beyond_saturation():
    with pytest.raises(ValueError, match="ohne Ende"):
        queueing.mean_by_formula(1)


def test_short_runs_scatter_more():
    rows = queueing.spread([50, 5000])
    width = {size: high - low for size, (low, high) in rows.items()}
    assert rows[50][0] < rows[5000][0] and width[50] > width[5000]


def test_arrivals_do_not_depend_on_answers():
    assert generate.arrivals(4, 1) == [0, 0.25, 0.5, 0.75]
    times = generate.arrivals(100, 100, "poisson")
    assert len(times) == pytest.approx(10_000, rel=0.05) and times == sorted(times)
    assert (
        times
        == generate.arrivals(100, 100, "poisson")
        != generate.arrivals(100, 100, "poisson", seed=8)
    )


def test_only_the_open_generator_sees_a_stall(seat, tmp_path):
    slow_down(seat, after=100, seconds=1)
    blind = load(seat, "--pace-ms", 20, "--requests", 150, "--seconds", 60, "--out", tmp_path / "c")
    slow_down(seat, after=100, seconds=1)
    seeing = load(seat, "--rate", 50, "--seconds", 3, "--out", tmp_path / "o")
    assert blind["failed"] == seeing["failed"] == 0
    assert seeing["p99_ms"] > 3 * blind["p99_ms"] and seeing["p99_ms"] > 900
    repaired = measures.summary(measures.corrected(measures.read(tmp_path / "c"), 0.02))
    assert repaired["p99_ms"] > 800 and repaired["n"] >= blind["n"] + 48


def test_little_holds_even_through_a_stall(seat):
    slow_down(seat, after=50, seconds=1)
    command = ["python", "-m", "examples.load_test.little", seat, "--rate", "60", "--seconds", "3"]
    found = json.loads(process.output(command))
    assert found["relative_error"] < 0.25 and found["counted"] > 5


def test_seat_that_is_already_free_is_no_error():
    # Zwischen zwei Blicken auf die Uhr vergeht auf einem vollen Rechner mehr als eine Antwort.
    code = (
        "import asyncio; from types import SimpleNamespace; from unittest import mock;"
        "from examples.load_test import service; times = iter([0.0, 1.0]);"
        "service.time = SimpleNamespace(monotonic=lambda: next(times)); app = mock.AsyncMock();"
        "asyncio.run(service.OneSeat(app)({'type': 'http', 'path': '/predict'}, None, None));"
        "app.assert_awaited_once()"
    )
    process.output(["python", "-c", code], env={"SEAT_SECONDS": "0.001"})


def test_saturation(seat):
    command = ["python", "-m", "examples.load_test.saturate", seat, "--service-ms", "10"]
    rows = json.loads(process.output([*command, "--rates", "50", "150", "--seconds", "1.5"]))
    idle, busy = rows["50"], rows["150"]
    # Schneller als der Platz kann es nie gehen, auch nicht auf dem besten Rechner.
    assert busy["per_second"] <= 100.5 and busy["p99_ms"] > 3 * idle["p50_ms"]
    assert idle["failed"] == busy["failed"] == 0
    for row in rows.values():
        assert row["from_sent_mean_ms"] > 0.99 * row["expected_mean_ms"]
    assert busy["from_sent_mean_ms"] < 1.5 * busy["expected_mean_ms"]


def test_a_generator_that_is_late_is_no_measurement():
    with serving("examples.fastapi_service.metered:app", PRICE_DELAY_SECONDS="0.05") as url:
        late = [url, "--rate", 100, "--seconds", 1, "--slo-p99-ms", 5000, "--max-late-ms", 400]
        code, said = exit_code(*late, "--connections", 2)
        assert (code, "gilt nicht" in said) == (generate.INVALID, True)
        assert exit_code(*late)[0] == 0


def test_slo_turns_red(seat):
    slo = ["--seconds", 2, "--slo-p99-ms", 400, "--max-late-ms", 2000, "--quiet"]
    assert exit_code(seat, "--rate", 40, *slo) == (0, "Ziel erreicht: p99 liegt unter 400 ms.\n")
    code, said = exit_code(seat, "--rate", 160, *slo)
    assert (code, said) == (1, "Ziel verfehlt: p99 liegt über 400 ms.\n")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({}, 0),
        ({"p99_ms": 201}, 1),
        ({"p99_ms": None}, 1),
        ({"failed": 2}, 1),
        ({"late_p99_ms": 51}, 3),
        ({"late_p99_ms": 51, "p99_ms": 201}, 3),
        ({"sent": 0}, 3),
    ],
)
def test_verdict(change, code):
    result = {"sent": 100, "failed": 1, "p99_ms": 200, "late_p99_ms": 1} | change
    assert generate.verdict(result, 200, 50)[0] == code


def test_survivors_of_a_timeout_look_fast(seat):
    slow_down(seat, after=50, seconds=1)
    result = load(seat, "--rate", 50, "--requests", 150, "--seconds", 60, "--timeout", 0.3)
    assert result["sent"] == 150 and 30 < result["failed"] < 110
    assert result["p99_ms"] is None


def test_warm_up_is_not_counted(seat):
    slow_down(seat, requests=5, seconds=0.15)
    cold = load(seat, "--rate", 50, "--seconds", 3)
    slow_down(seat, requests=5, seconds=0.15)
    warm = load(seat, "--rate", 50, "--seconds", 3, "--warmup", 2)
    assert cold["p95_ms"] > 400 and warm["p95_ms"] < cold["p95_ms"] / 2
    assert warm["sent"] < cold["sent"] * 0.6


def test_connections_are_counted(plain):
    options = [plain, "--requests", 20, "--seconds", 60]
    assert load(*options)["connections"] == 1
    assert load(*options, "--clients", 4)["connections"] == 4
    assert load(*options, "--new-connections")["connections"] == 20


def test_answers_under_load_are_the_right_prices(plain, tmp_path):
    stones = [EXAMPLE | {"carat": 0.3 + n / 100} for n in range(20)]
    (tmp_path / "q").write_text("\n".join(map(json.dumps, stones)), encoding="utf-8")
    options = ["--questions", tmp_path / "q", "--out", tmp_path / "out"]
    load(plain, "--rate", 100, "--requests", 60, "--seconds", 60, *options)
    samples = json.loads((tmp_path / "out").read_text(encoding="utf-8"))["samples"]
    prices = [json.loads(sample["answer"])["price_usd"] for sample in samples]
    assert prices == 3 * load_model().predict([Stone(**stone) for stone in stones])


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["nonsense"], "keine Adresse"),
        (["http://127.0.0.1:viele"], "keine Adresse"),
        (["http://127.0.0.1:65536"], "keine Adresse"),
        (["https://127.0.0.1:8241"], "keine Adresse"),
        (["http://127.0.0.1:1", "--rate", "-1"], "keine Zahl über null"),
        (["http://127.0.0.1:1", "--rate", "inf"], "keine Zahl über null"),
        (["http://127.0.0.1:1", "--clients", "0"], "ab eins"),
        (["http://127.0.0.1:1", "--questions", "missing"], "lässt sich nicht lesen"),
        (["http://127.0.0.1:1", "--out", "missing/out"], "Den Ordner für out gibt es nicht."),
    ],
)
def test_mistakes_are_german_sentences(capsys, arguments, word):
    with pytest.raises(SystemExit) as ended:
        generate.parse_arguments(arguments)
    assert ended.value.code == 2 and word in capsys.readouterr().err


def test_mistake_ends_the_program_with_that_sentence():
    code, said = exit_code("nonsense")
    assert code == 2 and "keine Adresse" in said


def test_what_cannot_be_written_is_known_before_the_run(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        generate.parse_arguments(["http://127.0.0.1:1", "--out", str(tmp_path)])
    assert ended.value.code == 2 and "lässt sich nicht schreiben." in capsys.readouterr().err
    generate.parse_arguments(["http://127.0.0.1:1", "--out", str(tmp_path / "new")])
    assert not list(tmp_path.iterdir())
    older = tmp_path / "out"
    older.write_text("eine ältere Messung", encoding="utf-8")
    generate.parse_arguments(["http://127.0.0.1:1", "--out", str(older)])
    assert older.read_text(encoding="utf-8") == "eine ältere Messung"


def test_full_disk_costs_the_samples_but_not_the_report(tmp_path, monkeypatch, capsys):
    async def nobody(_):
        return [], 0

    def full_disk(*_):
        raise OSError(errno.ENOSPC, "Kein Platz mehr")

    monkeypatch.setattr(generate, "run", nobody)
    monkeypatch.setattr(generate, "write", full_disk)
    words = ["http://127.0.0.1:1", "--out", str(tmp_path / "out"), "--slo-p99-ms", "1"]
    monkeypatch.setattr(sys, "argv", ["generate", *words])
    assert generate.main() == generate.INVALID
    said = capsys.readouterr()
    assert json.loads(said.out)["sent"] == 0
    assert said.err == "Die einzelnen Anfragen fehlen: Kein Platz mehr.\n"


def test_nobody_answers_is_a_missed_goal():
    url = f"http://127.0.0.1:{free_port()}"
    code, said = exit_code(url, "--rate", 20, "--seconds", 1, "--slo-p99-ms", 100)
    assert code == generate.MISSED and '"failed": 20' in said and "scheiterten" in said


def test_locust_agrees_and_turns_red(seat, tmp_path):
    require_environment("load_test")
    slow_down(seat, after=60, seconds=1)
    env = {"REQUESTS": "110", "PER_SECOND": "50", "LATENCIES": str(tmp_path / "latencies")}
    options = ["--headless", "--users", "1", "--run-time", "60s", "--host", seat]
    command = [*LOCUST, *options, "--csv", tmp_path / "run", "--only-summary"]
    with pytest.raises(process.ProcessError, match="endete mit 1"):
        process.output(command, env=env | {"SLO_P99_MS": "5"})
    latencies = json.loads((tmp_path / "latencies").read_text())
    header, *rows = (tmp_path / "run_stats.csv").read_text().splitlines()
    total = dict(zip(header.split(","), rows[-1].split(","), strict=True))
    assert int(total["Request Count"]) == len(latencies) == 110
    for percent in (50, 95, 99):
        # locust rundet auf zwei Stellen, unter 100 ms auf ganze.
        expected = np.percentile(latencies, percent, method="higher")
        assert float(total[f"{percent}%"]) == pytest.approx(expected, rel=0.05, abs=0.51)
    # Auch locust wartet auf jede Antwort: Der Stillstand ist nur im Maximum zu sehen.
    assert float(total["99%"]) < float(total["100%"]) / 2


def test_batches_and_onnx_save_cpu(plain):
    command = ["python", "-m", "examples.load_test.batches"]
    sizes = ["--sizes", "1", "100", "--seconds", "0.3"]
    with serving(PRICE_ENGINE="sklearn", OMP_NUM_THREADS="1") as url:
        sklearn = json.loads(process.output([*command, url, *sizes]))
    onnx = json.loads(process.output([*command, plain, *sizes]))
    assert sklearn["1"]["cpu_us"] > 4 * onnx["1"]["cpu_us"]
    assert onnx["1"]["cpu_us"] > 4 * onnx["100"]["cpu_us"]
    assert sklearn["1"]["cpu_us"] > 20 * sklearn["100"]["cpu_us"]


def test_layers_add_up():
    command = ["python", "-m", "examples.load_test.where"]
    onnx = json.loads(process.output([*command, "--rounds", "100"]))
    assert 0 < onnx["model"] < onnx["framework"]
    env, command = {"OMP_NUM_THREADS": "1"}, [*command, "--engine", "sklearn", "--rounds", "5"]
    sklearn = json.loads(process.output(command, env=env))
    assert sklearn["model"] > 10 * onnx["model"] > 0
    shares = json.loads(process.output([*command, "--profile"], env=env))
    assert 0.9 < sum(shares.values()) <= 1.001 and shares["sklearn"] + shares["pandas"] > 0.4


def test_request_in_process_answers_like_the_service(plain):
    from examples.load_test import where

    where.app.state.model = load_model()
    answer = json.loads(asyncio.run(where.request()))
    assert answer == httpx.post(f"{plain}/predict", json=EXAMPLE).json()


@pytest.mark.parametrize("options", [[], ["--profile"]])
def test_layers_without_a_model_end_with_the_remedy(tmp_path, options):
    command = ["python", "-m", "examples.load_test.where", "--rounds", "1", *options]
    with pytest.raises(process.ProcessError, match="Zuerst ausführen: make model") as refused:
        process.output(command, env={"PRICE_MODEL_DIR": str(tmp_path)})
    assert "Traceback" not in str(refused.value)
