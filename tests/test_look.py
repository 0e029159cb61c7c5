"""Ein Aussehen: Diagramme aus einem Satz, Farben mit Gegenstück und Kontrast in beiden Schemata."""

import json
import re
import sys
from itertools import pairwise, product

import pytest
import yaml

from texts import ROOT

sys.path.insert(0, str(ROOT / "book" / "_ext"))
from diagrams import drawing
from stylesheet import prune

DIAGRAMS = sorted((ROOT / "book/_static/diagrams").glob("*.svg"))
CSS = (ROOT / "book/_static/site.css").read_text(encoding="utf-8")
SANS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif"
MONO = "ui-monospace, 'SF Mono', Menlo, Consolas, monospace"
# Was ein Diagramm enthalten darf: eine Schriftgröße, ein Satz Farben, Striche und Ecken.
ALLOWED = {
    "font-size": {"15"},
    "font-family": {SANS, MONO},
    "font-weight": {"600"},
    "fill": {"none", "#ffffff", "#1b2a33", "#51626c", "#0b6e75", "#e6f1f2", "#b3261e"}
    | {"#fcefee", "#fdf3e3"},
    "stroke": {"#1b2a33", "#0b6e75", "#b3261e", "#9a6200"},
    # Rahmen, Pfeil, das Wichtigste, Balken
    "stroke-width": {"1.5", "2", "2.5", "7"},
    # Grenze, Weg
    "stroke-dasharray": {"6 5", "5 4"},
    # Datei, Marke, Kasten, Grenze, Grund
    "rx": {"4", "6", "8", "10", "12"},
    "markerWidth": {"7"},
}


@pytest.mark.parametrize("path", DIAGRAMS, ids=lambda path: path.stem)
def test_diagrams_are_of_one_set(path):
    svg = path.read_text(encoding="utf-8")
    head = svg[: svg.index(">")]
    assert f'font-family="{SANS}" font-size="15"' in head, "Schrift fehlt am Anfang"
    width, height = map(float, re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', head).groups())
    assert width <= 436, f"{width} breit: Auf dem Telefon wäre ein Teil verdeckt."
    assert f'<rect width="{width:g}" height="{height:g}" rx="12" fill="#ffffff"/>' in svg
    for name, allowed in ALLOWED.items():
        used = set(re.findall(rf'[ ]{name}="([^"]*)"', svg))
        assert used <= allowed, f"{name}: {sorted(used - allowed)}"
    assert "style" not in svg, "Was hier steht, folgt dem Farbschema der Seite nicht."


def test_every_colour_has_a_counterpart_in_the_page():
    for name in ("fill", "stroke"):
        for colour in ALLOWED[name] - {"none"}:
            assert f'.diagram [{name}="{colour}"] {{ {name}: ' in CSS, f"{name} {colour}"


def luminance(colour: str) -> float:
    """Relative Leuchtdichte nach WCAG."""
    digits = colour.lstrip("#")
    digits = "".join(2 * digit for digit in digits) if len(digits) == 3 else digits
    parts = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", ["html[data-theme]", 'html[data-theme="dark"]'])
def test_text_stands_out_on_every_ground(scheme):
    block = re.search(rf"{re.escape(scheme)} {{(.*?)}}", CSS, re.DOTALL)[1]
    colours = dict(re.findall(r"--([\w-]+): (#\w+);", block))
    texts = ("pst-color-text-base", "pst-color-text-muted", "pst-color-primary", "problem")
    grounds = ("pst-color-background", "pst-color-surface", "soft", "problem-soft")
    for text, ground in product(texts, grounds):
        bright, dark = sorted((luminance(colours[text]), luminance(colours[ground])), reverse=True)
        contrast = (bright + 0.05) / (dark + 0.05)
        assert contrast >= 4.5, f"{text} auf {ground}: {contrast:.1f}"


def test_colours_in_selectors_are_no_names():
    rule = '.diagram [fill="#fff"]{fill:red}'
    assert prune(rule, {"diagram"}) == rule
    assert prune(rule, set()) == ""


def test_drawing_has_own_names_and_the_text_of_the_page():
    html = drawing(ROOT / "book/_static/diagrams/process.svg", 'Ein "Bild" & mehr')
    assert 'aria-label="Ein &quot;Bild&quot; &amp; mehr"' in html
    assert 'id="process-a"' in html and "url(#process-a)" in html and "url(#a)" not in html
    assert "<title" not in html and "<desc" not in html


def pages(entries: list[dict]) -> list[str]:
    """Alle Seiten in der Reihenfolge, in der sie sich blättern lassen."""
    found = []
    for entry in entries:
        found += [entry["file"], *pages(entry.get("sections", []))]
    return found


def test_summaries_lead_where_the_next_button_leads():
    parts = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))["parts"]
    chapters = next(part["chapters"] for part in parts if part["caption"] == "Kapitel")
    wrong = []
    for page, following in pairwise(pages(chapters)):
        notebook = ROOT / f"{page}.ipynb"
        if not notebook.exists():
            continue
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        summary = next(
            text for cell in cells if "## Zusammenfassung" in (text := "".join(cell["source"]))
        )
        name = following.rpartition("/")[2]
        link = f"{name}.ipynb" if following.startswith("notebooks/") else f"../{following}.md"
        if f"]({link})" not in summary.strip().splitlines()[-1]:
            wrong.append(f"{page}: weiter geht es mit {link}")
    assert not wrong, "\n".join(wrong)
