"""Einen Befehl ausführen und zählen, wie oft er eine Verbindung nach draußen versucht.

Der Befehl bekommt diesen Prozess als Proxy genannt. Jeder Versuch landet hier und endet hier.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import threading

from examples.ab_test.options import port

PORT = 8245


def listen(server: socket.socket, asked: list[str]) -> None:
    """Nimmt an, merkt sich, wer gemeint war, und legt auf."""
    while True:
        try:
            connection, _ = server.accept()
        except OSError:  # geschlossen: Der Befehl ist zu Ende
            return
        with connection:
            connection.settimeout(5)
            try:
                line = connection.recv(1000).decode("latin-1").split("\r\n")[0]
            except OSError:
                line = ""
            # Die erste Zeile ist `CONNECT host:443 HTTP/1.1`.
            asked.append(line.split(" ")[1] if line.startswith("CONNECT ") else line)


def watch(command: list[str], port: int = PORT) -> dict:
    """Gibt Exitcode, Zahl der Versuche und die gemeinten Adressen zurück."""
    asked: list[str] = []
    with socket.create_server(("127.0.0.1", port)) as server:
        threading.Thread(target=listen, args=(server, asked), daemon=True).start()
        proxy = f"http://127.0.0.1:{server.getsockname()[1]}"
        names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
        env = {**os.environ, **dict.fromkeys(names, proxy), "NO_PROXY": "", "no_proxy": ""}
        done = subprocess.run(command, env=env, stdout=subprocess.DEVNULL)
    return {"exit": done.returncode, "attempts": len(asked), "asked": sorted(set(asked))}


def main() -> int:
    """Führt den Befehl mit diesem Python aus; nennt das Ergebnis als JSON."""
    parser = argparse.ArgumentParser(description="Verbindungsversuche eines Programms zählen")
    parser.add_argument("--port", type=port, default=PORT)
    parser.add_argument("command", nargs="+", help="nach --: Argumente für Python")
    arguments = parser.parse_args()
    try:
        print(json.dumps(watch([sys.executable, *arguments.command], arguments.port)))
    except OSError as error:
        print(f"Port {arguments.port} lässt sich nicht öffnen: {error.strerror}.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
