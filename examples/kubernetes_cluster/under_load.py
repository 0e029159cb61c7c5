"""Einen Eingriff unter Last vornehmen und zählen, was aus den Anfragen wurde.

Aufruf: `python -m examples.kubernetes_cluster.under_load price --settle -- kubectl …`
Gefragt wird im Cluster, von einem eigenen Pod aus, je Anfrage mit neuer Verbindung: Nur dann wählt
der Service jedes Mal neu. Die Last beginnt vor dem Eingriff und endet nach seinen Folgen.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from examples.kubernetes_cluster.kubectl import APP, ClusterError, items, ready, replaced, run
from examples.load_balancing.load import positive

URL = "http://price-api/predict"
FOLDER = Path(__file__).parent
LEAD_SECONDS = 2  # so lange läuft die Last mindestens davor und danach
LIMIT_SECONDS = 90


def settled(namespace: str) -> bool:
    """Sagt, ob jeder Austausch beendet ist: alle Pods neu, alle bereit, keiner mehr im Gehen."""
    # Nach den Pods nur, wenn der Austausch so weit ist: Jede Frage startet ein kubectl.
    return replaced(namespace) and all(ready(pod) or ended(pod) for pod in items(namespace, "pods"))


def ended(pod: dict) -> bool:
    """Sagt, ob ein Pod im Gehen nicht mehr antwortet; bis er ganz fort ist, vergehen Sekunden."""
    containers = pod["status"].get("containerStatuses", [])
    return "deletionTimestamp" in pod["metadata"] and not any(c["ready"] for c in containers)


@contextmanager
def load_pod(namespace: str) -> Iterator[str]:
    """Ein frischer Pod für die Last, ohne Verbindungen aus der vorigen Messung."""
    kubectl = ["kubectl", "-n", namespace]
    manifest = str(FOLDER / "load_pod.yaml")
    name = run([*kubectl, "create", "-f", manifest, "-o", "jsonpath={.metadata.name}"])
    try:
        run([*kubectl, "wait", "--for=condition=Ready", f"pod/{name}", "--timeout=60s"])
        yield name
    finally:
        run([*kubectl, "delete", "pod", name, "--ignore-not-found", "--wait=false"])


def run_under_load(
    namespace: str,
    action: list[str],
    seconds: float = 0,
    rate: float = 100,
    settle: bool = False,
    retry: bool = False,
    until: str = "",
) -> dict:
    """Gibt Last, führt `action` aus und gibt die Zählung des Lastgenerators zurück.

    Danach läuft die Last noch `seconds`, mit `settle` außerdem, bis alle Folgen beendet sind, mit
    `until`, bis ein Pod diesen Text in sein Log schreibt.
    Mit `retry` zählt eine Anfrage erst als gescheitert, wenn auch ihre Wiederholungen scheitern.
    """
    driver = (FOLDER / "driver.py").read_text("utf-8")
    if settle:
        wait_until_settled(namespace)  # sonst zählten die Folgen des vorigen Eingriffs mit
    with load_pod(namespace) as pod:
        load = subprocess.Popen(
            ["kubectl", "-n", namespace, "exec", "-i", pod, "--", "python", "-c", driver]
            + [URL, str(rate), str(LIMIT_SECONDS), *["retry"] * retry],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        try:
            # Leer, wenn der Lastgenerator schon gescheitert ist; dann geschieht kein Eingriff.
            if load.stdout.readline():
                time.sleep(LEAD_SECONDS)
                if action:
                    run(action)
                    time.sleep(LEAD_SECONDS)
                if settle:
                    wait_until_settled(namespace)
                if until:
                    wait_until(lambda: until in logs(namespace), f"Im Log stand nie: {until}")
                time.sleep(seconds)
            early = load.poll() is not None
            # `communicate` schließt die Eingabe; daran endet die Last.
            said, complaint = load.communicate(timeout=LIMIT_SECONDS)
        except subprocess.TimeoutExpired:
            raise ClusterError("Der Lastgenerator wurde nicht fertig.") from None
        finally:
            load.kill()
    if load.returncode:
        raise ClusterError(f"Der Lastgenerator ist gescheitert: {complaint.strip()}")
    if early:
        raise ClusterError(
            f"Die Last endet nach {LIMIT_SECONDS} s, der Eingriff dauerte länger: "
            "Was danach geschah, ist nicht gezählt."
        )
    return json.loads(said)


def wait_until_settled(namespace: str) -> None:
    """Wartet auf das Ende aller Folgen."""
    wait_until(lambda: settled(namespace), "Der Eingriff wurde nicht beendet")


def wait_until(condition: Callable[[], bool], complaint: str) -> None:
    """Wartet auf eine Bedingung, höchstens so lange, wie die Last laufen darf."""
    deadline = time.monotonic() + LIMIT_SECONDS - 3 * LEAD_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise ClusterError(
                f"{complaint}; gewartet wurde {LIMIT_SECONDS - 3 * LEAD_SECONDS:g} s."
            )
        time.sleep(1)


def logs(namespace: str) -> str:
    """Alle Zeilen, die die Pods des Dienstes bisher ausgegeben haben."""
    options = ["--selector", APP, "--tail=-1", "--ignore-errors"]
    return run(["kubectl", "-n", namespace, "logs", *options])


def main() -> int:
    """Zeigt die Zählung als eine Zeile JSON; ein Fehler ist eine Zeile und der Exitcode 1."""
    parser = argparse.ArgumentParser(
        description="Einen Eingriff unter Last vornehmen.",
        epilog="Hinter -- steht der Eingriff; ohne ihn läuft nur die Last.",
    )
    parser.add_argument("namespace", help="Namensraum mit dem Dienst")
    parser.add_argument("--seconds", type=float, default=0, help="so lange noch nach dem Eingriff")
    parser.add_argument("--rate", type=positive, default=100, help="Anfragen je Sekunde")
    parser.add_argument("--settle", action="store_true", help="auf das Ende der Folgen warten")
    parser.add_argument("--until", default="", help="bis dieser Text in einem Log steht")
    parser.add_argument("--retry", action="store_true", help="gescheiterte Fragen wiederholen")
    parser.add_argument("--servers", action="store_true", help="auch zählen, wer geantwortet hat")
    # `argparse` reichte Optionen des Eingriffs sonst nicht durch.
    own, action = sys.argv[1:], []
    if "--" in own:
        own, action = own[: own.index("--")], own[own.index("--") + 1 :]
    options = parser.parse_args(own)
    if options.seconds < 0:
        parser.error("Eine Dauer ist nie negativ.")
    if action[:1] == ["python"]:
        action[0] = sys.executable  # in einer Umgebung heißt es nicht überall so
    try:
        counted = run_under_load(
            options.namespace,
            action,
            options.seconds,
            options.rate,
            options.settle,
            options.retry,
            options.until,
        )
    except ClusterError as error:
        print(error, file=sys.stderr)
        return 1
    shown = ["sent", "answered", "failed", *["by_server"] * options.servers]
    print(json.dumps({name: counted[name] for name in shown}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
