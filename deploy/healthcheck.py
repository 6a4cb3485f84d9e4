# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Ends well if the server on this host answers a greeting.

It is offered a method that nobody has (X'FE' is for private methods), so that
it says the same whoever it lets in: that there is none in common (RFC 1928,
section 3).
"""

import socket
import sys

GREETING = b"\x05\x01\xfe"
NO_ACCEPTABLE_METHODS = b"\x05\xff"

# What a balancer says that comes for itself, not for a client ("LOCAL"; PROXY
# protocol, section 2.2).
LOCAL = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"


def answers(port: int, *, proxied: bool) -> bool:
    """
    Whether what listens at a port is our server, and at work.

    @param proxied: It expects a PROXY header (C{haproxy:}).
    @raise OSError: It does not answer.
    """
    with socket.create_connection(("127.0.0.1", port), 4) as client:
        client.sendall((LOCAL if proxied else b"") + GREETING)
        return client.recv(2) == NO_ACCEPTABLE_METHODS


def main(port: str, *options: str) -> None:
    """
    @raise SystemExit: With the status.
    """
    try:
        isWell = answers(int(port), proxied="--proxied" in options)
    except OSError as error:
        raise SystemExit(f"port {port}: {error}") from None
    raise SystemExit(None if isWell else f"port {port}: no SOCKS5 server")


if __name__ == "__main__":
    main(*sys.argv[1:])
