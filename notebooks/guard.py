"""Der Wächter eines Dienstes: Reißt die Pipe zu ihm, so beendet er den Dienst samt Kindern.

Aufruf: python guard.py LOG BEFEHL …

Eine eigene Datei, weil er mit jedem Dienst startet und schneller bereit ist als alles, was
`process.py` importiert.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading

import psutil

GRACE_SECONDS = 5


def watch(log: str, command: list[str]) -> int:
    """Startet den Befehl und wartet, bis er endet; gibt seinen Exitcode zurück."""
    child = psutil.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    family: list[psutil.Process] = []
    orphaned = threading.Event()

    def end_with_parent() -> None:
        # Kehrt zurück, sobald der Kernel die Pipe schließt oder stirbt.
        if not sys.stdin.buffer.read():
            orphaned.set()
        with contextlib.suppress(psutil.NoSuchProcess):
            family.extend(child.children(recursive=True))
            child.terminate()
            psutil.wait_procs([child], GRACE_SECONDS)
            child.kill()

    threading.Thread(target=end_with_parent, daemon=True).start()
    code = child.wait()
    for orphan in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            orphan.kill()
    if os.name == "nt":
        psutil.wait_procs(family, GRACE_SECONDS)  # Windows löscht nichts, was sie noch offen halten
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)  # Kinder, die ihren Vater überlebt haben
    if orphaned.is_set():  # wer noch lebt, liest das Log und löscht es selbst
        with contextlib.suppress(OSError):
            os.unlink(log)
    return code


if __name__ == "__main__":
    # Nicht sys.exit: Der Thread an der Pipe störte das Herunterfahren mit einer Meldung.
    # Kein Code heißt: Der Thread hat das Ende des Dienstes zuerst gesehen.
    os._exit(watch(sys.argv[1], sys.argv[2:]) or 0)
