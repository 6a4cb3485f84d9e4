# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Judging a session again that is being served, since the policy, accounts or limits
may have changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from twisted_socks5.errors import ConnectionNotAllowed
from twisted_socks5.interfaces import IRevisable
from twisted_socks5.observe.defects import logDefect
from twisted_socks5.server.session import State

if TYPE_CHECKING:
    from twisted_socks5.server.protocol import SOCKS5ServerProtocol


class Revising:
    """
    One time that it is.  A session that is denied is ended, and so is one of which
    nobody can tell.
    """

    def __init__(self, served: SOCKS5ServerProtocol) -> None:
        """
        @param served: Whose session it is.
        """
        self._served = served
        self._asking: Deferred[None] | None = None
        self._isStopped = False

    def begin(self) -> Deferred[None]:
        """
        Ask.

        @return: Fires when all have answered, or nobody waits for them any more.
        """
        self._asking = Deferred.fromCoroutine(self._ask())
        return self._asking

    def stop(self) -> None:
        """
        Ask nothing more, and hear no answers: the session is over, or all is to be
        asked anew.
        """
        self._isStopped = True
        if self._asking is not None:
            self._asking.cancel()

    async def _ask(self) -> None:
        served = self._served
        session = served.session
        try:
            isServed = session.state in (State.RUNNING, State.RELAYING)
            served.countAgain(isServed)
            if not isServed:
                return  # it will be asked, or is over
            await served.checkAccount()
            if session.state is not State.RELAYING:  # there is an address to come
                await served.judgeAgain(None)
            if session.state is State.RELAYING:  # by now, perhaps
                served.revision = served.factory.revision
                await served.judgeAgain(session.dialled or session.target)
            if IRevisable.providedBy(session.traffic):
                await session.traffic.revise()
        except ConnectionNotAllowed as denial:
            session.decision = denial.decision or session.decision
            served.end(f"revised: {denial}")
        except Exception as problem:
            if self._isStopped and isinstance(problem, CancelledError):
                return
            # One that was cancelled by itself has allowed nothing either.
            logDefect(served, "revise", Failure())
            served.end("revising failed")
