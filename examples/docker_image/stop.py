"""Einen Container mitten in der Arbeit stoppen und zählen, was verloren geht.

Eine Frage läuft schon, wenn `docker stop` kommt; eine zweite folgt, sobald der Container
gegangen ist, spätestens aber kurz vor Ablauf der Frist.

Aufruf: python -m examples.docker_image.stop IMAGE [PORT]
"""

import contextlib
import http.client
import json
import subprocess
import sys
import threading
import time

from examples.price_model.schema import EXAMPLE

DELAY_SECONDS, LATE_SECONDS, GRACE_SECONDS = 4, 6.5, 8
# Eine Absage kommt sofort; was länger dauert, war angenommen und starb mit dem Container.
REFUSED_WITHIN_SECONDS = 0.75
BODY, HEADERS = json.dumps(EXAMPLE), {"Content-Type": "application/json"}


def docker(*arguments: str) -> str:
    """Ruft `docker` auf und gibt die Ausgabe ohne Zeilenende zurück."""
    done = subprocess.run(["docker", *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def ready(port: int, timeout: float = 100) -> http.client.HTTPConnection:
    """Wartet, bis der Dienst bereit ist; gibt die Verbindung zurück, über die er es sagte."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            connection.request("GET", "/health/ready")
            response = connection.getresponse()
            response.read()
            if response.status == 200:
                return connection
        except (OSError, http.client.HTTPException):
            pass
        connection.close()
        time.sleep(0.05)
    raise TimeoutError(f"Der Container war nach {timeout:g} s nicht bereit.")


def ask(connection: http.client.HTTPConnection) -> int | str:
    """Stellt die Beispielfrage; gibt den Status zurück oder wie sie scheiterte."""
    started = time.monotonic()
    try:
        connection.request("POST", "/predict", BODY, HEADERS)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        seconds = time.monotonic() - started
        return "abgewiesen" if seconds < REFUSED_WITHIN_SECONDS else "abgebrochen"
    finally:
        connection.close()


def stop_while_working(image: str, port: int, *command: str) -> dict[str, int | str]:
    """Gibt zurück, wie die laufende und die späte Frage ausgingen, und den Exitcode.

    `command` ersetzt das `CMD` des Images.
    """
    delay = f"PRICE_DELAY_SECONDS={DELAY_SECONDS}"
    publish = f"127.0.0.1:{port}:8000"
    # Nicht `run`: Ist der Port belegt, bliebe ein Container liegen, dessen Namen niemand kennt.
    name = docker("create", "--env", delay, "--publish", publish, image, *command)
    try:
        docker("start", name)
        outcome: dict[str, int | str] = {}
        # Dieselbe Verbindung: Der Dienst hat sie schon angenommen, die Frage liegt sofort vor.
        running = ready(port)
        asking = threading.Thread(target=lambda: outcome.update(running=ask(running)))
        asking.start()
        time.sleep(0.3)
        stop = ["docker", "stop", "-t", str(GRACE_SECONDS), name]
        with subprocess.Popen(stop, stdout=subprocess.DEVNULL) as stopping:
            # Entweder ist der Container schon gegangen, oder die Frist läuft bald ab.
            with contextlib.suppress(subprocess.TimeoutExpired):
                stopping.wait(LATE_SECONDS)
            outcome["late"] = ask(http.client.HTTPConnection("127.0.0.1", port, timeout=30))
        asking.join()
        return outcome | {
            "exit_code": int(docker("inspect", "--format", "{{.State.ExitCode}}", name))
        }
    finally:
        docker("rm", "--force", name)


def main() -> int:
    """Gibt den Ausgang als eine Zeile JSON aus."""
    if len(sys.argv) not in (2, 3):
        print("Aufruf: python -m examples.docker_image.stop IMAGE [PORT]", file=sys.stderr)
        return 2
    if len(sys.argv) == 3 and not sys.argv[2].isdecimal():
        print(f"{sys.argv[2]!r} ist kein Port.", file=sys.stderr)
        return 2
    port = int(sys.argv[2]) if len(sys.argv) == 3 else 8133
    try:
        print(json.dumps(stop_while_working(sys.argv[1], port)))
    except FileNotFoundError:
        print("Docker ist nicht installiert.", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print(f"docker scheiterte: {error.stderr.strip()}", file=sys.stderr)
        return 1
    except TimeoutError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
