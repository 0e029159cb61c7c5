"""Drift: die Maße gegen unabhängige Rechnungen, die Bauteile, und der Detektor am echten Dienst."""

import json
import shutil
import sys
from pathlib import Path
from statistics import fmean
from types import ModuleType

import numpy as np
import pytest
from scipy.stats import ks_2samp
from statsmodels.stats.multitest import multipletests

import process
from contract import free_port, require_environment
from examples.drift_detection import (
    compare,
    constructed,
    detector,
    estimate,
    measures,
    simulate,
    traffic,
)
from examples.drift_detection.detector import LogError
from examples.monitoring_alerting import batch
from examples.price_model.predict import ARTIFACTS
from examples.price_model.schema import EXAMPLE, FEATURES

MODULE = "examples.drift_detection"
LOGGED = "examples.service_logging.logged:app"
ANSWER = {"price_usd": 2500.0, "model_version": "1.0.0"}


@pytest.fixture
def run(capsys, monkeypatch):
    """Ruft ein Modul wie auf der Kommandozeile; gibt (Exitcode, Ausgabe, Fehlerausgabe) zurück."""

    def call(module: ModuleType, *arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [module.__name__, *map(str, arguments)])
        try:
            code = module.main()
        except SystemExit as ended:  # So enden falsche Argumente.
            code = ended.code
        return code, *capsys.readouterr()

    return call


def rows(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


# --- Die Maße


def test_psi_by_pencil():
    # (0,3 − 0,5) ln(0,3/0,5) + (0,7 − 0,5) ln(0,7/0,5)
    assert measures.psi(np.array([0.5, 0.5]), np.array([0.3, 0.7])) == pytest.approx(0.1694596)
    assert measures.psi(np.array([0.2, 0.8]), np.array([0.2, 0.8])) == 0


def test_empty_class_gives_a_finite_number():
    assert np.isfinite(measures.psi(np.array([0.5, 0.5]), np.array([0.0, 1.0])))


def test_every_value_has_one_class():
    values = np.array([1.0, 2.0, 2.0, 3.0, 9.0])
    assert measures.shares(values, np.array([2.0, 3.0])).tolist() == [0.2, 0.4, 0.4]
    assert measures.shares(["b", "a", "b"], ("a", "b", "c")) == pytest.approx([1 / 3, 2 / 3, 0])
    assert measures.quantile_edges(np.ones(50)).tolist() == [1.0]


@pytest.mark.parametrize(("n", "m"), [(500, 500), (40, 700), (3000, 1999)])
def test_ks_is_that_of_scipy(n, m):
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=n).round(1), rng.normal(0.1, size=m).round(1)
    expected = ks_2samp(a, b, method="asymp")
    assert measures.ks(a, b) == pytest.approx((expected.statistic, expected.pvalue), rel=1e-9)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("ours", "method"),
    [(measures.bonferroni, "bonferroni"), (measures.benjamini_hochberg, "fdr_bh")],
)
def test_corrections_are_those_of_statsmodels(ours, method, seed):
    p = np.random.default_rng(seed).random(20) ** 3
    assert ours(p, 0.05).tolist() == multipletests(p, 0.05, method)[0].tolist()


def test_no_p_value_is_small_enough():
    assert not measures.benjamini_hochberg([0.5, 0.9], 0.05).any()


def test_limit_and_p_value_belong_together():
    limit = measures.psi_limit(10, 500, 700, 0.01)
    assert measures.psi_p_value(limit, 10, 500, 700) == pytest.approx(0.01)
    assert measures.psi_without_drift(10, 500, 500) == pytest.approx(0.036)


def test_evidently_agrees(tmp_path, run):
    require_environment("drift_detection")
    run(constructed, tmp_path)
    tables = [tmp_path / "reference.csv", tmp_path / "covariate.csv"]
    command = ["python:drift_detection", "-m", f"{MODULE}.compare", *tables]
    answer = json.loads(process.output(command))
    found = answer["measures"]
    assert [row["column"] for row in found] == ["carat", "depth", "table", "x", "y", "z", "price"]
    for row in found:
        assert row["psi sturges"] == pytest.approx(row["psi evidently"], rel=1e-9)
        assert (row["ks"], row["p"]) == pytest.approx((row["ks scipy"], row["p scipy"]), rel=1e-9)
        assert row["p exact"] == pytest.approx(row["p evidently"], rel=1e-9)
    verdicts = {row["column"]: row["drifted"] for row in answer["preset"]}
    assert verdicts["carat"] and not verdicts["depth"]
    assert len(answer["outdated"]) == 6
    assert all("Error" in today and "/" not in today for _, today in answer["outdated"])


def test_tables_with_different_columns_are_named(tmp_path, run):
    tables = [tmp_path / "carat.csv", tmp_path / "price.csv"]
    for table in tables:
        table.write_text(f"{table.stem}\n1\n", encoding="utf-8")
    message = "Die beiden Tabellen haben verschiedene Spalten.\n"
    assert run(compare, *tables) == (1, "", message)


# --- Die Konstruktionen


@pytest.fixture(scope="module")
def halves():
    return constructed.halves()


def test_halves_share_no_row_and_no_training(halves):
    assert not set(halves[0].index) & set(halves[1].index)
    assert sum(map(len, halves)) == 10755


@pytest.mark.parametrize(
    ("drift", "changed"),
    [
        ("none", set()),
        ("covariate", {"carat", "price", "carat given price"}),
        ("label", {"carat", "price", "price given carat"}),
        ("concept", {"price given carat", "carat given price"}),
    ],
)
def test_only_what_was_built_changes(halves, drift, changed):
    reference, operation = halves
    factors = constructed.factors(reference, constructed.DRIFTS[drift](operation, 7))
    assert {name for name, value in factors.items() if value > 0} == changed


def test_quality_may_hold_under_drift_and_fall_without(halves):
    reference, operation = map(constructed.estimated, halves)
    found = {
        name: constructed.errors(reference, drift(operation, 7))
        for name, drift in constructed.DRIFTS.items()
    }
    calm, blind = found["covariate_by_cut"], found["concept"]
    assert calm["largest feature PSI"] > 0.25
    assert abs(calm["mae_after"] / calm["mae_before"] - 1) < 0.05
    assert blind["largest feature PSI"] < 0.01 and blind["prediction PSI"] < 0.01
    assert blind["mae_after"] > 2 * blind["mae_before"]


def test_estimate_follows_the_mix_and_misses_the_concept(run):
    _, said, _ = run(estimate)
    found = {row["drift"]: row["estimated"] / row["actual"] for row in rows(said)}
    assert all(0.9 < found[name] < 1.1 for name in found if name != "concept")
    assert found["concept"] < 0.5


# --- Die Versuche


def test_psi_without_drift_follows_the_formula():
    found = {row["n"]: row for row in simulate.false_alarms(repeats=300)}
    assert found[500]["mean"] == pytest.approx(found[500]["formula"], rel=0.1)
    assert found[100]["above 0.1"] > 0.7 and found[1000]["above 0.1"] == 0
    assert all(0.01 < found[n]["above limit"] < 0.1 for n in (200, 500, 1000, 5000))


def test_corrections_tame_the_false_alarms():
    found = list(simulate.many_features(repeats=100))
    alarms = {row["correction"]: row["any false alarm"] for row in found if not row["drifted"]}
    assert alarms["none"] > 0.45
    assert max(alarms["Bonferroni"], alarms["Benjamini-Hochberg"]) < 0.15
    power = {row["correction"]: row["found"] for row in found if row["drifted"]}
    assert power["none"] > power["Benjamini-Hochberg"] > power["Bonferroni"]


def test_season_needs_a_seasonal_reference():
    alarms = {row["reference"]: row["alarms"] for row in simulate.season()}
    assert {11, 12} <= set(alarms["first three months"])
    assert not set(alarms["previous month"]) & set(range(14, 23))
    assert 12 < min(alarms["same month last year"]) < 22


# --- Der Detektor


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """Der laufende Dienst mit Log: (Adresse, Ordner)."""
    folder, port = tmp_path_factory.mktemp("log"), free_port()
    url = f"http://127.0.0.1:{port}"
    command = ["python", "-m", "uvicorn", LOGGED, "--port", str(port)]
    running = process.serve(command, f"{url}/health/ready", env={"PRICE_LOG": folder})
    yield url, folder
    running.stop()


@pytest.fixture(scope="module")
def profile(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("profile") / "profile.json"
    path.write_text(json.dumps(detector.profile()), encoding="utf-8")
    return path


def test_profile_holds_no_single_stone(profile):
    reference = detector.load(profile)
    assert set(reference["columns"]) == {*FEATURES, "price_usd"}
    assert all(len(c["edges"]) <= 9 for c in reference["columns"].values())


def test_detector_fires_after_the_shift_and_not_before(service, profile, run):
    url, folder = service
    for drift, skip in (("none", 0), ("covariate", 1000)):
        _, said, _ = run(traffic, url, drift, "--stones", 1500, "--skip", skip)
        assert json.loads(said) == {"sent": 1500, "answered": 1500, "failed": 0}
    _, said, _ = run(detector, "watch", profile, folder)
    *windows, counts = rows(said)
    assert [row["alarm"] for row in windows] == [False] * 3 + [True] * 3
    assert all({"carat", "price_usd"} <= set(row["drifted"]) for row in windows[3:])
    assert counts == {"rows": 3000, "other_version": 0, "unreadable": 0}
    # Der nächtliche Blick: nur, was zuletzt kam.
    _, said, _ = run(detector, "watch", profile, folder, "--last", 500)
    (window, _) = rows(said)
    assert (window["window"], window["alarm"]) == (1, True)


def test_sales_are_what_the_stones_really_cost(service, run, halves, tmp_path):
    (url, _), file = service, tmp_path / "sales.jsonl"
    for drift in ("none", "concept"):
        run(traffic, url, drift, "--stones", 150, "--skip", 20, "--sales", file)
    sold = rows(file.read_text(encoding="utf-8"))
    assert {frozenset(row) for row in sold} == {
        frozenset({"time", "model_version", "price_usd", "sold_usd"})
    }
    paid = halves[1]["price"].iloc[20:170].tolist()
    assert [row["sold_usd"] for row in sold[:150]] == paid
    dearer = [round(price * constructed.INFLATION, 2) for price in paid]
    assert [row["sold_usd"] for row in sold[150:]] == dearer
    # Dieselben Steine, also dieselben Schätzungen.
    assert [row["price_usd"] for row in sold[:150]] == [row["price_usd"] for row in sold[150:]]
    (error, *_) = batch.labels(file, 283.0)
    wanted = fmean(abs(row["price_usd"] - row["sold_usd"]) for row in sold)
    assert [sample.value for sample in error.samples] == [pytest.approx(wanted)]


def test_nobody_is_asked_when_the_sales_cannot_be_written(run, tmp_path):
    code, said, complained = run(traffic, "http://127.0.0.1:9", "none", "--sales", tmp_path)
    assert code == 1 and not said and "Die Verkäufe lassen sich nicht schreiben" in complained


def test_detector_is_quiet_on_the_other_half(profile, halves):
    reference, (_, operation) = detector.load(profile), halves
    plain = operation.rename(columns={"price": "price_usd"}).to_dict("records")
    # Zehn Fenster ohne Drift: kein Alarm.
    windows = [plain[start : start + 500] for start in range(0, 5000, 500)]
    assert not any(detector.check(reference, window)["drifted"] for window in windows)


def test_foreign_and_broken_lines_are_counted(tmp_path, profile):
    reference = detector.load(profile)
    line = {"time": "2026-11-26T10:00:00", "event": "prediction", "features": EXAMPLE} | ANSWER
    lines = [
        *(json.dumps(line), json.dumps(line | {"model_version": "0.9.0"})),
        *(json.dumps(line | {"features": {"carat": 0.7}}), '{"carat": 0.7', "[]"),
        # Keine Zeile über einen Stein: Sie zählt nicht mit.
        json.dumps(line | {"event": "request"}),
    ]
    (tmp_path / "2026-11-26.jsonl").write_text("\n".join(lines), encoding="utf-8")
    found, counts = detector.read(tmp_path, reference)
    assert len(found) == 1
    assert counts == {"rows": 1, "other_version": 1, "unreadable": 3}


def test_silence_is_no_all_clear(tmp_path, profile):
    with pytest.raises(LogError, match="Nur 0 brauchbare Zeilen"):
        list(detector.watch(detector.load(profile), tmp_path))


@pytest.mark.parametrize(
    ("module", "arguments", "message"),
    [
        (detector, ("watch", "missing.json", "."), "Das Profil missing.json gibt es nicht."),
        (detector, ("watch", process.ROOT / "README.md", "."), "README.md ist kein Profil"),
        (detector, ("watch", process.ROOT / "README.md"), "Hier fehlt der Ordner."),
        (compare, ("missing.csv", "missing.csv"), "Tabellen fehlt oder ist kein CSV."),
        (constructed, (process.ROOT / "README.md",), "Nach README.md lässt sich nicht schreiben."),
        (traffic, ("http://127.0.0.1:9", "none"), "Der Dienst antwortet nicht: ConnectError"),
        (traffic, ("http://127.0.0.1:9", "covariate", "--stones", 9000), "höchstens"),
    ],
)
def test_bad_input_is_named(run, module, arguments, message):
    code, said, complained = run(module, *arguments)
    assert code and not said and message in complained


@pytest.mark.parametrize("folder", [[], ["lieferungen"]])
def test_model_without_its_pipeline_is_named(tmp_path, monkeypatch, run, folder):
    # Ein Ordner nur für ONNX, wie ihn die Container bekommen.
    shutil.copy(ARTIFACTS / "metadata.json", tmp_path)
    monkeypatch.setattr(constructed, "ARTIFACTS", tmp_path)
    code, said, complained = run(constructed, *(tmp_path / name for name in folder))
    assert code == 1 and not said
    assert "fehlt price_model.joblib. Zuerst ausführen: make model" in complained
    assert not (tmp_path / "lieferungen").exists()


def halved(window: int, share: float) -> tuple[dict, list[dict]]:
    """Ein Profil aus zwei Klassen und ein Fenster, in dem dieser Anteil in der ersten liegt."""
    column = {"edges": [1.0], "shares": [0.5, 0.5]}
    first = round(window * share)
    rows = [{"carat": 0.5}] * first + [{"carat": 1.5}] * (window - first)
    return {"model_version": "1.0.0", "rows": 100_000, "columns": {"carat": column}}, rows


@pytest.mark.parametrize(
    ("window", "share", "alarm"),
    [
        # PSI 0,24, aber von 20 Zeilen: kommt ohne Drift alle paar Wochen vor.
        (20, 0.74, False),
        # 5 Prozentpunkte in 20 000 Zeilen: sicher kein Zufall, aber PSI 0,01.
        (20_000, 0.55, False),
        (2_000, 0.74, True),
    ],
)
def test_an_alarm_is_both_rare_and_large(window, share, alarm):
    found = detector.check(*halved(window, share))
    assert found["drifted"] == (["carat"] if alarm else [])
