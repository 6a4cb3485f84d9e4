# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The client endpoint, against a proxy in memory.
"""

from __future__ import annotations

import socket
from typing import Any

import pytest
from twisted.internet.address import HostnameAddress, IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import (
    ConnectError,
    ConnectingCancelledError,
    ConnectionDone,
    ConnectionLost,
    NoProtocol,
)
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import LogLevel, capturedLogs
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.clientmemory import (
    CHOSEN,
    PROXY,
    REPLY,
    REQUEST,
    TARGET,
    HalfCloseableSeen,
    MemoryEndpoint,
    Seen,
    SeenFactory,
    errorOf,
    resultOf,
)
from tests.test_layer import Flipping, Strict, flip
from twisted_socks5 import errors
from twisted_socks5.client import Anonymous, Login, SOCKS5ClientEndpoint
from twisted_socks5.errors import SOCKSError
from twisted_socks5.interfaces import IClientAuthenticator, IClientExchange

ALICE = Login("alice", "wonderland")
CREDENTIALS = b"\x01\x05alice\x0awonderland"


class Attempt:
    """
    An endpoint's attempt to connect.
    """

    def __init__(
        self,
        *authenticators: IClientAuthenticator,
        host: str | bytes = TARGET[0],
        port: int = TARGET[1],
        isReady: bool = True,
        protocol: type[Seen] = Seen,
        **options: Any,
    ) -> None:
        self.proxy = MemoryEndpoint(isReady)
        self.clock = Clock()
        self.factory = SeenFactory()
        self.factory.protocol = protocol
        self.endpoint = SOCKS5ClientEndpoint(
            self.proxy, host, port, *authenticators, reactor=self.clock, **options
        )
        self.fired: list[object] = []
        self.outcome: Any = self.endpoint.connect(self.factory)
        self.outcome.addBoth(self._note)

    def _note(self, result: Any) -> Any:
        self.fired.append(result)
        return result

    def error(self) -> BaseException:
        """
        What it has failed with; by then nothing is left.
        """
        error = errorOf(self.outcome)
        assert len(self.fired) == 1
        assert all(each.disconnected for each in self.proxy.transports)
        assert self.clock.getDelayedCalls() == []
        return error

    def protocol(self) -> Seen:
        protocol = resultOf(self.outcome)
        assert isinstance(protocol, Seen)
        assert self.clock.getDelayedCalls() == []
        return protocol


def test_itIsAnEndpoint() -> None:
    attempt = Attempt()
    assert verifyObject(IStreamClientEndpoint, attempt.endpoint)
    assert verifyObject(IClientAuthenticator, ALICE)
    assert verifyObject(IClientAuthenticator, Anonymous())
    attempt.outcome.cancel()
    attempt.error()


@pytest.mark.parametrize("byOctets", [False, True])
def test_withoutAuthentication(byOctets: bool) -> None:
    attempt = Attempt()
    assert attempt.proxy.heard() == b"\x05\x01\x00"
    attempt.proxy.say(CHOSEN, byOctets=byOctets)
    assert attempt.proxy.heard() == REQUEST
    attempt.proxy.say(REPLY[:-1], byOctets=byOctets)
    assert attempt.fired == []
    attempt.proxy.say(REPLY[-1:])
    protocol = attempt.protocol()
    assert protocol.events == ["made"]
    assert protocol.transport is attempt.proxy.transport


@pytest.mark.parametrize("byOctets", [False, True])
def test_withPassword(byOctets: bool) -> None:
    attempt = Attempt(ALICE)
    assert attempt.proxy.heard() == b"\x05\x01\x02"
    attempt.proxy.say(b"\x05\x02", byOctets=byOctets)
    assert attempt.proxy.heard() == CREDENTIALS
    attempt.proxy.say(b"\x01\x00", byOctets=byOctets)
    assert attempt.proxy.heard() == REQUEST
    attempt.proxy.say(REPLY, byOctets=byOctets)
    assert attempt.protocol().events == ["made"]


def test_whatTheProxyDoesNotChooseIsNotSaid() -> None:
    attempt = Attempt(ALICE, Anonymous())
    assert attempt.proxy.heard() == b"\x05\x02\x02\x00"
    attempt.proxy.say(CHOSEN)
    assert attempt.proxy.heard() == REQUEST
    attempt.proxy.say(REPLY)
    assert attempt.protocol().events == ["made"]


@pytest.mark.parametrize("method", [0x01, 0x02, 0x80, 0xFE])
def test_aMethodThatWasNotOffered(method: int) -> None:
    attempt = Attempt()
    attempt.proxy.heard()
    attempt.proxy.say(bytes((5, method)))
    assert type(attempt.error()) is errors.UnofferedMethod
    assert attempt.proxy.heard() == b""


def test_noAuthenticationWhereItWasNotOffered() -> None:
    attempt = Attempt(ALICE)
    attempt.proxy.heard()
    attempt.proxy.say(CHOSEN)
    assert type(attempt.error()) is errors.UnofferedMethod
    assert attempt.proxy.heard() == b""


def test_noAcceptableMethod() -> None:
    attempt = Attempt()
    attempt.proxy.say(b"\x05\xff")
    assert type(attempt.error()) is errors.NoAcceptableMethod


@pytest.mark.parametrize("status", [0x01, 0x02, 0xFF])
def test_authenticationFails(status: int) -> None:
    attempt = Attempt(ALICE)
    attempt.proxy.say(b"\x05\x02")
    attempt.proxy.heard()
    attempt.proxy.say(bytes((1, status)) + REPLY)
    error = attempt.error()
    assert type(error) is errors.AuthenticationFailed
    assert "wonderland" not in f"{error} {error!r} {error.__dict__}"
    assert attempt.proxy.heard() == b""


def test_thePasswordIsNotShown() -> None:
    attempt = Attempt(ALICE)
    for each in (ALICE, attempt.endpoint, attempt.proxy.protocol):
        assert "wonderland" not in f"{each} {each!r}"
    assert repr(attempt.endpoint) == "<SOCKS5ClientEndpoint example.org:443>"
    attempt.outcome.cancel()
    attempt.error()


def test_credentials() -> None:
    assert Login("a", "ü") == Login(b"a", b"\xc3\xbc")
    for username, password in (("a" * 256, "b"), ("a", "b" * 256)):
        with pytest.raises(ValueError, match="255"):
            Login(username, password)


@pytest.mark.parametrize("several", [(ALICE, Login("bob", "b")), (Anonymous(),) * 2])
def test_twoOfOneMethod(several: tuple[IClientAuthenticator, ...]) -> None:
    with pytest.raises(ValueError, match="same method"):
        Attempt(*several)


@pytest.mark.parametrize("method", [-1, 0xFF, 0x100])
def test_methodsThatCannotBe(method: int) -> None:
    odd = Private()
    odd.method = method
    with pytest.raises(ValueError, match="00 to FE"):
        Attempt(odd)


# -- what is asked for ----------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "sent", "address"),
    [
        ("192.0.2.7", "01 c0000207", IPv4Address("TCP", "192.0.2.7", 443)),
        (b"192.0.2.7", "01 c0000207", IPv4Address("TCP", "192.0.2.7", 443)),
        (
            "2001:db8::7",
            "04 20010db8000000000000000000000007",
            IPv6Address("TCP", "2001:db8::7", 443),
        ),
        ("Example.org.", "03 0c" + b"Example.org.".hex(), None),
        (b"a_b", "03 03 615f62", HostnameAddress(b"a_b", 443)),
        ("127.1", "03 05" + b"127.1".hex(), HostnameAddress(b"127.1", 443)),
        ("x" * 63 + ".y", "03 41" + (b"x" * 63 + b".y").hex(), None),
    ],
)
def test_addresses(host: str | bytes, sent: str, address: object) -> None:
    """
    Names go as they were given; the factory is told of the destination.
    """
    attempt = Attempt(host=host)
    attempt.proxy.say(CHOSEN)
    assert attempt.proxy.heard()[3:] == bytes.fromhex(f"050100 {sent} 01bb")
    attempt.proxy.say(REPLY)
    attempt.protocol()
    if address is not None:
        assert attempt.factory.events == ["start", address]


@pytest.mark.parametrize("host", ["", "a..b", "x" * 64, "x." * 128, "a b", "bücher"])
def test_namesThatCannotBe(host: str) -> None:
    attempt = Attempt(host=host)
    assert type(attempt.error()) is errors.InvalidName
    assert attempt.proxy.transports == []


@pytest.mark.parametrize("port", [-1, 65536])
def test_portsThatCannotBe(port: int) -> None:
    attempt = Attempt(port=port)
    assert type(attempt.error()) is ValueError
    assert attempt.proxy.transports == []


def test_namesAreNotLookedUp(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("looked up")

    for name in ("getaddrinfo", "gethostbyname", "gethostbyname_ex"):
        monkeypatch.setattr(socket, name, refuse)
    attempt = Attempt()
    attempt.proxy.say(CHOSEN + REPLY)
    assert REQUEST in attempt.proxy.heard()
    attempt.protocol()


# -- what the proxy answers -------------------------------------------------------


BOUND = [
    bytes.fromhex("01 c6336401 1f90"),
    bytes.fromhex("04 20010db8000000000000000000000001 1f90"),
    *(
        bytes((3, length)) + b"x" * length + b"\x1f\x90"
        for length in (0, 1, 0x80, 0xFE, 0xFF)
    ),
]


@pytest.mark.parametrize("bound", BOUND, ids=lambda bound: f"{bound[0]}-{len(bound)}")
@pytest.mark.parametrize("byOctets", [False, True])
def test_everyKindOfReply(bound: bytes, byOctets: bool) -> None:
    attempt = Attempt()
    attempt.proxy.say(CHOSEN + b"\x05\x00\xff" + bound, byOctets=byOctets)
    attempt.proxy.say(b"payload")
    assert attempt.protocol().events == ["made", b"payload"]


REPLIES = {
    0x01: errors.GeneralFailure,
    0x02: errors.ConnectionNotAllowed,
    0x03: errors.NetworkUnreachable,
    0x04: errors.HostUnreachable,
    0x05: errors.ConnectionRefused,
    0x06: errors.TTLExpired,
    0x07: errors.CommandNotSupported,
    0x08: errors.AddressTypeNotSupported,
}


@pytest.mark.parametrize("rest", [REPLY[2:], bytes(8)], ids=["", "no address"])
@pytest.mark.parametrize("reply", range(1, 256))
def test_everyReply(reply: int, rest: bytes) -> None:
    attempt = Attempt()
    attempt.proxy.say(CHOSEN + bytes((5, reply)) + rest)
    error = attempt.error()
    assert type(error) is REPLIES.get(reply, errors.UnassignedReply)
    assert isinstance(error, SOCKSError)
    assert error.reply == reply
    assert (error.proxy, error.target) == ("192.0.2.1:1080", "example.org:443")
    assert str(error).endswith(": example.org:443 through 192.0.2.1:1080")
    assert attempt.factory.events == ["start"]


CONVERSATIONS: list[tuple[tuple[IClientAuthenticator, ...], bytes]] = [
    ((), CHOSEN + REPLY),
    ((ALICE,), b"\x05\x02\x01\x00" + REPLY),
    ((), CHOSEN + b"\x05\x05\x00" + BOUND[1]),
    *(((), CHOSEN + b"\x05\x00\x00" + bound) for bound in BOUND[1:]),
]


@pytest.mark.parametrize("number", range(len(CONVERSATIONS)))
@pytest.mark.parametrize("loss", ["FIN", "gone", "reset"])
def test_cutAtEachByte(number: int, loss: str) -> None:
    authenticators, said = CONVERSATIONS[number]
    for length in range(len(said)):
        attempt = Attempt(*authenticators)
        attempt.proxy.say(said[:length])
        assert attempt.fired == []
        if loss == "FIN":
            attempt.proxy.protocol.readConnectionLost()
        else:
            attempt.proxy.lose(ConnectionLost() if loss == "reset" else None)
        error = attempt.error()
        assert type(error) is errors.StreamEnded
        if loss == "reset":
            assert isinstance(error.__cause__, ConnectionLost)
        if loss == "FIN":
            attempt.proxy.lose()
        assert len(attempt.fired) == 1


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (b"\x04", errors.MalformedMessage),
        (b"HTTP/1.1 400", errors.MalformedMessage),
        (CHOSEN + b"\x04", errors.MalformedMessage),
        (CHOSEN + b"\x05\x00\x00\x02", errors.UnknownAddressType),
        (CHOSEN + b"\x05\x00\x00\x00", errors.UnknownAddressType),
        (CHOSEN + b"\x05\x00\x00\xff", errors.UnknownAddressType),
    ],
)
def test_brokenProxies(said: bytes, kind: type[SOCKSError]) -> None:
    attempt = Attempt()
    attempt.proxy.say(said)
    assert type(attempt.error()) is kind


def test_aStatusOfAnotherVersion() -> None:
    attempt = Attempt(ALICE)
    attempt.proxy.say(b"\x05\x02\x05\x00")
    assert type(attempt.error()) is errors.MalformedMessage


# -- one flight -------------------------------------------------------------------


def test_oneFlight() -> None:
    attempt = Attempt(oneFlight=True)
    assert attempt.proxy.heard() == b"\x05\x01\x00" + REQUEST
    attempt.proxy.say(CHOSEN)
    assert attempt.proxy.heard() == b""
    attempt.proxy.say(REPLY + b"hello")
    assert attempt.protocol().events == ["made", b"hello"]


@pytest.mark.parametrize("offered", [(ALICE,), (Anonymous(), ALICE)])
def test_noOneFlightWhereAnAnswerDecides(
    offered: tuple[IClientAuthenticator, ...],
) -> None:
    attempt = Attempt(*offered, oneFlight=True)
    assert attempt.proxy.heard() == bytes((5, len(offered))) + bytes(
        each.method for each in offered
    )
    attempt.outcome.cancel()
    attempt.error()


# -- time and cancellation ----------------------------------------------------------


# What the proxy has said so far; None if it has not even accepted.
STATES = [
    None,
    b"",
    b"\x05",
    b"\x05\x02",
    b"\x05\x02\x01",
    b"\x05\x02\x01\x00",
    b"\x05\x02\x01\x00" + REPLY[:-1],
]


def bring(attempt: Attempt, said: bytes | None) -> None:
    if said is not None:
        attempt.proxy.accept()
        attempt.proxy.say(said)


@pytest.mark.parametrize("said", STATES)
def test_cancel(said: bytes | None) -> None:
    attempt = Attempt(ALICE, isReady=False)
    bring(attempt, said)
    attempt.outcome.cancel()
    assert type(attempt.error()) is ConnectingCancelledError
    assert attempt.proxy.cancelled == (1 if said is None else 0)
    if said is not None:
        attempt.proxy.lose()
    assert len(attempt.fired) == 1
    assert attempt.factory.events == (["start"] if said is None else ["start", "stop"])


@pytest.mark.parametrize("said", STATES)
def test_timeout(said: bytes | None) -> None:
    """
    It counts from the beginning, and no byte extends it.
    """
    attempt = Attempt(ALICE, isReady=False)
    attempt.clock.advance(20)
    bring(attempt, said)
    attempt.clock.advance(9.9)
    assert attempt.fired == []
    attempt.clock.advance(0.1)
    error = attempt.error()
    assert type(error) is errors.TimedOut
    assert error.target == "example.org:443"
    assert error.proxy == ("" if said is None else "192.0.2.1:1080")
    assert attempt.proxy.cancelled == (1 if said is None else 0)


def test_theTimeoutCanBeChosen() -> None:
    attempt = Attempt(timeout=2)
    attempt.clock.advance(2)
    assert type(attempt.error()) is errors.TimedOut
    attempt = Attempt(timeout=None)
    assert attempt.clock.getDelayedCalls() == []
    attempt.outcome.cancel()
    attempt.error()


def test_theReactorOfTheConnectionTimesIt() -> None:
    clock = Clock()
    proxy = MemoryEndpoint(isReady=False)
    endpoint = SOCKS5ClientEndpoint(proxy, *TARGET)
    outcome = endpoint.connect(SeenFactory())
    proxy.protocol = proxy.factory.buildProtocol(PROXY)
    connected: Any = StringTransport()
    connected.reactor = clock
    proxy.protocol.makeConnection(connected)
    proxy.connected.callback(proxy.protocol)
    clock.advance(30)
    assert type(errorOf(outcome)) is errors.TimedOut
    assert connected.disconnected


def test_cancelAfterwardsDoesNothing() -> None:
    attempt = Attempt()
    attempt.proxy.say(CHOSEN + REPLY)
    attempt.outcome.cancel()
    assert not attempt.proxy.transport.disconnecting
    assert attempt.protocol().events == ["made"]


@implementer(IStreamClientEndpoint)
class Deaf:
    """
    Cannot be cancelled, and connects nevertheless.
    """

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        self.factory = protocolFactory
        self.connected: Deferred[Any] = Deferred()
        return self.connected


def test_anEndpointThatConnectsAfterItWasCancelled() -> None:
    deaf = Deaf()
    outcome = SOCKS5ClientEndpoint(deaf, *TARGET).connect(SeenFactory())
    outcome.cancel()
    assert type(errorOf(outcome)) is ConnectingCancelledError
    assert deaf.factory.buildProtocol(PROXY) is None


def test_theProxyCannotBeReached() -> None:
    @implementer(IStreamClientEndpoint)
    class Failing:
        def connect(self, protocolFactory: Any) -> Deferred[Any]:
            return fail(ConnectError())

    outcome = SOCKS5ClientEndpoint(Failing(), *TARGET).connect(SeenFactory())
    assert type(errorOf(outcome)) is ConnectError


# -- the user's protocol ----------------------------------------------------------


def test_payloadThatComesWithTheReply() -> None:
    """
    It comes after whoever waits for the connection has got the protocol.
    """
    attempt = Attempt()
    attempt.outcome.addCallback(
        lambda protocol: protocol.events.append("fired") or protocol
    )
    attempt.proxy.say(CHOSEN + REPLY + b"hel")
    attempt.proxy.say(b"lo")
    assert attempt.protocol().events == ["made", "fired", b"hel", b"lo"]


def test_payloadIsNotForWhoHasClosed() -> None:
    attempt = Attempt()
    attempt.outcome.addCallback(
        lambda protocol: protocol.transport.loseConnection() or protocol
    )
    attempt.proxy.say(CHOSEN + REPLY + b"hello")
    assert attempt.protocol().events == ["made"]


def test_halfClose() -> None:
    attempt = Attempt(protocol=HalfCloseableSeen)
    attempt.proxy.say(CHOSEN + REPLY + b"hello")
    attempt.proxy.protocol.readConnectionLost()
    protocol = attempt.protocol()
    attempt.proxy.protocol.writeConnectionLost()
    assert protocol.events == ["made", b"hello", "read closed", "write closed"]
    attempt.proxy.lose()
    assert protocol.events[4:] == [ConnectionDone]
    assert attempt.factory.events[-1] == "stop"


def test_theEndForAProtocolThatCannotHalfClose() -> None:
    attempt = Attempt()
    attempt.proxy.say(CHOSEN + REPLY + b"hello")
    attempt.proxy.protocol.readConnectionLost()
    assert attempt.proxy.transport.disconnecting
    attempt.proxy.lose()
    assert attempt.protocol().events == ["made", b"hello", ConnectionDone]


@pytest.mark.parametrize("kind", [Seen, HalfCloseableSeen])
def test_connectionLost(kind: type[Seen]) -> None:
    attempt = Attempt(protocol=kind)
    attempt.proxy.say(CHOSEN + REPLY)
    attempt.proxy.lose(ConnectionLost())
    assert attempt.protocol().events == ["made", ConnectionLost]


class NoFactory(SeenFactory):
    def buildProtocol(self, addr: Any) -> None:
        return None


class BrokenFactory(SeenFactory):
    def buildProtocol(self, addr: Any) -> Seen:
        raise LookupError("broken")


@pytest.mark.parametrize(
    ("factory", "kind"), [(NoFactory(), NoProtocol), (BrokenFactory(), LookupError)]
)
def test_noProtocol(factory: SeenFactory, kind: type[Exception]) -> None:
    proxy = MemoryEndpoint()
    outcome = SOCKS5ClientEndpoint(proxy, *TARGET).connect(factory)
    proxy.say(CHOSEN + REPLY)
    assert type(errorOf(outcome)) is kind
    assert proxy.transport.disconnected


def test_aProtocolThatFailsOnWhatCameWithTheReply() -> None:
    class Failing(Seen):
        def dataReceived(self, data: bytes) -> None:
            raise LookupError("broken")

    attempt = Attempt(protocol=Failing)
    with capturedLogs() as events:
        attempt.proxy.say(CHOSEN + REPLY + b"hello")
    assert [each["log_level"] for each in events] == [LogLevel.critical]
    assert attempt.proxy.transport.disconnected
    attempt.protocol()


def test_chain() -> None:
    """
    The second proxy is asked for through the first one; each of its errors
    tells which.
    """
    first = MemoryEndpoint()
    second = SOCKS5ClientEndpoint(first, "proxy.example", 1081)
    third = SOCKS5ClientEndpoint(second, *TARGET, ALICE)
    outcome = third.connect(SeenFactory())
    first.say(CHOSEN)
    assert first.heard() == b"\x05\x01\x00\x05\x01\x00\x03\x0dproxy.example\x04\x39"
    first.say(REPLY)
    assert first.heard() == b"\x05\x01\x02"
    first.say(b"\x05\x02\x01\x00")
    first.say(b"\x05\x05" + REPLY[2:])
    error = errorOf(outcome)
    assert type(error) is errors.ConnectionRefused
    assert error.proxy == "proxy.example:1081"
    assert error.target == "example.org:443"
    assert first.transport.disconnected


def test_theFirstOfAChainFails() -> None:
    first = MemoryEndpoint()
    second = SOCKS5ClientEndpoint(first, "proxy.example", 1081)
    outcome = SOCKS5ClientEndpoint(second, *TARGET).connect(SeenFactory())
    first.say(CHOSEN + b"\x05\x04" + REPLY[2:])
    error = errorOf(outcome)
    assert type(error) is errors.HostUnreachable
    assert (error.proxy, error.target) == ("192.0.2.1:1080", "proxy.example:1081")


# -- authenticators of others -------------------------------------------------------


@implementer(IClientAuthenticator)
class Private:
    """
    A method of one's own, that protects what follows.
    """

    method = 0x80

    def __init__(self, layer: type[Flipping] = Flipping) -> None:
        self.layer = layer

    async def authenticate(self, exchange: IClientExchange) -> Flipping:
        assert exchange.proxy == "192.0.2.1:1080"
        assert exchange.target == "example.org:443"
        exchange.write(b"?")
        assert await exchange.readExactly(3) == b"yes"
        return self.layer()


@pytest.mark.parametrize("byOctets", [False, True])
@pytest.mark.parametrize("kind", [Seen, HalfCloseableSeen])
def test_aMethodWithALayer(byOctets: bool, kind: type[Seen]) -> None:
    attempt = Attempt(Private(), protocol=kind)
    assert attempt.proxy.heard() == b"\x05\x01\x80"
    said = b"\x05\x80yes" + flip(REPLY + b"hello")
    attempt.proxy.say(said, byOctets=byOctets)
    assert attempt.proxy.heard() == b"?" + flip(REQUEST)
    protocol = attempt.protocol()
    received: list[Any] = protocol.events[1:]
    assert b"".join(bytes(each) for each in received) == b"hello"
    assert protocol.transport is not None
    protocol.transport.write(b"payload")
    assert attempt.proxy.heard() == flip(b"payload")
    attempt.proxy.lose()
    assert protocol.events[-1] is ConnectionDone


BAD = b"\x05\x80yes" + flip(REPLY[:4]) + b"\x00"


@pytest.mark.parametrize("byOctets", [False, True])
def test_aLayerThatFindsTheBytesBad(byOctets: bool) -> None:
    attempt = Attempt(Private())
    attempt.proxy.say(BAD, byOctets=byOctets)
    error = attempt.error()
    assert type(error) is errors.MalformedMessage
    assert isinstance(error.__cause__, ValueError)
    attempt.proxy.lose()


@pytest.mark.parametrize("isHalf", [False, True])
def test_aLayerThatFindsTheEndTooEarly(isHalf: bool) -> None:
    attempt = Attempt(Private(Strict))
    attempt.proxy.say(b"\x05\x80yes" + flip(REPLY[:4]))
    if isHalf:
        attempt.proxy.protocol.readConnectionLost()
    else:
        attempt.proxy.lose()
    error = attempt.error()
    assert type(error) is errors.StreamEnded
    assert isinstance(error.__cause__, LookupError)


def test_aLayerThatFindsThePayloadBad() -> None:
    """
    The reactor hears of it, and closes.
    """
    attempt = Attempt(Private())
    attempt.proxy.say(b"\x05\x80yes" + flip(REPLY))
    with pytest.raises(ValueError, match="00 came"):
        attempt.proxy.say(flip(b"hello") + b"\x00")
    assert attempt.protocol().events == ["made", b"hello"]


class Asking:
    """
    Asks the user before it says anything.
    """

    method = 0x81

    def __init__(self) -> None:
        self.answer: Deferred[None] = Deferred()

    def authenticate(self, exchange: IClientExchange) -> Deferred[None]:
        return self.answer


def test_aMethodThatWaitsForSomethingElse() -> None:
    """
    What the proxy does meanwhile comes to light afterwards.
    """
    for isLost in (False, True):
        asking: Any = Asking()
        attempt = Attempt(asking, protocol=HalfCloseableSeen)
        attempt.proxy.say(b"\x05\x81")
        if isLost:
            attempt.proxy.lose()
        else:
            attempt.proxy.say(REPLY + b"hello")
            attempt.proxy.protocol.readConnectionLost()
        assert attempt.fired == []
        asking.answer.callback(None)
        if isLost:
            assert type(attempt.error()) is errors.StreamEnded
        else:
            assert attempt.protocol().events == ["made", b"hello", "read closed"]


def test_aMethodThatWaitsIsCancelled() -> None:
    asking: Any = Asking()
    cancelled: list[object] = []
    asking.answer = Deferred(cancelled.append)
    attempt = Attempt(asking)
    attempt.proxy.say(b"\x05\x81")
    attempt.outcome.cancel()
    assert type(attempt.error()) is ConnectingCancelledError
    assert len(cancelled) == 1


def test_aMethodThatFails() -> None:
    asking: Any = Asking()
    attempt = Attempt(asking)
    attempt.proxy.say(b"\x05\x81")
    asking.answer.errback(LookupError("no such key"))
    assert type(attempt.error()) is LookupError


def test_factoryForEverybody() -> None:
    """
    L{Factory.forProtocol} will do.
    """
    proxy = MemoryEndpoint()
    endpoint = SOCKS5ClientEndpoint(proxy, *TARGET)
    outcome = endpoint.connect(Factory.forProtocol(Seen))
    proxy.say(CHOSEN + REPLY)
    assert isinstance(resultOf(outcome), Seen)
