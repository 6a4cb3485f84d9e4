# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
A server in memory whose sessions are counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from ipaddress import ip_address
from typing import Any

from twisted.cred.checkers import InMemoryUsernamePasswordDatabaseDontUse
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.protocol import connectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from zope.interface import implementer

from tests.conversation import GREET, request
from twisted_socks5 import (
    Decision,
    Limits,
    NoAuthentication,
    SOCKS5ServerFactory,
    UsernamePasswordAuthenticator,
)
from twisted_socks5.addresses import Address
from twisted_socks5.errors import ConnectionNotAllowed
from twisted_socks5.interfaces import (
    ICommand,
    ICommandSession,
    IConnectPolicy,
    ILedger,
    IRequest,
)
from twisted_socks5.limits import Admission, LocalLedger
from twisted_socks5.limits.claims import Claim

HOST = ip_address("192.0.2.1")


@implementer(IConnectPolicy)
class Limiting:
    """
    Limits what it allows, by the port.
    """

    limits: Limits | None = None
    limitsOfAddresses: Limits | None = None

    def decide(self, request: IRequest) -> Decision:
        scope = f"port {request.destination.port}"
        return Decision.allow(limits=self.limits, scope=scope)

    def checkAddress(self, request: IRequest, address: Address) -> Decision:
        scope = f"address {address.ip}"
        return Decision.allow(limits=self.limitsOfAddresses, scope=scope)


class Recording(LocalLedger):
    """
    Remembers what was claimed and not released.
    """

    def __init__(self, clock: Clock) -> None:
        LocalLedger.__init__(self, clock.seconds)
        self.claims: list[Claim] = []

    def admit(self, claims: Sequence[Claim]) -> Claim | None:
        refused = LocalLedger.admit(self, claims)
        if refused is None:
            self.claims += claims
        return refused

    def release(self, claims: Sequence[Claim]) -> None:
        LocalLedger.release(self, claims)
        for claim in claims:
            self.claims.remove(claim)

    @property
    def counted(self) -> list[Claim]:
        """
        All but that there were new ones.
        """
        return [claim for claim in self.claims if not claim.isRate]


@implementer(ILedger)
class Elsewhere:
    """
    Answers later.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[list[Claim], Deferred[Claim | None]]] = []
        self.released: list[Claim] = []

    def admit(self, claims: Sequence[Claim]) -> Deferred[Claim | None]:
        answer: Deferred[Claim | None] = Deferred()
        self.asked.append((list(claims), answer))
        return answer

    def release(self, claims: Sequence[Claim]) -> None:
        self.released += claims

    def spend(self, amounts: Mapping[Claim, int]) -> list[Claim]:
        assert not any(amounts.values())
        return []

    def buy(self, claim: Claim, amount: int) -> int:
        return amount


@implementer(ICommand)
class Waiting:
    """
    Says that all is well, and waits for the client to go.  What the client names has
    the same address, and another one.
    """

    def __init__(self, code: int) -> None:
        self.code = code

    async def run(self, session: ICommandSession, request: IRequest) -> None:
        await session.check(request.destination)
        await session.check(request.destination)
        if request.destination.port == 82:
            await self.checkAgain(session)
        if request.destination.port == 443:
            await session.check(Address(ip_address("198.51.100.2"), 443))
        session.sendReply(0)
        await session.untilClosed()

    async def checkAgain(self, session: ICommandSession) -> None:
        """
        Another address, although it was denied.
        """
        address = Address(ip_address("198.51.100.2"), 82)
        with suppress(ConnectionNotAllowed):
            await session.check(address)
        await session.check(address)


class Server:
    """
    A server, whose clients come from memory.
    """

    def __init__(self, **options: Any) -> None:
        self.clock = Clock()
        self.ledger = Recording(self.clock)
        users = InMemoryUsernamePasswordDatabaseDontUse(alice=b"alice", bob=b"bob")
        limits = options.pop("limits", Limits(bindsPerClient=0))
        admission = Admission(self.clock, limits, options.pop("ledger", self.ledger))
        self.admission = options.pop("within", lambda it: it)(admission)
        self.factory: Any = SOCKS5ServerFactory(
            self.clock,
            [NoAuthentication(), UsernamePasswordAuthenticator.withCheckers(users)],
            commands=[Waiting(code) for code in (1, 2, 3)],
            admission=self.admission,
            policy=options.pop("policy", Limiting()),
            **options,
        )

    def come(self, host: str = "192.0.2.1") -> Client:
        return Client(self, host)

    def ask(
        self, user: str = "", host: str = "192.0.2.1", command: int = 1, port: int = 80
    ) -> Client:
        """
        A client that asks for something.
        """
        client = self.come(host)
        login = GREET
        if user:
            login = b"\x05\x01\x02\x01" + 2 * (bytes((len(user),)) + user.encode())
        client.send(login + request(command, "198.51.100.1", port))
        return client


class Client:
    def __init__(self, server: Server, host: str) -> None:
        kind = IPv6Address if ":" in host else IPv4Address
        self.protocol = server.factory.buildProtocol(None)
        self.transport: Any = StringTransport(
            hostAddress=IPv4Address("TCP", "192.0.2.9", 1080),
            peerAddress=kind("TCP", host, 40000),
        )
        self.protocol.makeConnection(self.transport)

    def send(self, data: bytes) -> None:
        self.protocol.dataReceived(data)

    @property
    def isServed(self) -> bool:
        """
        Whether it has been greeted.
        """
        self.send(b"\x05\x01\x00")
        return self.answer == b"\x05\x00"

    @property
    def answer(self) -> bytes:
        answer: bytes = self.transport.value()
        return answer

    @property
    def reply(self) -> int:
        """
        The REP octet of what was answered last.
        """
        return self.answer[-9]

    @property
    def reason(self) -> str:
        reason: str = self.protocol.session.reason
        return reason

    def goAway(self) -> None:
        self.protocol.connectionLost(connectionDone)
