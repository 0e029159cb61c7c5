"""Mit der Adresse des Repositorys erscheinen die Knöpfe, mit der der Seite die Landkarte."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
REPOSITORY = "https://github.com/beispiel/buch"
SITE = "https://beispiel.github.io/buch/"
NOTEBOOK = "notebooks/joblib_model"


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Path:
    """Das Buch, gebaut wie zum Veröffentlichen, in einem eigenen Ordner."""
    folder = tmp_path_factory.mktemp("published")
    command = [Path(sys.executable).parent / "jupyter-book", "build", ".", "-W", "-n", "--quiet"]
    done = subprocess.run(
        [*command, "--path-output", folder],
        cwd=ROOT,
        env=os.environ | {"REPOSITORY_URL": f"{REPOSITORY}.git", "SITE_URL": SITE},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stdout
    return folder / "_build" / "html"


def test_buttons_lead_to_the_repository(published):
    page = (published / f"{NOTEBOOK}.html").read_text(encoding="utf-8")
    assert f'href="{REPOSITORY}/edit/main/{NOTEBOOK}.ipynb"' in page
    assert f"mybinder.org/v2/gh/beispiel/buch/main?urlpath=lab/tree/{NOTEBOOK}.ipynb" in page


def test_download_button_brings_the_notebook(published):
    page = (published / f"{NOTEBOOK}.html").read_text(encoding="utf-8")
    assert f'href="../_sources/{NOTEBOOK}.ipynb" download' in page
    original = (ROOT / f"{NOTEBOOK}.ipynb").read_bytes()
    assert (published / f"_sources/{NOTEBOOK}.ipynb").read_bytes() == original


def test_sitemap_names_every_page(published, toc_pages):
    sitemap = (published / "sitemap.xml").read_text(encoding="utf-8")
    assert sitemap.count("<loc>") == len(toc_pages)
    assert all(f"<loc>{SITE}{name}.html</loc>" in sitemap for name in toc_pages)
    assert f"Sitemap: {SITE}sitemap.xml" in (published / "robots.txt").read_text(encoding="utf-8")


def test_pages_name_their_own_address(published):
    page = (published / f"{NOTEBOOK}.html").read_text(encoding="utf-8")
    assert f'<link rel="canonical" href="{SITE}{NOTEBOOK}.html"' in page
    assert f'<meta property="og:url" content="{SITE}{NOTEBOOK}.html">' in page


def test_without_address_there_are_no_dead_buttons(site):
    page = (site / f"{NOTEBOOK}.html").read_text(encoding="utf-8")
    assert "/edit/" not in page and "mybinder" not in page
