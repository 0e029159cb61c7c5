"""Zwei Prozesse schreiben in dieselbe Datei und werden beendet, geordnet oder nicht.

Aufruf: `python -m examples.service_logging.shared_file print|handler [--kill]`
"""

import argparse
import io
import json
import logging
import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from examples.service_logging.journal import LOGGER, DayFile, JsonFormatter, read

# So wenige, dass alle in den Puffer von stdout passen.
LINES = 50
WORKERS = 2


def work(way: str, folder: Path) -> None:
    """Schreibt seine Zeilen, meldet sich und wartet, bis der Aufrufer stdin schließt."""
    handler = DayFile(folder)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger(LOGGER)
    logger.addHandler(handler)
    logger.setLevel("INFO")
    for number in range(LINES):
        if way == "handler":
            logger.info("prediction", extra={"rows": [{"number": number}]})
        else:
            print(json.dumps({"event": "prediction", "number": number}))
    sys.stderr.write("written\n")
    sys.stderr.flush()
    sys.stdin.read()


class Recorder(io.RawIOBase):
    """Merkt sich jeden Aufruf des Betriebssystems, statt zu schreiben."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[bytes] = []

    def writable(self) -> bool:
        """Ja, sonst fragt niemand."""
        return True

    def write(self, data: bytes) -> int:
        """Nimmt alles an."""
        self.calls.append(bytes(data))
        return len(data)


def pieces() -> int:
    """Zählt, in wie vielen Stücken print eine Zeile ohne Puffer schreibt."""
    recorder = Recorder()
    print("{}", file=io.TextIOWrapper(recorder, write_through=True))
    return len(recorder.calls)


def compare(way: str, kill: bool) -> dict[str, int]:
    """Lässt beide schreiben, beendet sie und zählt, was danach lesbar in der Datei steht."""
    # Ohne diese Variable ist stdout gepuffert, sobald es in eine Datei geht.
    env = {name: text for name, text in os.environ.items() if name != "PYTHONUNBUFFERED"}
    pipes = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = [sys.executable, "-m", __spec__.name, way, "--work", name]
        with open(folder / f"{datetime.now(UTC):%Y-%m-%d}.jsonl", "ab") as file:
            workers = [
                subprocess.Popen(command, stdout=file, env=env, **pipes) for _ in range(WORKERS)
            ]
            try:
                # Erst haben alle geschrieben, dann endet einer nach dem anderen.
                for worker in workers:
                    worker.stderr.readline()
                for worker in workers:
                    if kill:
                        worker.kill()
                    worker.communicate()
            finally:
                for worker in workers:
                    worker.kill()
                    worker.wait()
        readable = sum(line is not None for line in read(folder))
    return {"written": WORKERS * LINES, "readable": readable}


def main() -> None:
    """Vergleicht oder ist, mit --work, einer der beiden Prozesse."""
    parser = argparse.ArgumentParser(description="Mehrere Prozesse, eine Datei")
    parser.add_argument("way", choices=["print", "handler", "pieces"])
    parser.add_argument("--kill", action="store_true", help="mit SIGKILL beenden")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.way, options.work)
    else:
        pieces_only = options.way == "pieces"
        print(json.dumps(pieces() if pieces_only else compare(options.way, options.kill)))


if __name__ == "__main__":
    main()
