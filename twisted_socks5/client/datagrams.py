# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Datagrams through a proxy (UDP ASSOCIATE).
"""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address as UDP4Address
from twisted.internet.address import IPv6Address as UDP6Address
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.error import MessageLengthError
from twisted.internet.interfaces import (
    IAddress,
    IListeningPort,
    IReactorTime,
    IStreamClientEndpoint,
    IUDPTransport,
)
from twisted.internet.protocol import (
    DatagramProtocol,
    Factory,
    Protocol,
    connectionDone,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_socks5 import wire
from twisted_socks5.client.conversation import Conversation
from twisted_socks5.client.proxy import TIMEOUT, Proxy, isPassedOn, tell
from twisted_socks5.client.takeover import abort
from twisted_socks5.client.target import Target
from twisted_socks5.errors import (
    CommandNotSupported,
    MalformedMessage,
    SOCKSError,
    StreamEnded,
    TimedOut,
)
from twisted_socks5.interfaces import IClientAuthenticator, IStreamLayer
from twisted_socks5.wire import Command

_LARGEST = 65536
"""
As much as fits in a datagram, and more; Twisted cuts at 8192 if not told so.
"""

# The client does not know what the proxy will see of its address.
_ANYWHERE = Target("0.0.0.0", 0, "datagrams")  # noqa: S104  nothing is bound to it


class _Control(Protocol):
    """
    The connection that an association lives as long as.
    """

    def __init__(self, port: SOCKS5DatagramPort) -> None:
        self._port = port

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._port.lost()


class _Relay(DatagramProtocol):
    """
    What comes to our port, or through the proxy before.  The socket is not
    connected to the relay: an ICMP message from there would be the end of it.
    """

    noisy = False

    def __init__(self, port: SOCKS5DatagramPort) -> None:
        self._port = port

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self._port.received(datagram, (addr[0], addr[1]))

    def stopProtocol(self) -> None:
        self._port.stopListening()


@implementer(IListeningPort, IUDPTransport)
class SOCKS5DatagramPort:
    """
    A UDP association, as the transport of a
    L{DatagramProtocol<twisted.internet.protocol.DatagramProtocol>}.

    Where a Twisted port takes IP addresses only, C{write} and C{connect} take
    names, too, which the proxy looks up.

    @ivar localPort: The port of this host that datagrams go to the relay from, or in a
        chain to the first.
    """

    localPort: int

    _local: Any = None
    _connected: tuple[str, int] | None = None
    _isOpen = False
    _isLost = False

    def __init__(
        self,
        control: Any,
        layer: IStreamLayer | None,
        protocol: DatagramProtocol,
        relay: tuple[wire.Host, int],
    ) -> None:
        """
        @param relay: Where the proxy takes datagrams; it has a name only if nothing
            but that is known of the proxy.
        """
        self._control = control
        self._layer = layer
        self._protocol = protocol
        host, number = relay
        self._hasName = isinstance(host, bytes)
        text = host.decode("ascii") if isinstance(host, bytes) else str(host)
        self._relay = (text, number)

    # -- IListeningPort -------------------------------------------------------

    def startListening(self) -> None:
        """
        It listens since it was handed out.
        """

    def open(self, local: Any) -> None:
        """
        Begin.

        @param local: What takes datagrams to the relay: a port of this host, or one
            through the proxy before.
        @raise StreamEnded: The proxy has ended the association meanwhile.
        """
        self._local = local
        if self._isLost:
            local.stopListening()
            raise StreamEnded("the proxy ended the association")
        isHere = not isinstance(local, SOCKS5DatagramPort)
        self.localPort = local.getHost().port if isHere else local.localPort
        self._isOpen = True
        self._protocol.makeConnection(self)

    def stopListening(self) -> Deferred[None]:
        """
        End the association.

        @return: Fires when the port is closed.
        """
        if not self._isOpen:
            return succeed(None)
        abort(self._control)
        return self._close()

    def _close(self) -> Deferred[None]:
        self._isOpen = False
        closed: Deferred[None] = maybeDeferred(self._local.stopListening)
        self._protocol.doStop()
        return closed

    def lost(self) -> None:
        """
        The proxy has ended the association.
        """
        self._isLost = True
        if self._isOpen:
            self._close()

    def getHost(self) -> UDP4Address | UDP6Address:
        """
        Where the proxy takes our datagrams.
        """
        host, number = self._relay
        return (UDP6Address if ":" in host else UDP4Address)("UDP", host, number)

    # -- IUDPTransport --------------------------------------------------------

    def write(self, packet: bytes, addr: tuple[str, int] | None = None) -> None:
        """
        Send a datagram.

        @param packet: At most 65,507 bytes less the header, which is 10 to 262, and
            in a chain one for each proxy.
        @param addr: An IP address or a name, and a port; not needed after
            L{connect}.
        @raise InvalidName: No such name can exist.
        @raise ValueError: There is no such port, or nobody knows where to.
        @raise MessageLengthError: It is too long.
        """
        to = addr or self._connected
        if to is None:
            raise ValueError("where to?")
        request = Target(to[0], to[1]).request(Command.ASSOCIATE)
        datagram = wire.encodeDatagramHeader(request.host, request.port) + packet
        if self._layer is not None:
            try:
                datagram = self._layer.wrapDatagram(datagram)
            except OSError as error:
                raise MessageLengthError("too long to be protected") from error
        if self._isOpen:
            self._local.write(datagram, self._relay)

    def connect(self, host: str, port: int) -> None:
        """
        From here on, send there, and take nothing from elsewhere.  Of a name it
        is not known where answers come from, so there they may come from anywhere.

        @raise RuntimeError: It was done before.
        """
        if self._connected is not None:
            raise RuntimeError("already connected, reconnecting is not supported")
        Target(host, port).request(Command.ASSOCIATE)
        self._connected = (host, port)

    def setBroadcastAllowed(self, enabled: bool) -> None:
        """
        There is no broadcasting through a proxy.

        @raise ValueError: It was to be allowed.
        """
        if enabled:
            raise ValueError("no broadcasting through a proxy")

    def getBroadcastAllowed(self) -> bool:
        """
        It is not.
        """
        return False

    # -- from the relay -------------------------------------------------------

    def received(self, datagram: bytes, sender: tuple[str, int]) -> None:
        """
        Something came.  What is not from the relay, or no datagram, or a piece
        of one, is dropped.
        """
        if not self._isOpen or not self._isRelay(*sender):
            return
        try:
            if self._layer is not None:
                datagram = self._layer.unwrapDatagram(datagram)
            fragment, host, port, start = wire.parseDatagramHeader(datagram)
        except SOCKSError:
            return
        if fragment:
            return
        name = (
            host.decode("ascii", "backslashreplace")
            if isinstance(host, bytes)
            else str(host)
        )
        if self._isFrom(name, port):
            self._protocol.datagramReceived(datagram[start:], (name, port))

    def _isRelay(self, host: str, port: int) -> bool:
        if self._hasName:  # whose address nobody knows here
            return port == self._relay[1]
        return (host, port) == self._relay

    def _isFrom(self, host: str, port: int) -> bool:
        if self._connected is None:
            return True
        expected = Target(*self._connected).request(Command.ASSOCIATE)
        if isinstance(expected.host, bytes):
            return port == expected.port
        return (str(expected.host), expected.port) == (host, port)


class SOCKS5DatagramEndpoint:
    """
    A way for datagrams through a SOCKS5 proxy (RFC 1928, section 7).

    They go to the proxy as UDP, beside the connection to it, so it has to be
    reachable for that.  Where the proxy's endpoint is a L{SOCKS5ClientEndpoint
    <twisted_socks5.client.SOCKS5ClientEndpoint>}, the proxies are a chain: each is
    asked for an association, and what is for one goes through those before it.
    """

    def __init__(
        self,
        reactor: Any,
        proxyEndpoint: IStreamClientEndpoint,
        *authenticators: IClientAuthenticator,
        timeout: float | None = TIMEOUT,
    ) -> None:
        """
        @param reactor: Listens for what comes back
            (L{IReactorUDP<twisted.internet.interfaces.IReactorUDP>}), and times
            the handshake.
        @param proxyEndpoint: Connects to the proxy.
        @param authenticators: As for L{SOCKS5ClientEndpoint
            <twisted_socks5.client.SOCKS5ClientEndpoint>}.
        @param timeout: How many seconds the handshake may take.
        @raise ValueError: Two authenticators are of the same method.
        """
        self._reactor = reactor
        clock: IReactorTime = reactor
        self._proxy = Proxy(
            proxyEndpoint, authenticators, timeout=timeout, reactor=clock
        )
        before = self._proxy.before
        self._before: SOCKS5DatagramEndpoint | None = None
        if before is not None:
            self._before = SOCKS5DatagramEndpoint(
                reactor,
                before.proxy.endpoint,
                *before.proxy.authenticators,
                timeout=before.proxy.timeout,
            )

    def listen(self, protocol: DatagramProtocol) -> Deferred[SOCKS5DatagramPort]:
        """
        Open a way.

        @param protocol: Gets the port as its transport.  When the proxy ends the
            association, its C{stopProtocol} is called; so it is when one of a
            chain does.
        @return: The port.  Fails as L{SOCKS5ClientEndpoint.connect
            <twisted_socks5.client.SOCKS5ClientEndpoint.connect>} does.
        """
        opening = Deferred.fromCoroutine(self._listen(protocol))
        timeout = self._proxy.timeout
        if self._before is None or timeout is None:
            return opening
        return opening.addTimeout(timeout, self._reactor, _timedOut)

    async def _listen(self, protocol: DatagramProtocol) -> SOCKS5DatagramPort:
        conversation, reply = await self._proxy.request(Command.ASSOCIATE, _ANYWHERE)
        try:
            if isinstance(reply.host, bytes):
                raise MalformedMessage("the proxy's relay has a name, no address")
            if self._before is None and isPassedOn(conversation):
                raise CommandNotSupported(
                    "datagrams would go past whoever is before the proxy"
                )
            relay = self._proxy.reachable(conversation, reply)
            port = SOCKS5DatagramPort(
                conversation.transport, conversation.layer, protocol, relay
            )
            self._hold(conversation, port)
            if self._before is None:
                port.open(self._openHere(conversation.transport, port))
            else:
                port.open(await self._before.listen(_Relay(port)))
        except BaseException as error:
            conversation.abort()
            if isinstance(error, SOCKSError):
                tell(error, conversation, _ANYWHERE)
            raise
        return port

    def _openHere(self, control: Any, port: SOCKS5DatagramPort) -> IListeningPort:
        """
        Open a port of this host.  The relay takes datagrams from the address only
        that the control connection comes from.

        @raise CannotListenError: There is none left.
        """
        local, relay = control.getHost(), port.getHost()
        anywhere = "::" if isinstance(relay, UDP6Address) else ""
        opened: IListeningPort = self._reactor.listenUDP(
            0,
            _Relay(port),
            interface=local.host if type(local) is type(relay) else anywhere,
            maxPacketSize=_LARGEST,
        )
        return opened

    def _hold(self, conversation: Conversation, port: SOCKS5DatagramPort) -> None:
        """
        Have the port know when the connection is gone.
        """
        control = _Control(port)
        factory: Any = Factory()
        factory.buildProtocol = lambda address: control
        address: IAddress = conversation.transport.getPeer()
        conversation.handOver(factory, address).deliver()


def _timedOut(result: object, seconds: float) -> Failure:
    error = TimedOut(f"not done in {seconds:g} seconds")
    error.target, error.proxy = str(_ANYWHERE), "a chain"
    return Failure(error)
