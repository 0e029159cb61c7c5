"""Chromium läuft ohne `AF_NETLINK`, sonst stören es Container, die nebenher starten."""

import subprocess
import sys
from pathlib import Path

import pytest

LAUNCHER = Path(__file__).with_name("chromium.py")
OPEN = """
import socket
socket.create_server(("127.0.0.1", 0)).close()
print("TCP geht", flush=True)
socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).close()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Netlink gibt es nur unter Linux")
def test_only_netlink_is_refused():
    plain = [sys.executable, "-c", OPEN]
    subprocess.run(plain, check=True, capture_output=True)
    # Über eine Shell: Das Verbot gilt auch in Kindern.
    shell = ["/bin/sh", "-c", '"$@"', "sh", *plain]
    done = subprocess.run([sys.executable, LAUNCHER, *shell], capture_output=True, encoding="utf-8")
    assert (done.returncode, done.stdout) == (1, "TCP geht\n")
    assert done.stderr.endswith("Address family not supported by protocol\n")


def test_program_gets_its_arguments():
    show = "import sys; print(sys.argv[1:])"
    command = [sys.executable, LAUNCHER, sys.executable, "-c", show, "--no-sandbox", "a b"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
    assert done.stdout == "['--no-sandbox', 'a b']\n"
