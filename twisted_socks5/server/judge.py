# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Asking the policy, so that whatever it does, what it did not allow is denied.
"""

from __future__ import annotations

from collections.abc import Awaitable
from inspect import iscoroutine

import attrs
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from twisted_socks5.addresses import Address
from twisted_socks5.errors import ConnectionNotAllowed
from twisted_socks5.interfaces import IConnectPolicy, INamePolicy
from twisted_socks5.observe.defects import logDefect
from twisted_socks5.outcome import answerOf
from twisted_socks5.policy import Decision
from twisted_socks5.server.listeners import OwnListeners
from twisted_socks5.server.request import Request
from twisted_socks5.wire import Command


class Judge:
    """
    The policy, its deadline, and the one rule that no policy can lift: that
    nobody gets through the proxy to the proxy itself.

    @ivar policy: The policy.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        policy: IConnectPolicy,
        ownListeners: OwnListeners,
        timeout: float,
    ) -> None:
        """
        @param timeout: How long each question may take, in seconds.
        """
        self._reactor = reactor
        self.policy = policy
        self._ownListeners = ownListeners
        self._timeout = timeout

    async def decide(self, request: Request) -> Decision:
        """
        Judge a request as it was made.

        @raise ConnectionNotAllowed: The policy failed.
        """
        return await self._answer("decide", request)

    async def check(
        self, request: Request, address: Address, asked: Address
    ) -> Decision:
        """
        Judge an address that a request comes down to.

        @param asked: What the client has named; with UDP ASSOCIATE, which names
            none itself, that is another for each datagram.
        @return: By what it is allowed.
        @raise ConnectionNotAllowed: It is denied.
        """
        if self._ownListeners.includes(address):
            raise ConnectionNotAllowed("the proxy's own listener")
        if request.command == Command.ASSOCIATE:
            request = attrs.evolve(request, destination=asked)
        answer = await self._answer("checkAddress", request, address)
        answer.enforce()
        return answer

    async def checkName(self, request: Request, name: Address) -> None:
        """
        Judge a name that a datagram is for, if the policy does.

        @raise ConnectionNotAllowed: It is denied.
        """
        if INamePolicy.providedBy(self.policy):
            request = attrs.evolve(request, destination=name)
            answer = await self._answer("checkName", request)
            answer.enforce()

    async def _answer(self, method: str, *arguments: object) -> Decision:
        try:
            answer = getattr(self.policy, method)(*arguments)
            if not isinstance(answer, Decision):
                answer = await self._inTime(answer)
        except CancelledError:
            raise
        except Exception:
            logDefect(self.policy, method, Failure())
            raise ConnectionNotAllowed("the policy failed") from None
        return answer

    async def _inTime(self, answer: Awaitable[Decision]) -> Decision:
        if not iscoroutine(answer) and not isinstance(answer, Deferred):
            raise TypeError(f"not a Decision: {type(answer).__name__}")
        waiting = answerOf(answer)
        try:
            decision = await waiting.addTimeout(self._timeout, self._reactor)
        except TimeoutError:
            raise RuntimeError(f"no answer within {self._timeout:g} s") from None
        if not isinstance(decision, Decision):
            raise TypeError(f"not a Decision: {type(decision).__name__}")
        return decision
