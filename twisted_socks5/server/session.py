# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
What is known of each client, and the list of those that are connected.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from enum import StrEnum
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from zope.interface import implementer

from twisted_socks5.addresses import Address
from twisted_socks5.authenticators import Identity
from twisted_socks5.interfaces import (
    ICommandSession,
    IListenerRoute,
    IOutbound,
    IRoute,
    IStreamLayer,
    ITraffic,
    ITunnel,
)
from twisted_socks5.policy import Decision

if TYPE_CHECKING:
    from twisted_socks5.limits.bandwidth import Meters
    from twisted_socks5.server.protocol import SOCKS5ServerProtocol


class State(StrEnum):
    """
    How far a session has come.
    """

    GREETING = "greeting"
    AUTHENTICATING = "authenticating"
    REQUESTING = "requesting"
    DECIDING = "deciding"
    RUNNING = "running"
    RELAYING = "relaying"
    CLOSING = "closing"
    ENDED = "ended"


LIVE = tuple(state for state in State if state is not State.ENDED)
"""
Those that sessions in the registry can be in.
"""


@implementer(ICommandSession)
class Session:
    """
    The facts of one client's session, and what a command can do with it.

    @ivar layer: What protects the client's bytes, if anything does.
    @ivar logout: To be called when it is over.
    @ivar method: The METHOD octet that was chosen, if one was.
    @ivar rawTarget: DST.ADDR as it was sent.
    @ivar traffic: Where what it carries is counted, once it does.
    @ivar tunnel: What joins the client with a destination, once they are.
    """

    __slots__ = (
        "_began",
        "_lasted",
        "_protocol",
        "client",
        "command",
        "decision",
        "dialled",
        "identity",
        "layer",
        "listener",
        "logout",
        "method",
        "number",
        "rawTarget",
        "reason",
        "reply",
        "started",
        "state",
        "target",
        "traffic",
        "tunnel",
    )

    def __init__(
        self,
        number: int,
        protocol: SOCKS5ServerProtocol,
        client: Address,
        listener: Address,
    ) -> None:
        self._protocol: SOCKS5ServerProtocol | None = protocol
        self.number = number
        self.client = client
        self.listener = listener
        self.started = time.time()
        self._began = time.monotonic()
        self.state = State.GREETING
        self.method: int | None = None
        self.identity: Identity | None = None
        self.command: int | None = None
        self.logout: Callable[[], object] | None = None
        self.rawTarget = b""
        self.target: Address | None = None
        self.decision: Decision | None = None
        self.dialled: Address | None = None
        self.reply: int | None = None
        self.reason = ""
        self.layer: IStreamLayer | None = None
        self.traffic: ITraffic | None = None
        self.tunnel: ITunnel | None = None
        self._lasted: float | None = None

    @property
    def seconds(self) -> float:
        """
        How long it has lasted.
        """
        return time.monotonic() - self._began if self._lasted is None else self._lasted

    @property
    def bytesUp(self) -> int:
        """
        Payload bytes from the client.
        """
        return 0 if self.traffic is None else self.traffic.bytesUp

    @property
    def bytesDown(self) -> int:
        """
        Payload bytes to the client.
        """
        return 0 if self.traffic is None else self.traffic.bytesDown

    def end(self, reason: str) -> None:
        """
        End the session now, whatever it is doing.
        """
        if self._protocol is not None:
            self._protocol.end(reason)

    def cut(self, reason: str) -> None:
        """
        End the session at once.  Not for those whom its own conversation runs.
        """
        if self._protocol is not None:
            self._protocol.cut(reason)

    async def revise(self) -> None:
        """
        Have it judged again, and end it if it is denied now.
        """
        if self._protocol is not None:
            await self._protocol.revise()

    def ended(self) -> None:
        """
        It is over: nothing can be done with it, only read.
        """
        self.state = State.ENDED
        self._lasted = self.seconds
        self._protocol = None

    # -- ICommandSession ------------------------------------------------------

    @property
    def route(self) -> IRoute:
        """
        The way out that the policy decided for.
        """
        decision = self.decision
        assert decision is not None
        route = decision.route
        if route is None:  # one that is merely false is a way of its own
            route = self._live.factory.route
        if IListenerRoute.providedBy(route):
            route = route.forListener(self.listener)
        if decision.bindAddress is not None:
            route = route.boundTo(decision.bindAddress)
        return route

    @property
    def scope(self) -> int:
        """
        The number of the network interface that a link-local address of the listener is of.
        """
        return self._live.scope

    @property
    def meters(self) -> Meters | None:
        """
        What bounds the bytes that it carries, if anything does.
        """
        return self._live.meters

    def check(self, address: Address, asked: Address | None = None) -> Awaitable[None]:
        """
        Ask the policy about an address that this session's request comes down
        to.
        """
        return self._live.check(address, asked)

    async def checkName(self, name: Address) -> None:
        """
        Ask the policy about a name that a datagram is for.
        """
        await self._live.checkName(name)

    async def approve(self, outbound: IOutbound) -> None:
        """
        Ask the policy about a connection again, if it has changed meanwhile.
        """
        try:
            await self._live.approve(outbound.peer)
        except BaseException:
            outbound.abort()
            raise

    def sendReply(self, reply: int, bound: Address | None = None) -> None:
        """
        Send a reply (RFC 1928, section 6).
        """
        self._live.sendReply(reply, bound)

    def relay(self, outbound: IOutbound) -> None:
        """
        Join the client with a destination.
        """
        self._live.relay(outbound)

    async def untilClosed(self) -> None:
        """
        Wait for the client to close its connection, and drop what it sends
        meanwhile.
        """
        await self._live.untilClosed()

    @property
    def _live(self) -> SOCKS5ServerProtocol:
        if self._protocol is None:
            raise RuntimeError("the session is over")
        return self._protocol


class SessionRegistry:
    """
    The sessions that live now.

    @ivar revision: How often their policies were said to have changed.
    @ivar sessions: By their number.
    """

    def __init__(self) -> None:
        self.revision = 0
        self._empty: list[Deferred[None]] = []
        self._last = 0
        self.sessions: dict[int, Session] = {}

    def __len__(self) -> int:
        return len(self.sessions)

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self.sessions.values()))

    def open(
        self, protocol: SOCKS5ServerProtocol, client: Address, listener: Address
    ) -> Session:
        """
        A client has connected.
        """
        self._last += 1
        session = Session(self._last, protocol, client, listener)
        self.sessions[session.number] = session
        return session

    def startAt(self, number: int) -> None:
        """
        Have the next session be one of another number.
        """
        self._last = number - 1

    def whenEmpty(self) -> Deferred[None]:
        """
        Wait until there are no sessions.
        """
        waiting: Deferred[None] = Deferred(lambda it: self._empty.remove(it))
        self._empty.append(waiting)
        self._tellWhenEmpty()
        return waiting

    def _tellWhenEmpty(self) -> None:
        if self._empty and not self.sessions:
            waiting, self._empty = self._empty, []
            for each in waiting:
                each.callback(None)

    def close(self, session: Session) -> None:
        """
        A session is over.
        """
        session.ended()
        del self.sessions[session.number]
        self._tellWhenEmpty()
