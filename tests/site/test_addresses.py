"""Ohne die Adresse des Repositorys fehlen die Knöpfe; mit ihr baut tests/test_gates.py."""

import re
from types import SimpleNamespace

import addresses

SITE = "https://beispiel.github.io/buch/"


def test_without_address_there_are_no_dead_buttons(site):
    page = (site / "notebooks/joblib_model.html").read_text(encoding="utf-8")
    assert "/edit/" not in page and "mybinder" not in page


def test_sitemap_names_every_page(tmp_path, toc_pages):
    # Das kleine Buch in tests/test_gates.py hat keine Seiten in Unterordnern.
    app = SimpleNamespace(
        outdir=tmp_path,
        builder=SimpleNamespace(name="html", get_target_uri="{}.html".format),
        config=SimpleNamespace(root_doc=toc_pages[0], html_title="Buch", html_baseurl=SITE),
        env=SimpleNamespace(found_docs=set(toc_pages)),
    )
    addresses.write_entry_files(app, None)
    found = re.findall("<loc>(.*)</loc>", (tmp_path / "sitemap.xml").read_text(encoding="utf-8"))
    assert found == [f"{SITE}{name}.html" for name in sorted(toc_pages)]
