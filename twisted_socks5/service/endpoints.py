# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Endpoints to listen at, as they are written, and what is wrong with them.
"""

from __future__ import annotations

import re
from typing import Any

import attrs
from OpenSSL import SSL, crypto
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import quoteStringArgument, serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IListeningPort,
    IOpenSSLServerConnectionCreator,
    IProtocolFactory,
)
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure
from zope.interface import directlyProvides, implementer, providedBy

from twisted_socks5.service.certificates import checkCertificates
from twisted_socks5.service.configuration import Said
from twisted_socks5.service.plugins import parsePlugin

_BACKLOG = 1024
"""
How many clients may wait to be accepted.  With Twisted's 50 a burst of them has
some wait for a second, until they try again.
"""

_PLACE_OF_BACKLOG = {"tcp": 2, "tcp6": 1}
"""
How many of Twisted's arguments without a name are before that of the backlog.
"""


def describe(port: Said, interface: Said) -> Said:
    """
    The endpoint for a port as it was said.

    @param interface: The address to listen on, if it is a number.
    @raise ValueError: It is neither a port number nor an endpoint.
    """
    text = port.text
    if ":" in text:
        return port
    if not text.isascii() or not text.isdecimal() or int(text) > 65535:
        raise port.fail("expected a number from 0 to 65535 or an endpoint")
    kind = "tcp6" if ":" in interface.text else "tcp"
    return attrs.evolve(
        port,
        text=f"{kind}:{int(text)}:interface={quoteStringArgument(interface.text)}",
        isSecret=port.isSecret or interface.isSecret,
    )


@implementer(IOpenSSLServerConnectionCreator)
class ExchangeableTLS:
    """
    Keys and certificates of which there may be others for connections from now on.
    """

    def __init__(self, current: Any) -> None:
        """
        @param current: What an endpoint has made of its files: it provides this
            interface, or has C{getContext}.
        @raise SSL.Error: They cannot be used.
        """
        self._current = current
        if not IOpenSSLServerConnectionCreator.providedBy(current):
            current.getContext()

    def become(self, other: ExchangeableTLS) -> None:
        """
        Use those of another one.
        """
        self._current = other._current

    def serverConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        """
        The TLS side of one connection.
        """
        current = self._current
        if IOpenSSLServerConnectionCreator.providedBy(current):
            return current.serverConnectionForTLS(tlsProtocol)
        return SSL.Connection(current.getContext(), None)


class _Reactor:
    """
    The reactor, as endpoints see it: of what listens with TLS, keys and
    certificates can be exchanged.

    @ivar tls: What listens with TLS.
    """

    def __init__(self, reactor: Any, listens: bool) -> None:
        """
        @param listens: Whether TLS is to be listened with, or only its files read.
        """
        self._reactor = reactor
        self._listens = listens
        self.tls: ExchangeableTLS | None = None
        directlyProvides(self, providedBy(reactor))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def listenSSL(
        self,
        port: int,
        factory: Any,
        contextFactory: Any,
        backlog: int = 50,
        interface: str = "",
    ) -> Any:
        """
        Listen with TLS (C{IReactorSSL}).
        """
        self.tls = ExchangeableTLS(contextFactory)
        if self._listens:
            return self._reactor.listenSSL(port, factory, self.tls, backlog, interface)
        return None


def listenAt(
    reactor: Any, said: Said, factory: IProtocolFactory
) -> tuple[IListeningPort, ExchangeableTLS | None]:
    """
    Listen at an endpoint.

    @raise ValueError: It cannot be done; the text says why.
    """
    through = _Reactor(reactor, listens=True)
    port: IListeningPort = _listen(through, said, factory)
    return port, through.tls


def readTLS(reactor: Any, said: Said) -> ExchangeableTLS:
    """
    Read the keys and certificates of an endpoint that listens with TLS.

    @raise ValueError: They cannot be used; the text says why.
    """
    through = _Reactor(reactor, listens=False)
    _listen(through, said, Factory())
    assert through.tls is not None
    return through.tls


def _endpoint(reactor: Any, said: Said) -> Any:
    description = said.resolved
    try:
        _checkNumbers(description)
        _checkPath(description)
        checkCertificates(description)
        return serverFromString(reactor, _withBacklog(description))
    except LookupError:  # of systemd:, which looks for what was inherited
        problem = "systemd has passed no such socket"
        raise said.fail(problem, said.text) from None
    except Exception as error:
        raise said.fail(_tell(error), said.text) from None


def _listen(reactor: Any, said: Said, factory: IProtocolFactory) -> Any:
    outcome: list[Any] = []
    listening: Deferred[Any] = _endpoint(reactor, said).listen(factory)
    listening.addBoth(outcome.append)
    if not outcome:
        raise said.fail("this endpoint cannot listen at once", said.text)
    if isinstance(outcome[0], Failure):
        raise said.fail(_tell(outcome[0].value), said.text)
    return outcome[0]


def _checkNumbers(description: str) -> None:
    """
    Find a port that is none before Python tells of a literal.

    @raise ValueError: There is one.
    """
    found = re.match(
        r"(?:haproxy:)*(?:tcp6?|ssl|mtls|tls:(?:\\.|[^:\\])*):(?:([^:=]*)(?=:|$))?",
        description,
    )
    if found is None:
        return
    numbers = [("port", found[1])] if found[1] is not None else []
    numbers += re.findall(r"(?<!\\):(port|backlog)=([^:]*)", description)
    for name, text in numbers:
        if not text.isascii() or not text.isdecimal() or int(text) > 65535:
            raise ValueError(f"{name} {text}: expected a number from 0 to 65535")


def _checkPath(description: str) -> None:
    """
    Find a UNIX socket without a path, of which the file of its lock would be left.

    @raise ValueError: It is one.
    """
    if re.match(r"(?:haproxy:)*unix:(?:address=)?(?::|$)", description):
        raise ValueError("expected a path")


def _withBacklog(description: str) -> str:
    """
    A TCP endpoint with our backlog, where it says nothing of one.
    """
    kind, positional, keyword = parsePlugin(description)
    while kind == "haproxy" and positional:
        kind, *positional = positional
    place = _PLACE_OF_BACKLOG.get(kind)
    if place is None or len(positional) > place or "backlog" in keyword:
        return description
    return f"{description}:backlog={_BACKLOG}"


def _tell(error: BaseException | None) -> str:
    """
    What is wrong with an endpoint, in a few words.
    """
    if isinstance(error, CannotListenError):
        error = error.socketError
    if isinstance(error, str):  # of a UNIX socket, whose lock somebody has
        return "another server listens there already"
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}"
    if isinstance(error, SSL.Error | crypto.Error):
        return f"TLS key or certificate: {_reasons(error)}"
    if isinstance(error, TypeError):
        problem = re.sub(r"^\w+[(][)] ", "", str(error))
        return f"its arguments are wrong: {problem}"
    return f"{error}" if str(error) else type(error).__name__


def _reasons(error: Exception) -> str:
    queue = error.args[0] if error.args else []
    return ", ".join(reason for _, _, reason in queue) or "not usable"
