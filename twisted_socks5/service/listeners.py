# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Listening where the command line says, before anything else is done.

The reactor accepts nobody before it runs, so an address in use or a privilege
that is missing ends the program at once, with one line.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import quoteStringArgument, serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.python.failure import Failure

from twisted_socks5.addresses import addressOf
from twisted_socks5.service.certificates import checkCertificates

_BACKLOG = 1024
"""
How many clients may wait to be accepted.  With Twisted's 50 a burst of them has
some wait for a second, until they try again.
"""


class Listener:
    """
    One place where clients can connect.

    @ivar port: What listens.
    """

    def __init__(self, description: str, port: IListeningPort) -> None:
        self.description = description
        self.port = port

    @property
    def isReachable(self) -> bool:
        """
        Whether it can be got to from other machines.  A balancer that tells
        of its clients by a PROXY header has them elsewhere.
        """
        address = addressOf(self.port.getHost())
        return self.description.startswith("haproxy:") or not (
            address.ip is None or address.ip.is_loopback
        )


def describe(port: str, interface: str) -> str:
    """
    The endpoint string for a value of C{--port}.

    @raise ValueError: It is neither a port number nor an endpoint.
    """
    if ":" in port:
        return port
    if not port.isascii() or not port.isdecimal() or int(port) > 65535:
        raise ValueError(
            f"--port {port}: expected a number from 0 to 65535 or an endpoint"
        )
    kind = "tcp6" if ":" in interface else "tcp"
    return f"{kind}:{int(port)}:interface={quoteStringArgument(interface)}"


def listen(
    reactor: Any, descriptions: Sequence[str], factory: IProtocolFactory
) -> list[Listener]:
    """
    Listen at all of the endpoints, or at none.

    @raise ValueError: One of them cannot be listened at; the text says why.
    """
    listeners: list[Listener] = []
    try:
        for description in descriptions:
            listeners.append(
                Listener(description, _listen(reactor, description, factory))
            )
    except ValueError:
        for listener in listeners:
            listener.port.stopListening()
        raise
    return listeners


def _listen(
    reactor: Any, description: str, factory: IProtocolFactory
) -> IListeningPort:
    try:
        checkCertificates(description)
        _checkNumbers(description)
        endpoint = serverFromString(reactor, _withBacklog(description))
    except Exception as error:
        raise ValueError(f"--port {description}: {_tell(error)}") from None
    outcome: list[Any] = []
    listening: Deferred[IListeningPort] = endpoint.listen(factory)
    listening.addBoth(outcome.append)
    if not outcome:
        raise ValueError(f"--port {description}: this endpoint cannot listen at once")
    if isinstance(outcome[0], Failure):
        raise ValueError(f"--port {description}: {_tell(outcome[0].value)}")
    port: IListeningPort = outcome[0]
    return port


def _checkNumbers(description: str) -> None:
    """
    Find a port that is none before Python tells of a literal.

    @raise ValueError: There is one.
    """
    found = re.match(
        r"(?:haproxy:)*(?:tcp6?|ssl|mtls):(?:([^:=]*)(?=:|$))?", description
    )
    if found is None:
        return
    numbers = [("port", found[1])] if found[1] is not None else []
    numbers += re.findall(r"(?<!\\):(port|backlog)=([^:]*)", description)
    for name, text in numbers:
        if not text.isascii() or not text.isdecimal() or int(text) > 65535:
            raise ValueError(f"{name} {text}: expected a number from 0 to 65535")


def _withBacklog(description: str) -> str:
    """
    A TCP endpoint with our backlog, where it says nothing of one.
    """
    if re.match("(haproxy:)?tcp6?:", description) and "backlog=" not in description:
        return f"{description}:backlog={_BACKLOG}"
    return description


def _tell(error: BaseException | None) -> str:
    """
    What is wrong with an endpoint, in a few words.
    """
    if isinstance(error, CannotListenError):
        error = error.socketError
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}"
    if isinstance(error, SSL.Error):
        return f"TLS key or certificate: {_reasons(error)}"
    if isinstance(error, TypeError):
        problem = re.sub(r"^\w+[(][)] ", "", str(error))
        return f"its arguments are wrong: {problem}"
    return f"{error}" if str(error) else type(error).__name__


def _reasons(error: SSL.Error) -> str:
    queue = error.args[0] if error.args else []
    return ", ".join(reason for _, _, reason in queue) or "not usable"
