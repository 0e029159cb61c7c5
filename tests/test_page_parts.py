"""Was den Seiten beim Bau abgenommen wird: unbenutzte Regeln im Stil, große Bilder."""

from types import SimpleNamespace

import accessible
import pytest
import self_contained
import soak_table
import stylesheet
from images import WebP, measure
from PIL import Image
from sphinx.errors import ExtensionError


@pytest.mark.parametrize(
    ("css", "kept"),
    [
        (".used{top:0}", ".used{top:0}"),
        (".gone{top:0}", ""),
        (".used .gone, .used{top:0}", ".used{top:0}"),
        (".used:not(.gone, .too){top:0}", ".used:not(.gone, .too){top:0}"),
        # Drei Klammern ineinander, mit Kommas auf jeder Ebene.
        (
            ".gone, .used:not(:is(.a, :has(.b:not(.c, .d))), .e) p{top:0}",
            ".used:not(:is(.a, :has(.b:not(.c, .d))), .e) p{top:0}",
        ),
        ("@media print{.gone{top:0}.used{top:0}}", "@media print{.used{top:0}}"),
    ],
)
def test_style_keeps_exactly_the_used_rules(css, kept):
    assert stylesheet.prune(css, {"used"}) == kept


@pytest.mark.parametrize(
    "html",
    [
        '<img src="//example.org/a.png">',
        '<img srcset="https://example.org/a.png 2x">',
        '<video poster="HTTPS://example.org/a.png">',
        '<object data="https://example.org/a">',
        '<link rel="stylesheet" href="https://example.org/a.css">',
        '<svg><use xlink:href="https://example.org/a.svg#b"/></svg>',
        '<p style="background: url(https://example.org/a.png)">',
        "<style>@import '//example.org/a.css';</style>",
        "<script>fetch('https://example.org/zaehler')</script>",
    ],
)
def test_whatever_a_browser_would_load_is_found(html):
    loads = self_contained.Loads()
    loads.feed(html)
    assert len(loads.found) == 1


def test_what_a_reader_may_click_is_not_loaded():
    loads = self_contained.Loads()
    loads.feed('<a href="https://example.org">x</a><link rel="canonical" href="https://x.example">')
    loads.feed('<img src="_images/a.webp"><p>fetch("https://example.org")</p>')
    assert loads.found == []


def test_common_style_that_loads_something_breaks_the_build(tmp_path):
    (tmp_path / "_static").mkdir()
    style = tmp_path / "_static" / stylesheet.BUNDLE
    app = SimpleNamespace(outdir=tmp_path, builder=SimpleNamespace(name="html"))
    style.write_text("a{background:url(a.svg)}", encoding="utf-8")
    self_contained.refuse_foreign(app, None)
    style.write_text("a{background:url(https://example.org/a.svg)}", encoding="utf-8")
    with pytest.raises(ExtensionError, match=r"example\.org"):
        self_contained.refuse_foreign(app, None)


def test_file_name_is_no_text_for_an_image():
    images = accessible.Images()
    images.feed('<img src="a.svg" alt="../a.SVG"><img src="b.svg" alt=" "><img src="c.svg">')
    images.feed('<img src="d.svg" alt="Ein Punkt auf einer Linie">')
    assert images.found == ["a.svg", "b.svg", "c.svg"]


def test_screenshot_becomes_webp_without_loss(tmp_path):
    source, target = tmp_path / "shot.png", tmp_path / "shot.webp"
    Image.effect_noise((60, 40), 50).convert("RGBA").save(source)
    assert WebP.convert(None, str(source), str(target))
    with Image.open(source) as before, Image.open(target) as after:
        assert after.format == "WEBP"
        assert before.tobytes() == after.convert("RGBA").tobytes()
    assert measure(target) == (60, 40)


def test_drawing_needs_a_view_box(tmp_path):
    drawing = tmp_path / "drawing.svg"
    drawing.write_text('<svg viewBox="0 0 800 250"></svg>', encoding="utf-8")
    assert measure(drawing) == (800, 250)
    drawing.write_text("<svg></svg>", encoding="utf-8")
    with pytest.raises(ExtensionError, match="viewBox"):
        measure(drawing)


def test_endurance_of_a_service_becomes_a_row():
    numbers = {"seconds": 600, "sent": 1403, "server_errors": 0, "memory_mb": 59}
    numbers |= {"growth_percent": -0.8, "left": 0, "wrong": 0}
    found = {"date": "2026-11-26", "machine": "Linux", "services": {}}
    assert soak_table.lines(found, "") == ["Noch ist keine Messung hinterlegt."]
    found["services"] = {"flask_service with gunicorn": numbers}
    said, _, *_, row = soak_table.lines(found, "../../")
    assert said == "Zuletzt gemessen am 26. November 2026 (Linux)."
    service = "[Flask](../../notebooks/flask_service.ipynb), `gunicorn`"
    assert row == f"| {service} | 1\u202f403 | 0 | 59 MB | −0,8 % | 0 |"
