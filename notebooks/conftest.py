"""Sagt nbval, was die Markierung „versions“ bedeutet: ausführen, aber nicht vergleichen."""


def pytest_collection_modifyitems(items: list) -> None:
    """Nimmt die Versionszellen vom Vergleich aus."""
    for item in items:
        if "versions" in item.cell.metadata.get("tags", []):
            item.options["check"] = False
