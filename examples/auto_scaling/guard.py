"""Der Wächter: beendet alle Prozesse eines Ray-Clusters, sobald dessen Starter endet.

Ray verteilt seine Prozesse auf mehrere Sitzungen und benennt sie um; weder der Stammbaum noch
die Umgebungsvariablen verraten danach, wozu sie gehören. Gemeinsam ist ihnen der Ordner des
Clusters: Er steht in ihrem Aufruf, oder eine ihrer offenen Dateien liegt darin.
"""

import contextlib
import os
import shutil
import sys
import time
from pathlib import Path

import psutil

TIMEOUT_SECONDS = 20


def belongs(process: psutil.Process, folder: str) -> bool:
    """Sagt, ob ein Prozess mit dem Ordner des Clusters zu tun hat."""
    with contextlib.suppress(psutil.Error):
        if any(folder in argument for argument in process.cmdline()):
            return True
        return any(file.path.startswith(folder) for file in process.open_files())
    return False


def members(folder: str, *spared: int) -> list[psutil.Process]:
    """Gibt alle Prozesse des Clusters zurück, außer den verschonten."""
    return [p for p in psutil.process_iter() if p.pid not in spared and belongs(p, folder)]


def end(folder: str, *spared: int) -> bool:
    """Beendet alle, bis keiner mehr da ist; falsch, wenn die Zeit nicht reicht."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while processes := members(folder, *spared):
        if time.monotonic() > deadline:
            return False
        for process in processes:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(processes, 0.2)
    return True


def detach() -> None:
    """Verlässt den Stammbaum: Wer alle Kinder des Starters beendet, soll ihn nicht treffen."""
    if hasattr(os, "fork") and os.fork():
        os._exit(0)


def main() -> None:
    """Wartet, bis die Pipe zum Starter reißt, und räumt dann auf."""
    folder, starter = sys.argv[1], int(sys.argv[2])
    detach()
    sys.stdin.buffer.read()
    if end(folder, os.getpid(), starter):
        shutil.rmtree(folder, ignore_errors=True)
    # Der Starter wartet auf das Ende dieser Ausgabe.
    sys.stdout.close()


if __name__ == "__main__":
    if not Path(sys.argv[1]).is_dir():
        sys.exit(f"Den Ordner gibt es nicht: {sys.argv[1]}")
    main()
