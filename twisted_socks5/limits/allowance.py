# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
What limits mean for those whom they are for.
"""

from __future__ import annotations

import attrs

from twisted_socks5.addresses import Address
from twisted_socks5.authenticators import Identity
from twisted_socks5.limits.claims import Claim, clientOf, shortened, userOf
from twisted_socks5.settings import Limits
from twisted_socks5.wire import Command

_Counted = tuple[tuple[str, int], ...]

_PORTS = {
    int(Command.BIND): ("binds-per-client", "bindsPerClient"),
    int(Command.ASSOCIATE): ("associations-per-client", "associationsPerClient"),
}
"""
What commands hold open, by their octets.
"""


def _limited(limits: Limits, **fields: str) -> _Counted:
    """
    What there is a limit of, by its key.

    @param fields: Fields of the limits, by their keys with C{_} for C{-}.
    """
    return tuple(
        (key.replace("_", "-"), getattr(limits, field))
        for key, field in fields.items()
        if getattr(limits, field)
    )


@attrs.frozen(init=False)
class Allowance:
    """
    One record of limits, for the process, for a listener or for a rule.

    @ivar scope: Which of them it is, as in L{Claim}; a long one is shortened.
    """

    scope: str
    limits: Limits
    _ofAll: _Counted
    _ofClient: _Counted
    _ofUser: _Counted
    _bandwidths: _Counted

    def __init__(self, scope: str, limits: Limits) -> None:
        self.__attrs_init__(
            shortened(scope),
            limits,
            _limited(limits, sessions="sessions", new_sessions="newSessions"),
            _limited(
                limits,
                sessions_per_client="sessionsPerClient",
                new_sessions_per_client="newSessionsPerClient",
            ),
            _limited(
                limits,
                sessions_per_user="sessionsPerUser",
                new_sessions_per_user="newSessionsPerUser",
                bytes_per_day="bytesPerDay",
                bytes_per_month="bytesPerMonth",
            ),
            _limited(
                limits,
                bandwidth="bandwidth",
                bandwidth_per_client="bandwidthPerClient",
                bandwidth_per_user="bandwidthPerUser",
                bandwidth_per_session="bandwidthPerSession",
            ),
        )

    @property
    def countsConnections(self) -> bool:
        """
        Whether there is a limit that clients can be over before they are served.
        """
        return bool(self._ofAll or self._ofClient)

    @property
    def countsUsers(self) -> bool:
        """
        Whether there is one that users can be over.
        """
        return bool(self._ofUser)

    @property
    def boundsBandwidth(self) -> bool:
        """
        Whether there is one of bytes a second.
        """
        return bool(self._bandwidths)

    def ofAll(self) -> list[Claim]:
        """
        What one more session claims.
        """
        return [Claim(self.scope, key, "", limit) for key, limit in self._ofAll]

    def ofClient(self, client: Address) -> list[Claim]:
        """
        What one more session of a client claims.
        """
        if not self._ofClient:
            return []
        who = clientOf(client, self.limits)
        return [Claim(self.scope, key, who, limit) for key, limit in self._ofClient]

    def ofUser(self, identity: Identity, client: Address) -> list[Claim]:
        """
        What one more session of a user claims.
        """
        if not self._ofUser:
            return []
        who = userOf(identity, client, self.limits)
        return [Claim(self.scope, key, who, limit) for key, limit in self._ofUser]

    def ofCommand(self, command: int, client: Address) -> list[Claim]:
        """
        What a client's command claims for what it holds open.
        """
        key, field = _PORTS.get(command, ("", ""))
        limit = getattr(self.limits, field) if field else 0
        if not limit:
            return []
        return [Claim(self.scope, key, clientOf(client, self.limits), limit)]

    def bandwidths(
        self, identity: Identity, client: Address
    ) -> tuple[list[Claim], list[Claim]]:
        """
        What a session's bytes are bounded by: together with others, and on its own.
        """
        shared, own = [], []
        for key, limit in self._bandwidths:
            if key == "bandwidth-per-session":
                own.append(Claim(self.scope, key, "", limit))
                continue
            who = ""
            if key == "bandwidth-per-client":
                who = clientOf(client, self.limits)
            elif key == "bandwidth-per-user":
                who = userOf(identity, client, self.limits)
            shared.append(Claim(self.scope, key, who, limit))
        return shared, own
