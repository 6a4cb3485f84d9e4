# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Who is let in, as long as there are limits that somebody could be over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from twisted_socks5.addresses import Address
from twisted_socks5.interfaces import ILedger
from twisted_socks5.limits.allowance import Allowance
from twisted_socks5.limits.bandwidth import Bandwidths, Meters
from twisted_socks5.limits.claims import Claim
from twisted_socks5.limits.ledger import LocalLedger
from twisted_socks5.limits.spending import Spending
from twisted_socks5.observe.defects import logDefect
from twisted_socks5.settings import Limits
from twisted_socks5.wire import Command

if TYPE_CHECKING:
    from twisted_socks5.server.session import Session


_ANY_NUMBER = 1 << 62


class Admission:
    """
    What sessions are counted by: the limits of the process, then those of the
    listener, then those of the rule that lets a session pass.  A session has to
    keep all of them.

    @ivar boundsBandwidth: Whether there are limits of bandwidth for all sessions.
    @ivar countsConnections: Whether there are limits that clients can be over before
        they are served.
    @ivar ledger: Where everything is counted.
    @ivar limitsHit: How often somebody was refused or ended, by the key of the limit.
    @ivar spending: Counts what is carried by those who have quotas.
    """

    def __init__(
        self, reactor: Any, limits: Limits | None = None, ledger: ILedger | None = None
    ) -> None:
        """
        @param limits: Those of the process.
        @param ledger: By default, one of this process.
        """
        self._reactor = reactor
        self.ledger = ledger or LocalLedger(reactor.seconds)
        self.limitsHit: Counter[str] = Counter()
        self.spending = Spending(reactor, self.ledger, self.limitsHit)
        self._bandwidths = Bandwidths(
            reactor, self.ledger, LocalLedger(reactor.seconds)
        )
        self._outer: tuple[Allowance, ...] = ()
        self._inner: WeakSet[Admission] = WeakSet()
        self._own = Allowance("", limits or Limits())
        self._takeUp()

    def within(self, scope: str, limits: Limits) -> Admission:
        """
        The same, with further limits for some of the clients: those of a listener.

        @param scope: What to call them, such as C{listener 192.0.2.1:1080}.
        """
        inner = Admission(self._reactor, ledger=self.ledger)
        inner.limitsHit, inner._bandwidths = self.limitsHit, self._bandwidths
        inner.spending = self.spending
        inner._own = Allowance(scope, limits)
        self._inner.add(inner)
        self._takeUp()
        return inner

    def replace(self, limits: Limits) -> None:
        """
        Go by other limits from now on.  Sessions that live do when they are revised.
        """
        self._own = Allowance(self._own.scope, limits)
        self._takeUp()

    def _takeUp(self) -> None:
        self._allowances = (*self._outer, self._own)
        self.countsConnections = any(one.countsConnections for one in self._allowances)
        self.boundsBandwidth = any(one.boundsBandwidth for one in self._allowances)
        self._countsUsers = any(one.countsUsers for one in self._allowances)
        for inner in self._inner:
            inner._outer = self._allowances
            inner._takeUp()

    def claimsOfAll(self) -> list[Claim]:
        """
        What one more session claims.
        """
        return list(chain(*(one.ofAll() for one in self._allowances)))

    def claimsOfClient(self, client: Address) -> list[Claim]:
        """
        What one more session of a client claims.
        """
        return list(chain(*(one.ofClient(client) for one in self._allowances)))

    def claimsOfRequest(self, session: Session) -> Sequence[Claim]:
        """
        What a session claims by its user and its command.
        """
        client, identity, command = session.client, session.identity, session.command
        if command == Command.CONNECT and not self._countsUsers:
            return ()
        assert identity is not None
        assert command is not None
        claims: list[Claim] = []
        for one in self._allowances:
            claims += one.ofUser(identity, client)
            claims += one.ofCommand(command, client)
        return claims

    def claimsOfRule(self, session: Session, rule: Allowance) -> Sequence[Claim]:
        """
        What a session claims by a rule that lets it pass.
        """
        client, identity, command = session.client, session.identity, session.command
        assert identity is not None
        assert command is not None
        return [
            *rule.ofAll(),
            *rule.ofClient(client),
            *rule.ofUser(identity, client),
            *rule.ofCommand(command, client),
        ]

    def meters(self, session: Session, rules: Sequence[Allowance]) -> Meters | None:
        """
        What bounds the bytes that a session carries, if anything does.

        @param rules: Those that let it pass, and have limits.
        """
        if not self.boundsBandwidth and not rules:
            return None
        shared, own = self.bandwidths(session, rules)
        return self._bandwidths.meters(shared, own) if shared or own else None

    def bandwidths(
        self, session: Session, rules: Iterable[Allowance]
    ) -> tuple[list[Claim], list[Claim]]:
        """
        What a session's bytes are bounded by: together with others, and on its own.
        """
        identity = session.identity
        assert identity is not None
        shared: list[Claim] = []
        own: list[Claim] = []
        for one in (*self._allowances, *rules):
            some, others = one.bandwidths(identity, session.client)
            shared += some
            own += others
        return shared, own


class Holding:
    """
    What one session is counted for.
    """

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._claims: list[Claim] = []
        self._asked: list[Sequence[Claim]] = []
        self._isOver = False

    def admit(self, claims: Sequence[Claim]) -> Claim | Deferred[Claim | None] | None:
        """
        Claim more: all of it, or nothing.

        @return: The claim that is too many, if one is.
        """
        if not claims:
            return None
        answer = self._admission.ledger.admit(claims)
        if isinstance(answer, Deferred):
            return self._wait(answer, claims)
        return self._take(answer, claims)

    def _take(self, refused: Claim | None, claims: Sequence[Claim]) -> Claim | None:
        if refused is not None:
            self._admission.limitsHit[refused.key] += 1
        elif self._isOver:
            self._admission.ledger.release(claims)
        else:
            self._claims += claims
        return refused

    def _wait(
        self, answer: Deferred[Claim | None], claims: Sequence[Claim]
    ) -> Deferred[Claim | None]:
        """
        Wait for the answer of a ledger elsewhere, which is told what is over even if
        nobody waits any more.
        """
        waiting: Deferred[Claim | None] = Deferred()
        self._asked.append(claims)

        def answered(refused: Claim | None) -> None:
            self._asked.remove(claims)
            self._take(refused, claims)
            if not waiting.called:
                waiting.callback(refused)

        def failed(failure: Failure) -> None:
            self._asked.remove(claims)
            logDefect(self._admission.ledger, "admit", failure)
            if not waiting.called:
                waiting.callback(claims[0])

        answer.addCallbacks(answered, failed)
        return waiting

    def goBy(self, claims: Sequence[Claim]) -> None:
        """
        Count what is there already for these and for no others, also where that is
        more than there may be.
        """
        if self._isOver:
            return
        wanted = {claim[:3]: claim for claim in claims if not claim.isRate}
        over: list[Claim] = []
        held: list[Claim] = []
        for claim in self._claims:
            isHeld = claim.isRate or claim[:3] in wanted
            (held if isHeld else over).append(claim)
        self._claims = held
        if over:
            self._admission.ledger.release(over)
        known = {claim[:3] for claim in chain(held, *self._asked)}
        self.admit(
            [
                claim._replace(limit=_ANY_NUMBER)
                for who, claim in wanted.items()
                if who not in known and not claim.isQuota
            ]
        )

    def release(self, key: str = "") -> None:
        """
        It is over.

        @param key: Only what was claimed of this.
        """
        over = [claim for claim in self._claims if not key or claim.key == key]
        if key:
            self._claims = [claim for claim in self._claims if claim.key != key]
        else:
            self._claims, self._isOver = [], True
        if over:
            self._admission.ledger.release(over)
