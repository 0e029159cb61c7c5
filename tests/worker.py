"""Ein Prozess für viele Fragen: Was Sekunden zum Importieren braucht, startet nur einmal."""

import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def worker(command: list[str], seconds: float, **options: object) -> Iterator[Callable]:
    """Gibt eine Funktion, die dem Prozess eine Zeile JSON schickt und seine Zeile zurückgibt."""
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8", **options
    ) as child:

        def ask(question: object) -> object:
            # Sonst hielte ein hängender Befehl den ganzen Lauf auf, ohne dass jemand ihn nennt.
            late = threading.Timer(seconds, child.kill)
            late.start()
            try:
                child.stdin.write(json.dumps(question) + "\n")
                child.stdin.flush()
                answer = child.stdout.readline()
                assert answer, f"Keine Antwort, Ende spätestens nach {seconds} s: {question}"
                return json.loads(answer)
            finally:
                late.cancel()

        yield ask
