"""Ein Router mit einem Fehler, der oft vorkommt: Er schreibt auf, wer geantwortet hat.

Scheitert die Behandlung, so steht der Nutzer im Protokoll beim Kontrollarm. Die Zahlen der Arme
passen dann nicht mehr zum Anteil, und die Gescheiterten fehlen gerade dort, wo sie zählen.
Aufruf und Angaben wie bei examples.ab_test.router.
"""

import sys

from examples.ab_test.router import Router, serve


class BrokenRouter(Router):
    """Verwechselt Zuteilung und Antwort."""

    def expose(
        self, user: str, identity: str, arm: str, served_by: str, share: float, version: str
    ) -> None:
        """Schreibt den Arm auf, der geantwortet hat."""
        super().expose(user, identity, served_by, served_by, share, version)


if __name__ == "__main__":
    sys.exit(serve(BrokenRouter))
