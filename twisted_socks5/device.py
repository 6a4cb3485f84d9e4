# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Sockets that send and receive by one network interface, whatever the kernel's
routes say (Linux: C{SO_BINDTODEVICE}, see socket(7)).
"""

from __future__ import annotations

import socket
from errno import ENODEV, EPERM

_SO_BINDTODEVICE: int | None = getattr(socket, "SO_BINDTODEVICE", None)


def bindToDevice(opened: socket.socket, interface: str) -> None:
    """
    Keep a socket to an interface.

    @param interface: Its name; empty is any.
    @raise OSError: There is none of this name now, or it is not permitted.
    """
    if interface:
        assert _SO_BINDTODEVICE is not None
        opened.setsockopt(
            socket.SOL_SOCKET, _SO_BINDTODEVICE, interface.encode() + b"\0"
        )


def checkDevice(interface: str) -> None:
    """
    Find out whether sockets can be kept to an interface.

    @raise ValueError: They cannot; the text says what to do.
    """
    if _SO_BINDTODEVICE is None:
        raise ValueError(f"interface {interface}: this system cannot do that")
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            bindToDevice(probe, interface)
    except OSError as problem:
        if problem.errno == EPERM:
            why = "this kernel wants CAP_NET_RAW for that"
        elif problem.errno == ENODEV:
            why = "this host has no such interface"
        else:
            why = str(problem.strerror)
        raise ValueError(f"interface {interface}: {why}") from None
