"""Die Auswertung von Lighthouse: Median, Grenzen, gescheiterte Messungen; ohne Browser."""

import contextlib
import json
import sys
import time

import psutil
import pytest

import lighthouse

GOOD = {"performance": 95, "accessibility": 100, "best-practices": 100, "seo": 100, "kib": 90}


def report(**scores: float | None) -> dict:
    values = {name: GOOD[name] / 100 for name in lighthouse.LIMITS} | scores
    return {
        "categories": {name: {"score": value} for name, value in values.items()},
        "audits": {"total-byte-weight": {"numericValue": 90 * 1024}},
    }


@pytest.fixture
def measure_as(monkeypatch, tmp_path):
    """Ersetzt Lighthouse: gibt je Lauf den nächsten Wert zurück und führt die ganze Messung aus."""
    monkeypatch.setattr(lighthouse, "RESULT", tmp_path / "lighthouse.json")
    monkeypatch.setattr(lighthouse, "LIGHTHOUSE", tmp_path)
    monkeypatch.setattr(lighthouse, "SITE", tmp_path)
    monkeypatch.setattr(lighthouse.shutil, "which", lambda name: name)
    for name in ("index", "search"):
        (tmp_path / f"{name}.html").touch()

    def run(*results: dict | ValueError, pages=("index",)) -> tuple[int, dict, list[str]]:
        remaining, asked = list(results), []

        def measure(url, chromium, folder):
            asked.append(url)
            if isinstance(result := remaining.pop(0), ValueError):
                raise result
            return result

        monkeypatch.setattr(lighthouse, "measure", measure)
        monkeypatch.setattr(lighthouse.sys, "argv", ["lighthouse.py", *pages])
        code = lighthouse.main()
        return code, json.loads(lighthouse.RESULT.read_text(encoding="utf-8")), asked

    return run


def test_pages_are_those_of_the_book_with_search_and_404(monkeypatch):
    pages = lighthouse.all_pages()
    assert pages[0] == "book/index" and pages[-2:] == ["search", "404"]
    assert {"notebooks/end_to_end", "book/mlops", "book/anhang/stand"} <= set(pages)
    assert len(pages) == len(set(pages))


def test_report_gives_points_and_weight():
    assert lighthouse.scores(report()) == GOOD


def test_failed_run_is_no_measurement():
    with pytest.raises(ValueError, match="NO_FCP"):
        lighthouse.scores(report() | {"runtimeError": {"code": "NO_FCP"}})
    with pytest.raises(ValueError, match="keine Punkte für seo"):
        lighthouse.scores(report(seo=None))


@pytest.mark.skipif(sys.platform == "win32", reason="die Attrappe ist ein Shellskript")
def test_late_measurement_leaves_no_browser(monkeypatch, tmp_path):
    program, pid = tmp_path / "lighthouse", tmp_path / "pid"
    # Wie Lighthouse: Der Browser hat eine eigene Gruppe und endete nicht mit seinem Aufrufer.
    browser = "import os, time; os.setsid(); time.sleep(300)"
    program.write_text(f"#!/bin/sh\n{sys.executable} -c '{browser}' &\necho $! >{pid}\nwait\n")
    program.chmod(0o755)
    monkeypatch.setattr(lighthouse, "LIGHTHOUSE", program)
    monkeypatch.setattr(lighthouse, "TIMEOUT", 1)
    with pytest.raises(ValueError, match="nach 1 s nicht fertig"):
        lighthouse.measure("http://127.0.0.1:9", "chromium", tmp_path)
    with contextlib.suppress(psutil.NoSuchProcess):
        left = psutil.Process(int(pid.read_text()))
        deadline = time.monotonic() + 5
        while left.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline, "Der Browser läuft noch"
            time.sleep(0.05)


@pytest.mark.skipif(sys.platform == "win32", reason="die Attrappe ist ein Shellskript")
def test_report_of_the_run_before_is_no_measurement(monkeypatch, tmp_path):
    program, ready = tmp_path / "lighthouse", tmp_path / "ready.json"
    ready.write_text(json.dumps(report()), encoding="utf-8")
    # Nur der erste Lauf schreibt einen Bericht; der zweite scheitert gleich.
    target = tmp_path / "report.json"
    program.write_text(f"#!/bin/sh\nmv {ready} {target} 2>/dev/null || echo kein Chrome >&2\n")
    program.chmod(0o755)
    monkeypatch.setattr(lighthouse, "LIGHTHOUSE", program)
    assert lighthouse.measure("http://127.0.0.1:9", "chromium", tmp_path) == GOOD
    with pytest.raises(ValueError, match="kein Chrome"):
        lighthouse.measure("http://127.0.0.1:9", "chromium", tmp_path)


def test_one_slow_run_of_three_does_not_count(measure_as, capsys):
    code, result, asked = measure_as(GOOD, GOOD | {"performance": 40}, GOOD)
    assert code == 0 and len(asked) == 3
    assert result["pages"]["index"]["median"] == GOOD
    assert result["pages"]["index"]["runs"][1]["performance"] == 40
    shown = capsys.readouterr().out
    assert "schlechteste" in shown and "zu wenig" not in shown


@pytest.mark.parametrize("name", lighthouse.LIMITS)
def test_one_point_below_the_limit_is_red(measure_as, capsys, name):
    low = GOOD | {name: lighthouse.LIMITS[name] - 1}
    code, *_ = measure_as(low, low, GOOD)
    assert code == 1
    assert f"{name} {low[name]} statt {GOOD[name]}" in capsys.readouterr().out


def test_page_that_cannot_be_measured_is_red_and_others_go_on(measure_as, capsys):
    code, result, asked = measure_as(
        ValueError("NO_FCP"), GOOD, GOOD, GOOD, pages=("index", "search.html")
    )
    assert code == 1 and list(result["pages"]) == ["search"]
    assert asked[-1].endswith("/search.html")
    assert "nicht gemessen: NO_FCP" in capsys.readouterr().out


def test_unknown_page_is_named(measure_as):
    with pytest.raises(SystemExit, match="gibt es nicht: book/nirgends"):
        measure_as(pages=("book/nirgends",))
