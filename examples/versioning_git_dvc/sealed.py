"""Eine Umgebung, in der Git und DVC nur ihren Ordner kennen: keine Einstellung, kein Netz.

Aufruf: python -m examples.versioning_git_dvc.sealed ORDNER MONAT
"""

import json
import os
import sys
from pathlib import Path

DATES = {"october": "2026-10-01T12:00:00+00:00", "november": "2026-11-01T12:00:00+00:00"}
SETTINGS = {
    "advice.addIgnoredFile": "false",
    "advice.detachedHead": "false",
    "core.autocrlf": "false",
}


class SealError(RuntimeError):
    """Die Umgebung zeigt schon auf ein anderes Repository."""


def environment(folder: Path, month: str = "october") -> dict[str, str]:
    """Gibt die Variablen zurück, mit denen Git und DVC in `folder` arbeiten.

    Autor und Datum stehen fest; so hängt kein Commit davon ab, wer ihn wann anlegt.
    """
    # Git folgte ihnen auch mit -C; der Versuch landete im Repository des Lesers.
    names = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")
    foreign = [name for name in names if name in os.environ]
    if foreign:
        raise SealError(f"Gesetzt ist {', '.join(foreign)}: Damit arbeitete Git woanders.")
    home = folder.resolve() / "home"
    home.mkdir(parents=True, exist_ok=True)
    nothing = home / "no_settings"  # eine leere Datei: os.devnull versteht Git nicht überall
    nothing.touch()
    person = {"NAME": "Buch", "EMAIL": "buch@example.org", "DATE": DATES[month]}
    places = ("HOME", "USERPROFILE", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME")
    folders = ("DVC_GLOBAL_CONFIG_DIR", "DVC_SYSTEM_CONFIG_DIR", "DVC_SITE_CACHE_DIR")
    roles = ("AUTHOR", "COMMITTER")
    return {
        **{f"GIT_{role}_{key}": text for role in roles for key, text in person.items()},
        **{name: str(home) for name in (*places, *folders)},
        **dict.fromkeys(("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"), str(nothing)),
        # Was sonst von der Version von Git oder vom System abhinge.
        **{"GIT_CONFIG_COUNT": str(len(SETTINGS))},
        **{f"GIT_CONFIG_KEY_{n}": name for n, name in enumerate(SETTINGS)},
        **{f"GIT_CONFIG_VALUE_{n}": value for n, value in enumerate(SETTINGS.values())},
        # Die Stufen rechnen mit dem Python, das diese Zeile ausführt.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        **{"GIT_TERMINAL_PROMPT": "0", "DVC_NO_ANALYTICS": "1", "SHELL": "/bin/sh"},
        "LANGUAGE": "en",  # sonst antwortet Git in der Sprache des Rechners
        # Die Threads von scikit-learn warten sonst in Schleifen aufeinander.
        **{"PYTHONDONTWRITEBYTECODE": "1", "OMP_WAIT_POLICY": "passive"},
    }


def main() -> int:
    """Zeigt die Variablen als JSON."""
    if len(sys.argv) != 3 or sys.argv[2] not in DATES:
        print(__doc__.splitlines()[2], file=sys.stderr)
        return 2
    try:
        print(json.dumps(environment(Path(sys.argv[1]), sys.argv[2])))
    except (SealError, OSError) as error:
        print(f"Fehler: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
