"""Runs a program as on a host without ipset: no_ipset.py PROGRAM [ARGUMENT...].

Its own netlink sockets to netfilter are refused, as by a kernel that lacks the protocol. The programs it starts keep
theirs: libmnl opens them without SOCK_CLOEXEC, the daemon with it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import socket
import struct
import sys

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
RET_ALLOW, RET_ERRNO = 0x7FFF_0000, 0x0005_0000
LOAD, EQUAL, ANY_BIT, RETURN = 0x20, 0x15, 0x45, 0x06
NETLINK_NETFILTER = 12
SOCKET_CALL = {"x86_64": 41, "aarch64": 198}
NUMBER, DOMAIN, KIND, PROTOCOL = 0, 16, 24, 32  # offsets in struct seccomp_data, little endian


def program() -> bytes:
    """socket(AF_NETLINK, .. | SOCK_CLOEXEC, NETLINK_NETFILTER) fails with EPROTONOSUPPORT; all else is allowed."""
    tests = [
        (EQUAL, NUMBER, SOCKET_CALL[platform.machine()]),
        (EQUAL, DOMAIN, socket.AF_NETLINK),
        (ANY_BIT, KIND, socket.SOCK_CLOEXEC),
        (EQUAL, PROTOCOL, NETLINK_NETFILTER),
    ]
    code = []
    for place, (test, offset, value) in enumerate(tests):
        to_allow = 2 * (len(tests) - place - 1) + 1
        code += [(LOAD, 0, 0, offset), (test, 0, to_allow, value)]
    code += [(RETURN, 0, 0, RET_ERRNO | errno.EPROTONOSUPPORT), (RETURN, 0, 0, RET_ALLOW)]
    return b"".join(struct.pack("=HBBI", *line) for line in code)


def refuse() -> None:
    code = program()
    held = ctypes.create_string_buffer(code)
    head = struct.pack("@HP", len(code) // 8, ctypes.addressof(held))
    libc = ctypes.CDLL(None, use_errno=True)
    for call in ((PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, head, 0, 0)):
        if libc.prctl(*call):
            raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    refuse()
    os.execv(sys.argv[1], sys.argv[1:])
