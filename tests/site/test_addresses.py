"""Ohne die Adresse des Repositorys fehlen die Knöpfe; mit ihr baut tests/test_gates.py."""


def test_without_address_there_are_no_dead_buttons(site):
    page = (site / "notebooks/joblib_model.html").read_text(encoding="utf-8")
    assert "/edit/" not in page and "mybinder" not in page
