# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The client endpoint on real connections, to proxies of ours and to a rogue one.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor as theReactor
from twisted.internet.endpoints import (
    TCP6ClientEndpoint,
    UNIXClientEndpoint,
    wrapClientTLS,
)
from twisted.internet.error import (
    ConnectingCancelledError,
    ConnectionAborted,
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,
)
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.ssl import optionsForClientTLS
from twisted.internet.tcp import Client
from twisted.python.failure import Failure
from zope.interface import implementer

from tests.certificates import forLocalhost
from tests.clientmemory import REPLY
from tests.conversation import loopback6, pattern
from tests.loopback import (
    Echo,
    HalfClosingPeer,
    Peer,
    Place,
    factoryOf,
    inReactor,
    passwords,
)
from twisted_socks5 import NoAuthentication, SOCKS5ServerFactory, errors
from twisted_socks5.client import Login, SOCKS5ClientEndpoint

ALICE = Login("alice", "wonderland")


# -- a rogue proxy ------------------------------------------------------------------


class Rogue(Peer):
    """
    Says what the test has it say, whatever it hears.
    """

    said = b""
    thenEnds = True
    byOctets = False

    def connectionMade(self) -> None:
        self.rest = self.said
        self.transport.setTcpNoDelay(True)
        if self.byOctets:
            self.sayNext()
        else:
            self.transport.write(self.said)
            self.end()

    def sayNext(self) -> None:
        if self.reason is not None:
            return
        if not self.rest:
            self.end()
            return
        self.transport.write(self.rest[:1])
        self.rest = self.rest[1:]
        self.transport.reactor.callLater(0, self.sayNext)

    def end(self) -> None:
        if self.thenEnds:
            self.transport.loseWriteConnection()


async def rogue(
    place: Place, said: bytes, timeout: float = 10, **how: bool
) -> SOCKS5ClientEndpoint:
    kind = type("Saying", (Rogue,), {"said": said, **how})
    port = await place.serve(kind)
    return SOCKS5ClientEndpoint(
        place.to(port), "example.org", 80, ALICE, timeout=timeout
    )


ACCEPTED = b"\x05\x02\x01\x00"
REPLY6 = b"\x05\x00\x00\x04" + bytes(15) + b"\x01\x00\x50"
REPLY_NAME = b"\x05\x00\x00\x03\xff" + b"x" * 255 + b"\x00\x50"


@inReactor
async def test_cutAtEachByte(place: Place) -> None:
    for reply in (REPLY, REPLY6, REPLY_NAME, b"\x05\x05" + REPLY[2:]):
        said = ACCEPTED + reply
        for length in [*range(20), *range(20, len(said), 61), len(said) - 1]:
            if length >= len(said):
                continue
            endpoint = await rogue(place, said[:length])
            with pytest.raises(errors.StreamEnded):
                await endpoint.connect(factoryOf(Peer))


@pytest.mark.parametrize("byOctets", [False, True])
@pytest.mark.parametrize("reply", [REPLY, REPLY6, REPLY_NAME])
@inReactor
async def test_payloadWithTheReply(place: Place, reply: bytes, byOctets: bool) -> None:
    endpoint = await rogue(place, ACCEPTED + reply + b"hello", byOctets=byOctets)
    peer: Any = await endpoint.connect(factoryOf(HalfClosingPeer))
    await place.until(lambda: peer.isReadClosed)
    assert peer.received == b"hello"
    peer.transport.loseConnection()
    await place.until(lambda: peer.reason)


@pytest.mark.parametrize("reply", [*range(1, 10), 0xF0, 0xFF])
@inReactor
async def test_replies(place: Place, reply: int) -> None:
    said = ACCEPTED + bytes((5, reply)) + REPLY[2:]
    endpoint = await rogue(place, said, thenEnds=False)
    with pytest.raises(errors.ReplyError) as caught:
        await endpoint.connect(factoryOf(Peer))
    assert type(caught.value) is type(errors.errorForReply(reply))
    assert caught.value.reply == reply
    await place.until(lambda: place.protocols[0].reason)


STATES = [b"", b"\x05", b"\x05\x02", ACCEPTED[:3], ACCEPTED, ACCEPTED + REPLY[:-1]]


@pytest.mark.parametrize("said", STATES)
@inReactor
async def test_silence(place: Place, said: bytes) -> None:
    endpoint = await rogue(place, said, timeout=0.3, thenEnds=False)
    with pytest.raises(errors.TimedOut):
        await endpoint.connect(factoryOf(Peer))
    await place.until(lambda: place.protocols[0].reason)


@pytest.mark.parametrize("said", STATES)
@inReactor
async def test_cancel(place: Place, said: bytes) -> None:
    endpoint = await rogue(place, said, thenEnds=False)
    attempt = endpoint.connect(factoryOf(Peer))
    heard = {0: 3, 1: 3, 2: 21, 3: 21}.get(len(said), 21 + 18)
    await place.until(
        lambda: place.protocols and len(place.protocols[0].received) == heard
    )
    fired: list[Any] = []
    attempt.addBoth(fired.append)
    attempt.cancel()
    (failure,) = fired
    assert failure.type is ConnectingCancelledError
    await place.until(lambda: place.protocols[0].reason)
    assert len(fired) == 1


@inReactor
async def test_cancelBeforeTheProxyHasAccepted(place: Place) -> None:
    port = await place.serve(Peer)
    endpoint = SOCKS5ClientEndpoint(place.to(port), "example.org", 80)
    attempt = endpoint.connect(factoryOf(Peer))
    attempt.cancel()
    with pytest.raises(ConnectingCancelledError):
        await attempt


@inReactor
async def test_nobodyListens(place: Place) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        endpoint = SOCKS5ClientEndpoint(place.to(bound.getsockname()[1]), "a", 80)
        with pytest.raises(ConnectionRefusedError):
            await endpoint.connect(factoryOf(Peer))


# -- proxies of ours ------------------------------------------------------------------


async def through(place: Place, kind: Any, destination: Any = Peer) -> Any:
    """
    A client's and a destination's protocol, joined by a proxy.
    """
    proxy: Any = await place.proxy(passwords(alice="wonderland"))
    port = await place.serve(destination)
    endpoint = SOCKS5ClientEndpoint(place.to(proxy.port), "127.0.0.1", port, ALICE)
    peer: Any = await endpoint.connect(factoryOf(kind))
    await place.until(lambda: place.protocols)
    return peer, place.protocols[0]


@inReactor
async def test_theTransportIsTheRealOne(place: Place) -> None:
    peer: Any
    peer, destination = await through(place, Peer, Echo)
    kind: object = type(peer.transport)
    assert kind is Client
    assert peer.transport.getPeer().port != destination.transport.getHost().port
    isReplaced = peer.transport.protocol is peer
    assert isReplaced
    data = pattern(1, 1 << 20)
    peer.transport.write(data)
    await place.until(lambda: len(peer.received) == len(data))
    assert peer.received == data
    peer.transport.loseConnection()
    await place.until(lambda: peer.reason)
    assert peer.reason is ConnectionDone


@inReactor
async def test_namesAreNotLookedUp(place: Place) -> None:
    """
    Not by the client's reactor, that is; a rogue proxy stands in for one of
    another process.
    """

    class Refusing:
        def resolveHostName(self, *arguments: Any, **more: Any) -> None:
            raise AssertionError("looked up")

    endpoint = await rogue(place, ACCEPTED + REPLY, thenEnds=False)
    anyReactor: Any = theReactor
    before = anyReactor.installNameResolver(Refusing())
    try:
        peer: Any = await endpoint.connect(factoryOf(Peer))
    finally:
        anyReactor.installNameResolver(before)
    peer.transport.loseConnection()
    await place.until(lambda: place.protocols[0].reason)
    assert b"\x03\x0bexample.org\x00\x50" in place.protocols[0].received


@inReactor
async def test_IPv6(place: Place) -> None:
    loopback6().close()
    server = SOCKS5ServerFactory(theReactor, [NoAuthentication()])
    proxyPort = await place.listen(server, "tcp6:0:interface=\\:\\:1")
    port = await place.listen(factoryOf(Echo), "tcp6:0:interface=\\:\\:1")
    proxy = TCP6ClientEndpoint(theReactor, "::1", proxyPort)
    endpoint = SOCKS5ClientEndpoint(proxy, "::1", port)
    peer: Any = await endpoint.connect(factoryOf(Peer))
    peer.transport.write(b"hello")
    await place.until(lambda: peer.received == b"hello")
    peer.transport.loseConnection()
    await place.until(lambda: peer.reason)
    refused = SOCKS5ClientEndpoint(proxy, "::1", 0)
    words = rf"\[::1\]:0 through \[::1\]:{proxyPort}"
    with pytest.raises(errors.GeneralFailure, match=words):
        await refused.connect(factoryOf(Peer))


@inReactor
async def test_halfCloses(place: Place) -> None:
    peer, destination = await through(place, HalfClosingPeer, HalfClosingPeer)
    peer.transport.write(b"question")
    peer.transport.loseWriteConnection()
    await place.until(lambda: destination.isReadClosed)
    assert peer.isWriteClosed
    assert destination.received == b"question"
    destination.transport.write(b"answer")
    destination.transport.loseWriteConnection()
    await place.until(lambda: peer.isReadClosed)
    assert peer.received == b"answer"
    peer.transport.loseConnection()
    destination.transport.loseConnection()
    await place.until(lambda: peer.reason and destination.reason)


@inReactor
async def test_theEndForAProtocolThatCannotHalfClose(place: Place) -> None:
    peer, destination = await through(place, Peer, HalfClosingPeer)
    destination.transport.write(b"all")
    destination.transport.loseWriteConnection()
    await place.until(lambda: peer.reason)
    assert (peer.received, peer.reason) == (b"all", ConnectionDone)
    destination.transport.loseConnection()
    await place.until(lambda: destination.reason)


@inReactor
async def test_resets(place: Place) -> None:
    peer, destination = await through(place, Peer)
    peer.transport.abortConnection()
    await place.until(lambda: destination.reason)
    assert peer.reason is ConnectionAborted
    assert destination.reason is ConnectionLost


@inReactor
async def test_producers(place: Place) -> None:
    """
    A destination that does not read stops the client's producer.
    """

    class Producer:
        isPaused = False

        def pauseProducing(self) -> None:
            self.isPaused = True

        def resumeProducing(self) -> None:
            self.isPaused = False

        def stopProducing(self) -> None: ...

    peer, destination = await through(place, Peer)
    destination.transport.pauseProducing()
    producer = Producer()
    peer.transport.registerProducer(producer, True)
    sent = 0
    while not producer.isPaused or sent < 16 << 20:
        peer.transport.write(bytes(1 << 20))
        sent += 1 << 20
        await place.pause(0)
    assert producer.isPaused
    destination.transport.resumeProducing()
    await place.until(lambda: len(destination.received) == sent, 30)
    assert not producer.isPaused
    peer.transport.unregisterProducer()
    peer.transport.loseConnection()
    await place.until(lambda: peer.reason and destination.reason)


@inReactor
async def test_wrongPassword(place: Place) -> None:
    proxy: Any = await place.proxy(passwords(alice="wonderland"))
    endpoint = SOCKS5ClientEndpoint(
        place.to(proxy.port), "127.0.0.1", 9, Login("alice", "looking-glass")
    )
    with pytest.raises(errors.AuthenticationFailed, match="127.0.0.1:9 through 127"):
        await endpoint.connect(factoryOf(Peer))


@inReactor
async def test_noMethodInCommon(place: Place) -> None:
    proxy: Any = await place.proxy(passwords(alice="wonderland"))
    endpoint = SOCKS5ClientEndpoint(place.to(proxy.port), "127.0.0.1", 9)
    with pytest.raises(errors.NoAcceptableMethod):
        await endpoint.connect(factoryOf(Peer))


@inReactor
async def test_oneFlight(place: Place) -> None:
    proxy: Any = await place.proxy()
    port = await place.serve(Echo)
    endpoint = SOCKS5ClientEndpoint(
        place.to(proxy.port), "127.0.0.1", port, oneFlight=True
    )
    peer: Any = await endpoint.connect(factoryOf(Peer))
    peer.transport.write(b"hello")
    await place.until(lambda: peer.received == b"hello")
    peer.transport.loseConnection()
    await place.until(lambda: peer.reason)


def tlsTo(endpoint: Any, host: str = "localhost") -> Any:
    return wrapClientTLS(optionsForClientTLS(host, trustRoot=forLocalhost()), endpoint)


@pytest.mark.parametrize(
    ("isProxyTLS", "isTargetTLS"), [(True, False), (False, True), (True, True)]
)
@inReactor
async def test_TLS(place: Place, isProxyTLS: bool, isTargetTLS: bool) -> None:
    server = SOCKS5ServerFactory(theReactor, [passwords(alice="wonderland")])
    proxyPort = await place.listen(server, isTLS=isProxyTLS)
    port = await place.listen(factoryOf(Echo), isTLS=isTargetTLS)
    proxy: Any = place.to(proxyPort)
    endpoint: Any = SOCKS5ClientEndpoint(
        tlsTo(proxy) if isProxyTLS else proxy, "127.0.0.1", port, ALICE
    )
    if isTargetTLS:
        endpoint = tlsTo(endpoint)
    peer: Any = await endpoint.connect(factoryOf(Peer))
    data = pattern(2, 1 << 18)
    peer.transport.write(data)
    await place.until(lambda: len(peer.received) == len(data))
    assert peer.received == data
    if isProxyTLS and not isTargetTLS:
        assert peer.transport.wrappedProtocol is peer
    peer.transport.loseConnection()
    await place.until(lambda: peer.reason)
    assert peer.reason is ConnectionDone


@inReactor
async def test_theProxysCertificateIsAnothers(place: Place) -> None:
    port = await place.listen(factoryOf(Echo), isTLS=True)
    endpoint = SOCKS5ClientEndpoint(
        tlsTo(place.to(port), "proxy.example"), "127.0.0.1", 9, ALICE
    )
    with pytest.raises(errors.StreamEnded) as caught:
        await endpoint.connect(factoryOf(Peer))
    assert "proxy.example" in repr(caught.value.__cause__)


class TLSStarter(Peer):
    """
    Begins TLS as soon as it may.
    """

    def connectionMade(self) -> None:
        options = optionsForClientTLS("localhost", trustRoot=forLocalhost())
        self.transport.startTLS(options)
        self.transport.write(b"hello")


@inReactor
async def test_startTLS(place: Place) -> None:
    proxy: Any = await place.proxy()
    port = await place.listen(factoryOf(Echo), isTLS=True)
    endpoint = SOCKS5ClientEndpoint(place.to(proxy.port), "127.0.0.1", port)
    peer: Any = await endpoint.connect(factoryOf(TLSStarter))
    await place.until(lambda: peer.received == b"hello")
    peer.transport.loseConnection()
    await place.until(lambda: peer.reason)


@implementer(IStreamClientEndpoint)
class Watched:
    """
    Has somebody between transport and protocol, who is told of the end.
    """

    isOver = False

    def __init__(self, endpoint: IStreamClientEndpoint) -> None:
        self.endpoint = endpoint

    def connect(self, protocolFactory: Any) -> Any:
        watched = self

        class Watching(Protocol):
            def connectionMade(self) -> None:
                self.inner = protocolFactory.buildProtocol(None)
                self.inner.makeConnection(self.transport)

            def dataReceived(self, data: bytes) -> None:
                self.inner.dataReceived(data)

            def connectionLost(self, reason: Failure = connectionDone) -> None:
                watched.isOver = True
                self.inner.connectionLost(reason)

        connected: Any = self.endpoint.connect(factoryOf(Watching))
        return connected.addCallback(lambda watching: watching.inner)


@inReactor
async def test_whoeverStandsBetweenStays(place: Place) -> None:
    proxy: Any = await place.proxy()
    port = await place.serve(Echo)
    watched = Watched(place.to(proxy.port))
    endpoint = SOCKS5ClientEndpoint(watched, "127.0.0.1", port)
    peer: Any = await endpoint.connect(factoryOf(Peer))
    peer.transport.write(b"hello")
    await place.until(lambda: peer.received == b"hello")
    peer.transport.loseConnection()
    await place.until(lambda: peer.reason)
    assert watched.isOver


@implementer(IStreamClientEndpoint)
class TLSLater:
    """
    Connects, and then begins TLS.
    """

    def __init__(self, endpoint: IStreamClientEndpoint) -> None:
        self.endpoint = endpoint

    def connect(self, protocolFactory: Any) -> Any:
        def startTLS(protocol: Any) -> Any:
            options = optionsForClientTLS("localhost", trustRoot=forLocalhost())
            protocol.transport.startTLS(options)
            return protocol

        return self.endpoint.connect(protocolFactory).addCallback(startTLS)


@inReactor
async def test_aProxyWithWhichTLSIsBegunLater(place: Place) -> None:
    server = SOCKS5ServerFactory(theReactor, [NoAuthentication()])
    proxy = TLSLater(place.to(await place.listen(server, isTLS=True)))
    port = await place.serve(Echo)
    endpoint = SOCKS5ClientEndpoint(proxy, "127.0.0.1", port)
    peer: Any = await endpoint.connect(factoryOf(Peer))
    peer.transport.write(b"hello")
    await place.until(lambda: peer.received == b"hello")
    peer.transport.loseConnection()
    await place.until(lambda: peer.reason)


@inReactor
async def test_UNIX(place: Place, tmp_path: Path) -> None:
    path = str(tmp_path / "socks")
    server = SOCKS5ServerFactory(theReactor, [NoAuthentication()])
    await place.listen(server, f"unix:{path}")
    port = await place.serve(Echo)
    proxy = UNIXClientEndpoint(theReactor, path)
    endpoint = SOCKS5ClientEndpoint(proxy, "127.0.0.1", port)
    peer: Any = await endpoint.connect(factoryOf(Peer))
    assert peer.transport.protocol is peer
    peer.transport.write(b"hello")
    await place.until(lambda: peer.received == b"hello")
    peer.transport.loseConnection()
    await place.until(lambda: peer.reason)
    failing = SOCKS5ClientEndpoint(proxy, "127.0.0.1", 0)
    with pytest.raises(errors.GeneralFailure, match=f"through unix:'{path}'"):
        await failing.connect(factoryOf(Peer))


@inReactor
async def test_aChainLeavesNobodyBetween(place: Place) -> None:
    first: Any = await place.proxy()
    second: Any = await place.proxy(passwords(alice="wonderland"))
    port = await place.serve(Echo)
    way = SOCKS5ClientEndpoint(place.to(first.port), "127.0.0.1", second.port)
    way = SOCKS5ClientEndpoint(way, "127.0.0.1", port, ALICE)
    peer: Any = await way.connect(factoryOf(Peer))
    assert peer.transport.protocol is peer
    peer.transport.write(b"hello")
    await place.until(lambda: peer.received == b"hello")
    peer.transport.loseConnection()
    await place.until(lambda: peer.reason)
