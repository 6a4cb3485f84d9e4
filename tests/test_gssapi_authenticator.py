# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The GSSAPI authenticator by itself: what no Kerberos client can be made to do.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from ipaddress import ip_address
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.kdc import Realm
from tests.loopback import inReactor
from tests.rfc1961 import CONTEXT, LEVEL, frame, gssapi, initiator
from twisted_socks5.addresses import Address
from twisted_socks5.authenticators.gssapi import GSSAPIAuthenticator
from twisted_socks5.errors import AuthenticationFailed, StreamEnded
from twisted_socks5.interfaces import IAuthenticator, IExchange
from twisted_socks5.wire_gssapi import ProtectionLevel

HERE = Address(ip_address("127.0.0.1"), 1080)
Accept = Callable[..., Any]


@implementer(IExchange)
class Exchange:
    """
    A client that has sent everything already.
    """

    peer = listener = HERE
    certificate = None

    def __init__(self, sent: bytes) -> None:
        self.unread = bytearray(sent)
        self.written: list[bytes] = []

    async def readExactly(self, count: int) -> bytes:
        raise NotImplementedError

    async def claim(self, name: bytes) -> None: ...

    async def readMessage(self, parse: Callable[[bytearray], Any]) -> Any:
        parsed = parse(self.unread)
        if parsed is None:
            raise StreamEnded
        message, length = parsed
        del self.unread[:length]
        return message

    def write(self, data: bytes) -> None:
        self.written.append(data)


@pytest.fixture
def make(realm: Realm) -> Iterator[Callable[..., GSSAPIAuthenticator]]:
    """
    Makes running authenticators.
    """
    made: list[GSSAPIAuthenticator] = []

    def making(**different: Any) -> GSSAPIAuthenticator:
        one = GSSAPIAuthenticator(reactor, str(realm.keytab), **different)
        one.startService()
        made.append(one)
        return one

    yield making
    for one in made:
        one.stopService()


@pytest.fixture
def change(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Any], Any]], None]:
    """
    Has what C{gss_accept_sec_context} answers changed.
    """
    original = gssapi.raw.accept_sec_context

    def changing(how: Callable[[Any], Any]) -> None:
        def accept(*arguments: Any) -> Any:
            return how(original(*arguments))

        monkeypatch.setattr(gssapi.raw, "accept_sec_context", accept)

    return changing


def client(realm: Realm, level: int = 2) -> bytes:
    """
    All that a client says which does not wait for an answer.  (Without mutual
    authentication it can.)
    """
    context: Any = initiator(
        realm.tickets, flags=[gssapi.RequirementFlag.replay_detection]
    )
    first = frame(CONTEXT, context.step())
    return first + frame(LEVEL, context.wrap(bytes((level,)), False).message)


def test_interface(make: Callable[..., GSSAPIAuthenticator]) -> None:
    one = make()
    assert verifyObject(IAuthenticator, one)
    assert (one.method, one.strength, one.failureReply) == (1, 20, b"\x01\xff")


@inReactor
async def test_whoItIs(realm: Realm, make: Callable[..., GSSAPIAuthenticator]) -> None:
    answer = await make().authenticate(Exchange(client(realm)))
    assert answer.identity.name == "alice@SOCKS.TEST"
    assert answer.identity.raw == b"alice@SOCKS.TEST"
    assert answer.identity.method == 1
    assert answer.identity.groups == frozenset()
    assert answer.layer is not None


@inReactor
async def test_minimumAsANumber(
    realm: Realm, make: Callable[..., GSSAPIAuthenticator]
) -> None:
    answer = await make(minimum=2).authenticate(Exchange(client(realm, level=1)))
    assert answer.layer is not None
    assert b"in plain sight" not in answer.layer.wrap(b"in plain sight")
    with pytest.raises(ValueError, match="minimum=0"):
        make(minimum=0)


@inReactor
async def test_onlyWhileItRuns(realm: Realm) -> None:
    """
    When it has stopped, its threads have ended.
    """
    one = GSSAPIAuthenticator(reactor, str(realm.keytab))
    exchange = Exchange(client(realm))
    assert not one.isAvailable(exchange)
    one.startService()
    assert one.isAvailable(exchange)
    await one.authenticate(exchange)
    assert "gssapi" in threadNames()
    one.stopService()
    assert not one.isAvailable(exchange)
    assert "gssapi" not in threadNames()


def threadNames() -> str:
    return " ".join(thread.name for thread in threading.enumerate())


@inReactor
async def test_tokensWithoutEnd(
    realm: Realm,
    make: Callable[..., GSSAPIAuthenticator],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    A mechanism may want more and more of them; the client may not.
    """
    kind: Any = gssapi.raw.named_tuples.AcceptSecContextResult
    unfinished = kind(None, None, None, b"more", [], 0, None, True)
    monkeypatch.setattr(gssapi.raw, "accept_sec_context", lambda *_: unfinished)
    for token, most in ((b"..", 16), (bytes(65535), 2), (bytes(40000), 3)):
        exchange = Exchange(frame(CONTEXT, token) * 100)
        with pytest.raises(AuthenticationFailed):
            await make().authenticate(exchange)
        assert exchange.written == [frame(CONTEXT, b"more")] * most


def replaced(different: dict[str, Any], accepted: Any) -> Any:
    return accepted._replace(**different)


@inReactor
async def test_anonymous(
    realm: Realm,
    make: Callable[..., GSSAPIAuthenticator],
    change: Callable[[Callable[[Any], Any]], None],
) -> None:
    nobody = gssapi.Name(
        "WELLKNOWN/ANONYMOUS@WELLKNOWN:ANONYMOUS", gssapi.NameType.kerberos_principal
    )
    for different in (
        {"flags": [gssapi.RequirementFlag.anonymity, gssapi.RequirementFlag.integrity]},
        {"initiator_name": nobody.canonicalize(gssapi.MechType.kerberos)},
    ):
        change(partial(replaced, different))
        with pytest.raises(AuthenticationFailed, match="anonymous"):
            await make().authenticate(Exchange(client(realm)))


@inReactor
async def test_mechanismWithLess(
    realm: Realm,
    make: Callable[..., GSSAPIAuthenticator],
    change: Callable[[Callable[[Any], Any]], None],
) -> None:
    """
    What it cannot do is not agreed on.
    """
    change(partial(replaced, {"flags": [gssapi.RequirementFlag.integrity]}))
    first = client(realm).split(b"\x01\x02\x00", 1)[0]
    exchange = Exchange(first + frame(LEVEL, b"\x02"))
    await make(isNEC=True).authenticate(exchange)
    assert exchange.written[1:] == [frame(LEVEL, b"\x01")]
    strict = make(minimum=ProtectionLevel.CONFIDENTIALITY)
    with pytest.raises(AuthenticationFailed):
        await strict.authenticate(Exchange(client(realm, level=2)))
    change(partial(replaced, {"flags": []}))
    for level in (0, 1, 2, 3):
        with pytest.raises(AuthenticationFailed):
            await make().authenticate(Exchange(client(realm, level)))


@inReactor
async def test_inThreads(
    realm: Realm,
    make: Callable[..., GSSAPIAuthenticator],
    change: Callable[[Callable[[Any], Any]], None],
) -> None:
    """
    While it waits for something the reactor does not, and no more than four
    threads do.
    """
    go, waiting = threading.Event(), threading.Semaphore(0)
    most: list[int] = []
    inside: set[threading.Thread] = set()

    def wait(accepted: Any) -> Any:
        inside.add(threading.current_thread())
        waiting.release()
        assert go.wait(30)
        return accepted

    change(wait)
    one = make()
    asked = [
        Deferred.fromCoroutine(one.authenticate(Exchange(client(realm))))
        for _ in range(12)
    ]
    for _ in range(4):
        assert waiting.acquire(timeout=30)
    await deferLater(reactor, 0.05, most.append, len(inside))
    assert most == [4]
    assert threading.main_thread() not in inside
    asked[0].addErrback(lambda failure: failure.trap(Exception))
    asked[0].cancel()  # its client has gone
    go.set()
    answers: Any = await gatherResults(asked[1:])
    assert {each.identity.name for each in answers} == {"alice@SOCKS.TEST"}
    assert len(inside) == 4
