# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The client with GSSAPI (RFC 1961), a KDC, proxies of ours, and one that answers
what ours would not.
"""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from twisted.internet import reactor as theReactor
from twisted.internet.endpoints import clientFromString
from twisted.internet.error import ConnectingCancelledError, MessageLengthError
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from tests.conversation import assertServes, pattern
from tests.kdc import Realm
from tests.loopback import Echo, Peer, Place, factoryOf, inReactor
from tests.rfc1961 import CONTEXT, DATA, LEVEL, frame, gssapi
from tests.test_client_datagrams import Datagrams
from twisted_socks5 import SOCKS5ClientEndpoint, SOCKS5DatagramEndpoint, errors
from twisted_socks5.authenticators.gssapi import GSSAPIAuthenticator
from twisted_socks5.client.gssapi import GSSAPILogin
from twisted_socks5.interfaces import IClientAuthenticator
from twisted_socks5.layered import LayeredTransport
from twisted_socks5.protection import GSSAPIProtection
from twisted_socks5.wire_gssapi import ProtectionLevel

if TYPE_CHECKING:
    from tests.conftest import Server

MIB = 1 << 20
CLEAR, INTEGRITY, CONFIDENTIALITY, SELECTIVE = ProtectionLevel
REFUSED = b"\x01\xff"


@pytest.fixture
def proxy(realm: Realm, place: Place) -> Iterator[Callable[..., Any]]:
    """
    Makes proxies of ours that ask for GSSAPI.
    """
    made: list[GSSAPIAuthenticator] = []

    async def making(**different: Any) -> int:
        method = GSSAPIAuthenticator(theReactor, str(realm.keytab), **different)
        method.startService()
        made.append(method)
        factory: Any = await place.proxy(method)
        return int(factory.port)

    yield making
    for one in made:
        one.stopService()


def login(realm: Realm, **different: Any) -> GSSAPILogin:
    return GSSAPILogin(
        theReactor, **{"host": "localhost", "tickets": str(realm.tickets), **different}
    )


def way(
    place: Place, port: int, method: GSSAPILogin, to: int = 9, **options: Any
) -> SOCKS5ClientEndpoint:
    return SOCKS5ClientEndpoint(place.to(port), "127.0.0.1", to, method, **options)


def test_interface() -> None:
    one = GSSAPILogin(theReactor, "proxy.example", "socks")
    assert verifyObject(IClientAuthenticator, one)
    assert one.method == 1
    assert repr(one) == "<GSSAPILogin socks@proxy.example>"


@pytest.mark.parametrize(
    ("levels", "words"),
    [
        ({"level": CLEAR}, "level=0: expected 1 or 2"),
        ({"level": SELECTIVE}, "level=3: expected 1 or 2"),
        ({"level": INTEGRITY, "minimum": CONFIDENTIALITY}, "minimum=2: expected 0 to"),
        ({"minimum": -1}, "minimum=-1: expected 0 to 2"),
    ],
)
def test_levelsThatContradictEachOther(levels: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        GSSAPILogin(theReactor, "localhost", **levels)


# -- proxies of ours ------------------------------------------------------------------


@pytest.mark.parametrize("level", [INTEGRITY, CONFIDENTIALITY])
@inReactor
async def test_muchBothWays(
    realm: Realm, place: Place, proxy: Callable[..., Any], level: ProtectionLevel
) -> None:
    """
    What goes over the wire is what was agreed on.
    """
    between = Between()
    port = await between.listen(place, await proxy())
    method = login(realm, level=level)
    endpoint = way(place, port, method, await place.serve(Echo))
    peer: Any = await endpoint.connect(factoryOf(Peer))
    assert isinstance(peer.transport, LayeredTransport)
    payload = pattern(level, MIB)
    peer.transport.write(payload)
    await place.until(lambda: len(peer.received) >= MIB, 30)
    peer.transport.loseConnection()
    await place.until(lambda: peer.reason)
    same = hashlib.sha256(payload).digest()
    assert hashlib.sha256(peer.received).digest() == same
    isInPlainSight = payload[:1000] in between.seen
    assert isInPlainSight == (level is INTEGRITY)


class Between:
    """
    Somebody on the way to a proxy.

    @ivar seen: What has gone to the proxy.
    @ivar spoils: Whether a bit is changed of what comes back.
    """

    def __init__(self) -> None:
        self.seen = b""
        self.spoils = False

    async def listen(self, place: Place, port: int) -> int:
        between = self

        class Outward(Protocol):
            transport: Any
            inward: Any

            def dataReceived(self, data: bytes) -> None:
                if between.spoils:
                    data = data[:-1] + bytes((data[-1] ^ 1,))
                self.inward.transport.write(data)

            def connectionLost(self, reason: Failure = connectionDone) -> None:
                self.inward.transport.loseConnection()

        class Inward(Protocol):
            transport: Any

            def connectionMade(self) -> None:
                self.transport.pauseProducing()
                place.to(port).connect(factoryOf(Outward)).addCallback(self.join)

            def join(self, outward: Any) -> None:
                self.outward = outward
                outward.inward = self
                self.transport.resumeProducing()

            def dataReceived(self, data: bytes) -> None:
                between.seen += data
                self.outward.transport.write(data)

            def connectionLost(self, reason: Failure = connectionDone) -> None:
                self.outward.transport.loseConnection()

        return await place.listen(factoryOf(Inward))


@inReactor
async def test_theTicketsThatKerberosKnows(
    realm: Realm,
    place: Place,
    proxy: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KRB5CCNAME", f"FILE:{realm.tickets}")
    endpoint = way(
        place, await proxy(), login(realm, tickets=None), await place.serve(Echo)
    )
    peer: Any = await endpoint.connect(factoryOf(Peer))
    peer.transport.write(b"hello")
    await place.until(lambda: peer.received == b"hello")
    peer.transport.abortConnection()
    await place.until(lambda: peer.reason)


@inReactor
async def test_theProxyWantsMore(
    realm: Realm, place: Place, proxy: Callable[..., Any]
) -> None:
    """
    It gets it.
    """
    between = Between()
    port = await between.listen(place, await proxy(minimum=CONFIDENTIALITY))
    endpoint = way(place, port, login(realm, level=INTEGRITY), await place.serve(Echo))
    peer: Any = await endpoint.connect(factoryOf(Peer))
    peer.transport.write(b"in plain sight")
    await place.until(lambda: peer.received == b"in plain sight")
    assert b"in plain sight" not in between.seen
    peer.transport.loseConnection()
    await place.until(lambda: peer.reason)


@pytest.mark.parametrize(
    ("missing", "level", "words"),
    [
        ("mutual_authentication", INTEGRITY, "the proxy has not proved who it is"),
        ("confidentiality", CONFIDENTIALITY, "has not the protection for it"),
        ("confidentiality", INTEGRITY, "level 2, which the context has not"),
        ("integrity", INTEGRITY, "has not the protection for it"),
    ],
)
@inReactor
async def test_aContextThatLacksSomething(
    realm: Realm,
    place: Place,
    proxy: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    missing: str,
    level: ProtectionLevel,
    words: str,
) -> None:
    """
    As with other mechanisms than Kerberos, which has it all.
    """
    port = await proxy(minimum=CONFIDENTIALITY)
    flags = set(gssapi.RequirementFlag) - {gssapi.RequirementFlag[missing]}
    if missing == "integrity":
        flags -= {gssapi.RequirementFlag.confidentiality}
    monkeypatch.setattr(gssapi.SecurityContext, "actual_flags", flags)
    with pytest.raises(errors.AuthenticationFailed, match=words):
        await way(place, port, login(realm, level=level)).connect(factoryOf(Peer))


@pytest.mark.parametrize("minimum", [None, INTEGRITY, CLEAR])
@inReactor
async def test_theProxyProtectsNothing(
    realm: Realm,
    place: Place,
    proxy: Callable[..., Any],
    minimum: ProtectionLevel | None,
) -> None:
    port = await proxy(clear="always")
    method = login(realm, minimum=minimum)
    endpoint = way(place, port, method, await place.serve(Echo))
    if minimum is not CLEAR:
        with pytest.raises(errors.AuthenticationFailed, match="level 0"):
            await endpoint.connect(factoryOf(Peer))
        return
    peer: Any = await endpoint.connect(factoryOf(Peer))
    isReplaced = peer.transport.protocol is peer  # nothing is in between
    assert isReplaced
    peer.transport.write(b"hello")
    await place.until(lambda: peer.received == b"hello")
    peer.transport.abortConnection()
    await place.until(lambda: peer.reason)


@inReactor
async def test_aTicketForAnotherService(
    realm: Realm, place: Place, proxy: Callable[..., Any]
) -> None:
    endpoint = way(place, await proxy(), login(realm, service="host"))
    with pytest.raises(errors.AuthenticationFailed, match="the other side has aborted"):
        await endpoint.connect(factoryOf(Peer))


@pytest.mark.parametrize(
    ("different", "words"),
    [
        ({"host": "elsewhere"}, "not found in Kerberos database"),
        ({"tickets": "/nonexistent/tickets"}, "No credentials cache found"),
        ({"tickets": None}, "nobody.ccache"),
    ],
)
@inReactor
async def test_noTicket(
    realm: Realm,
    place: Place,
    proxy: Callable[..., Any],
    different: dict[str, Any],
    words: str,
) -> None:
    endpoint = way(place, await proxy(), login(realm, **different))
    with pytest.raises(errors.AuthenticationFailed, match=words) as caught:
        await endpoint.connect(factoryOf(Peer))
    assert "127.0.0.1:9 through 127.0.0.1:" in str(caught.value)


@inReactor
async def test_whatIsSpoiledOnTheWay(
    realm: Realm, place: Place, proxy: Callable[..., Any]
) -> None:
    """
    Nothing of it reaches the protocol; the connection ends.
    """
    between = Between()
    port = await between.listen(place, await proxy())
    endpoint = way(place, port, login(realm), await place.serve(Peer))
    peer: Any = await endpoint.connect(factoryOf(Peer))
    await place.until(lambda: place.protocols)
    (destination,) = place.protocols
    destination.transport.write(b"good")
    await place.until(lambda: peer.received)
    between.spoils = True
    destination.transport.write(b"bad")
    await place.until(lambda: peer.reason and destination.reason)
    assert peer.received == b"good"
    assert issubclass(peer.reason, gssapi.raw.misc.GSSError)


@pytest.mark.parametrize("level", [INTEGRITY, CONFIDENTIALITY])
@inReactor
async def test_datagrams(
    realm: Realm,
    place: Place,
    proxy: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    level: ProtectionLevel,
) -> None:
    """
    Those that get lost do not take the others with them.
    """
    original = GSSAPIProtection.wrapDatagram

    def wrapTwo(layer: GSSAPIProtection, data: bytes) -> bytes:
        original(layer, b"this one gets lost")
        return original(layer, data)

    monkeypatch.setattr(GSSAPIProtection, "wrapDatagram", wrapTwo)
    reactor: Any = theReactor
    echo = Datagrams()
    echo.answers = True
    port = reactor.listenUDP(0, echo, interface="127.0.0.1", maxPacketSize=65536)
    to = ("127.0.0.1", port.getHost().port)
    ours = Datagrams()
    endpoint = SOCKS5DatagramEndpoint(
        theReactor, place.to(await proxy()), login(realm, level=level)
    )
    transport = await endpoint.listen(ours)

    def hasMore(before: int) -> bool:
        return len(ours.received) > before

    for payload in (b"", b"one", pattern("largest", 65000), b"last"):
        before = len(ours.received)
        transport.write(payload, to)
        await place.until(partial(hasMore, before))
        assert ours.received[-1] == (payload, to)
    with pytest.raises(MessageLengthError, match="too long to be protected"):
        transport.write(bytes(65500), to)
    await transport.stopListening()
    await port.stopListening()


# -- as a string ---------------------------------------------------------------------


@inReactor
async def test_endpointString(
    realm: Realm, place: Place, proxy: Callable[..., Any]
) -> None:
    port = await proxy(service="host@localhost", clear="always")
    text = (
        f"socks5:127.0.0.1:{await place.serve(Echo)}:tcp\\:127.0.0.1\\:{port}"
        f":gssapi=localhost:service=host:tickets={realm.tickets}"
    )
    with pytest.raises(errors.AuthenticationFailed, match="level 0, where 2"):
        await clientFromString(theReactor, text).connect(factoryOf(Peer))
    endpoint = clientFromString(theReactor, f"{text}:minimum=0")
    peer: Any = await endpoint.connect(factoryOf(Peer))
    peer.transport.write(b"hello")
    await place.until(lambda: peer.received == b"hello")
    peer.transport.loseConnection()
    await place.until(lambda: peer.reason)


def test_route(
    start: Callable[..., Server], realm: Realm, listener: socket.socket
) -> None:
    """
    Of a started server, for clients that have no ticket.
    """
    second = start(f"--authenticator=gssapi:keytab={realm.keytab}:minimum=2")
    first = start(
        "--route",
        f"socks5:tcp\\:127.0.0.1\\:{second.port}"
        f":gssapi=localhost:tickets={realm.tickets}",
    )
    assertServes(first, listener)
    second.waitForLog("user=alice@SOCKS.TEST command=CONNECT")


# -- time ----------------------------------------------------------------------------


@pytest.fixture
def heldUp(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """
    Has whoever looks for a ticket wait as for a KDC that does not answer, until
    the test is over; tells when somebody does.
    """
    asked, answered = threading.Event(), threading.Event()
    original = gssapi.SecurityContext.step

    def step(context: Any, token: bytes | None = None) -> Any:
        assert threading.current_thread() is not threading.main_thread()
        asked.set()
        answered.wait(30)
        return original(context, token)

    monkeypatch.setattr(gssapi.SecurityContext, "step", step)
    yield asked
    answered.set()


@inReactor
async def test_aKDCThatDoesNotAnswer(
    realm: Realm, place: Place, proxy: Callable[..., Any], heldUp: threading.Event
) -> None:
    endpoint = way(place, await proxy(), login(realm), timeout=0.3)
    with pytest.raises(errors.TimedOut):
        await endpoint.connect(factoryOf(Peer))
    assert heldUp.is_set()


@inReactor
async def test_cancelledWhileTheKDCIsAsked(
    realm: Realm, place: Place, proxy: Callable[..., Any], heldUp: threading.Event
) -> None:
    attempt = way(place, await proxy(), login(realm)).connect(factoryOf(Peer))
    await place.until(heldUp.is_set)
    fired: list[Any] = []
    attempt.addBoth(fired.append)
    attempt.cancel()
    (failure,) = fired
    assert failure.type is ConnectingCancelledError


# -- a proxy that answers what ours would not ----------------------------------------


class Rogue(Peer):
    """
    A proxy that does as RFC 1961 says until it is to answer, and then
    answers what the test says; to what it has no answer it says nothing.
    """

    answerToContext: Callable[[bytes], bytes] | None = None
    answerToLevel: Callable[[Any, bytes], bytes] | None = None
    keytab = ""
    request: Any = None

    def __init__(self) -> None:
        super().__init__()
        self.context: Any = None
        self.greeted = False

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        if not self.greeted and self.received[:3] == b"\x05\x01\x01":
            self.greeted = True
            self.received = self.received[3:]
            self.transport.write(b"\x05\x01")
        size = 4 + int.from_bytes(self.received[2:4])
        if len(self.received) < max(size, 5):
            return
        kind, token = self.received[1], self.received[4:size]
        self.received = self.received[size:]
        if kind == CONTEXT:
            self.accept(token)
        elif kind == LEVEL:
            self.agree(token)
        else:
            self.request = self.context.unwrap(token)

    def accept(self, token: bytes) -> None:
        if self.context is None:
            self.context = gssapi.SecurityContext(
                creds=gssapi.Credentials(
                    usage="accept", store={"keytab": f"FILE:{self.keytab}"}
                ),
                usage="accept",
            )
        answer = self.context.step(token) or b""
        if self.answerToContext is not None:
            self.transport.write(type(self).answerToContext(answer))  # type: ignore[misc]  # functions as class attributes
        else:
            self.transport.write(frame(CONTEXT, answer))

    def agree(self, token: bytes) -> None:
        asked = self.context.unwrap(token).message
        if self.answerToLevel is not None:
            answer = type(self).answerToLevel(self.context, asked)  # type: ignore[misc]  # functions as class attributes
            self.transport.write(answer)


async def rogue(place: Place, realm: Realm, **answers: Any) -> int:
    static = {name: staticmethod(value) for name, value in answers.items()}
    kind = type("Answering", (Rogue,), {"keytab": str(realm.keytab), **static})
    return await place.serve(kind)


def octet(number: int) -> Callable[[Any, bytes], bytes]:
    return lambda context, asked: frame(
        LEVEL, context.wrap(bytes((number,)), False).message
    )


@pytest.mark.parametrize(
    ("level", "minimum", "answer", "words"),
    [
        (CONFIDENTIALITY, None, octet(1), "level 1, where 2 was the least"),
        (CONFIDENTIALITY, INTEGRITY, octet(0), "level 0, where 1 was the least"),
        (CONFIDENTIALITY, None, octet(3), "level 3, which the context has not"),
        (CONFIDENTIALITY, CLEAR, octet(4), "no level 04"),
        (
            CONFIDENTIALITY,
            CLEAR,
            lambda context, asked: frame(LEVEL, context.wrap(b"", False).message),
            "no level",
        ),
        (
            CONFIDENTIALITY,
            CLEAR,
            lambda context, asked: frame(LEVEL, b"\x02"),
            "no level: ",
        ),
        (
            CONFIDENTIALITY,
            CLEAR,
            lambda context, asked: REFUSED,
            "the other side has aborted",
        ),
    ],
)
@inReactor
async def test_answersThatDoNotDo(
    realm: Realm,
    place: Place,
    level: ProtectionLevel,
    minimum: ProtectionLevel | None,
    answer: Any,
    words: str,
) -> None:
    port = await rogue(place, realm, answerToLevel=answer)
    endpoint = way(place, port, login(realm, level=level, minimum=minimum))
    with pytest.raises(errors.AuthenticationFailed, match=words):
        await endpoint.connect(factoryOf(Peer))
    (there,) = place.protocols
    await place.until(lambda: there.reason)
    assert there.received == b""
    assert there.request is None


@inReactor
async def test_lessThatWillDo(realm: Realm, place: Place) -> None:
    """
    What follows is no more protected than was agreed on.
    """
    port = await rogue(place, realm, answerToLevel=octet(1))
    method = login(realm, minimum=INTEGRITY)
    attempt = way(place, port, method).connect(factoryOf(Peer))
    await place.until(lambda: place.protocols and place.protocols[0].request)
    request = place.protocols[0].request
    assert request.message == b"\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x09"
    assert not request.encrypted
    attempt.cancel()
    with pytest.raises(ConnectingCancelledError):
        await attempt
    await place.until(lambda: place.protocols[0].reason)


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (lambda token: frame(CONTEXT, b""), errors.AuthenticationFailed, "no context"),
        (
            lambda token: frame(CONTEXT, token[:-1] + bytes((token[-1] ^ 1,))),
            errors.AuthenticationFailed,
            "no context",
        ),
        (lambda token: REFUSED, errors.AuthenticationFailed, "has aborted"),
        (lambda token: frame(DATA, token), errors.MalformedMessage, "type 03"),
        (lambda token: b"\x02\x01", errors.MalformedMessage, "version 02"),
    ],
)
@inReactor
async def test_whoCannotProveToBeTheProxy(
    realm: Realm, place: Place, answer: Any, kind: type[Exception], words: str
) -> None:
    port = await rogue(place, realm, answerToContext=answer)
    with pytest.raises(kind, match=words):
        await way(place, port, login(realm)).connect(factoryOf(Peer))


@inReactor
async def test_aContextThatIsNeverDone(
    realm: Realm, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A proxy cannot have us go on forever.
    """
    monkeypatch.setattr(gssapi.SecurityContext, "step", lambda self, token: b"more")
    monkeypatch.setattr(gssapi.SecurityContext, "complete", False)
    answers: list[bytes] = []

    def answer(token: bytes) -> bytes:
        answers.append(token)
        return frame(CONTEXT, token)

    port = await rogue(place, realm, answerToContext=answer)
    with pytest.raises(errors.AuthenticationFailed, match="after all tokens"):
        await way(place, port, login(realm)).connect(factoryOf(Peer))
    assert len(answers) == 16


@inReactor
async def test_silence(realm: Realm, place: Place) -> None:
    """
    After the context, and after the level.
    """
    nothing = {"answerToContext": lambda token: b""}
    for answers in (nothing, {}):
        port = await rogue(place, realm, **answers)
        with pytest.raises(errors.TimedOut):
            await way(place, port, login(realm), timeout=0.5).connect(factoryOf(Peer))
        await place.until(lambda: place.protocols[-1].reason)
