"""Ein Programm starten, das von den Netzwerkkarten des Rechners nichts erfährt.

Startet Docker einen Container, so ändert sich das Netz des Rechners, und Chromium bricht jede
laufende Anfrage ab, auch die an den eigenen Rechner (ERR_NETWORK_CHANGED). Einen Schalter
dagegen hat es nicht: https://issues.chromium.org/issues/41465264
Ohne `AF_NETLINK` nimmt es an, das Netz bleibe, wie es ist. Das geht nur unter Linux; anderswo
startet das Programm unverändert.

Aufruf: python tests/chromium.py PROGRAMM [ARGUMENT …]
"""

import ctypes
import errno
import os
import platform
import socket
import struct
import sys

# Kennung der Architektur und Nummer des Systemaufrufs `socket`, aus den Headern des Kernels.
SYSTEMS = {"x86_64": (0xC000003E, 41), "aarch64": (0xC00000B7, 198)}
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 38, 2
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, REFUSE = 0x7FFF0000, 0x00050000 | errno.EAFNOSUPPORT


class Program(ctypes.Structure):
    """Ein Filter für Systemaufrufe: Zahl der Befehle und wo sie stehen."""

    _fields_ = [("length", ctypes.c_ushort), ("commands", ctypes.c_char_p)]


def refuse_netlink() -> None:
    """Lässt ab jetzt jedes socket(AF_NETLINK, …) scheitern, auch in allen Kindern."""
    architecture, number = SYSTEMS[platform.machine()]
    commands = [  # (Befehl, weiter bei gleich, weiter bei ungleich, Wert)
        (LOAD, 0, 0, 4),  # die Architektur
        (JUMP_IF_EQUAL, 0, 5, architecture),
        (LOAD, 0, 0, 0),  # der Systemaufruf
        (JUMP_IF_EQUAL, 0, 3, number),
        (LOAD, 0, 0, 16),  # sein erstes Argument
        (JUMP_IF_EQUAL, 0, 1, socket.AF_NETLINK),
        (RETURN, 0, 0, REFUSE),
        (RETURN, 0, 0, ALLOW),
    ]
    code = b"".join(struct.pack("=HBBI", *command) for command in commands)
    libc = ctypes.CDLL(None, use_errno=True)
    program = ctypes.byref(Program(len(commands), code))
    # Ohne den ersten Aufruf bleibt der zweite root vorbehalten.
    for call in ((PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program)):
        if libc.prctl(*call):
            raise OSError(ctypes.get_errno(), "Netlink lässt sich nicht abschalten")


if __name__ == "__main__":
    if sys.platform == "linux" and platform.machine() in SYSTEMS:
        refuse_netlink()
    os.execv(sys.argv[1], sys.argv[1:])
