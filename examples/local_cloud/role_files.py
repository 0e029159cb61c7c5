"""Was die Prüfer von Rechten bei drei Plattformen gemeinsam haben: je Datei die Befunde nennen."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn


def check(findings: Callable[[Path], list[str]]) -> NoReturn:
    """Nennt je Datei aus der Befehlszeile die Befunde; Exitcode 1, wenn es welche gibt."""
    if not sys.argv[1:]:
        sys.exit(f"Aufruf: python -m {sys.modules['__main__'].__spec__.name} DATEI …")
    failed = False
    for path in map(Path, sys.argv[1:]):
        try:
            found = findings(path)
        except (OSError, UnicodeDecodeError) as error:
            found = [f"nicht lesbar: {error}"]
        failed |= bool(found)
        print(f"{path.name}: {'; '.join(found) or 'in Ordnung'}")
    sys.exit(failed)
