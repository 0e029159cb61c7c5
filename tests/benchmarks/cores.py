"""Ein Kern für den Dienst, einer für die Last: so misst jede Messung dasselbe."""

import psutil

CORES = psutil.Process().cpu_affinity() if hasattr(psutil.Process, "cpu_affinity") else []


def pin(number: int) -> None:
    """Bindet diesen Prozess und was er startet an einen Kern; macOS kennt das nicht."""
    if CORES:
        psutil.Process().cpu_affinity([CORES[number]])
