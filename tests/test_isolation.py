"""In CI erreichen die Tests nur den eigenen Rechner; wer Docker braucht, ist ausgenommen."""

import errno
import os
import socket
import sys

import pytest


@pytest.mark.skipif(sys.platform != "linux", reason="Nur Linux hat Namensräume für Netze.")
@pytest.mark.skipif(not os.environ.get("CI"), reason="Das Netz ist nur in CI abgeschnitten.")
def test_nothing_but_this_machine_is_reachable():
    # Eine Adresse für Beispiele, die niemandem gehört; ohne Weg dorthin scheitert es sofort.
    with socket.socket() as probe:
        probe.settimeout(1)
        assert probe.connect_ex(("192.0.2.1", 80)) == errno.ENETUNREACH
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()).close()
