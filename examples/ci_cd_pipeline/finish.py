"""Den Wechsel abschließen: alle Fragen an Produktion, und der Kandidat ist der neue Champion.

Aufruf: python -m examples.ci_cd_pipeline.finish ORDNER --router URL
"""

import argparse
import shutil
import sys
from pathlib import Path

import httpx

from examples.ab_test.options import address
from examples.ci_cd_pipeline.canary import CanaryError, assigned, split


def crown(folder: Path) -> None:
    """Legt den Kandidaten an die Stelle des Champions; der alte bleibt als `previous`."""
    champion, previous, fresh = folder / "champion", folder / "previous", folder / "champion.new"
    shutil.rmtree(fresh, ignore_errors=True)
    # Erst die ganze Kopie: Auf voller Platte bleibt der alte Champion, wo er ist.
    shutil.copytree(folder / "candidate", fresh)
    shutil.rmtree(previous, ignore_errors=True)
    try:
        champion.replace(previous)
        fresh.replace(champion)
    except BaseException:  # auch von Hand abgebrochen
        if previous.exists() and not champion.exists():
            previous.replace(champion)
        raise


def main() -> int:
    """Nimmt den Verkehr vom Platz des Kandidaten, räumt ihn und rückt den Champion nach."""
    parser = argparse.ArgumentParser(description="Den Wechsel abschließen.")
    parser.add_argument("folder", type=Path, help="Ordner des Laufs")
    parser.add_argument("--router", type=address, required=True)
    options = parser.parse_args()
    try:
        with httpx.Client(base_url=options.router, timeout=10, trust_env=False) as client:
            assigned(client)  # ein Rollback, das währenddessen kam, löschte `split`
            split(client, 0, "In Produktion")
        (options.folder / "state" / "staging.json").unlink(missing_ok=True)
        crown(options.folder)
    except CanaryError as error:
        print(f"Nicht abgeschlossen, in Produktion läuft schon das Neue: {error}", file=sys.stderr)
        return 1
    except httpx.HTTPError:
        print("Der Router antwortet nicht; der Anteil steht noch.", file=sys.stderr)
        return 1
    except OSError as error:
        reason = error.strerror or "nicht alle Dateien ließen sich kopieren"
        print(f"Der Champion ließ sich nicht ablösen: {reason}.", file=sys.stderr)
        return 1
    print("Produktion beantwortet alle Fragen.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
