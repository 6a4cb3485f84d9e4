# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
All that an operator has said, by the command line or in a file.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from twisted_socks5.elsewhere import NOT_AS_EXPECTED
from twisted_socks5.limits import Admission
from twisted_socks5.policy.rulesfile import RulesFile
from twisted_socks5.service.paths import absolute
from twisted_socks5.settings import Limits, Settings


@attrs.frozen
class Said:
    """
    A text, and where it was said.  Two are equal if they mean the same.

    @ivar text: The text.
    @ivar where: What to call it in errors: C{--auth}, or C{FILE:LINE: auth}.
    @ivar folder: Where relative paths in it begin.
    @ivar isSecret: Whether it came from the environment or a file of its own, and is
        not to be shown.
    """

    text: str = attrs.field(repr=False)
    where: str = attrs.field(eq=False)
    folder: str = ""
    isSecret: bool = attrs.field(default=False, eq=False)

    @property
    def name(self) -> str:
        """
        What it begins with, up to a colon: of a plugin, its name.
        """
        return self.text.partition(":")[0]

    @property
    def resolved(self) -> str:
        """
        The text, with absolute paths.
        """
        return absolute(self.text, self.folder)

    @property
    def shown(self) -> str:
        """
        The text, or where it is from if it is not to be shown.
        """
        return f"that of {self.where}" if self.isSecret else self.text

    @property
    def isOnCommandLine(self) -> bool:
        """
        Whether other users of this host can see it.
        """
        return self.where.startswith("--")

    def fail(self, problem: object, what: str = "") -> ValueError:
        """
        What to raise if something is wrong with it.

        @param what: What to call it; by default its name.
        """
        if self.isSecret:  # which the problem may tell of, too
            return ValueError(f"{self.where}: {NOT_AS_EXPECTED}")
        return ValueError(f"{self.where} {what or self.name}: {problem}")


@attrs.frozen
class Access:
    """
    Who is let in, and who may go where.

    @ivar auth: What checks passwords.
    @ivar authenticator: The other methods.
    @ivar policy: The policy, or the guard in front of rules.
    @ivar rules: The rules, if there are any.
    @ivar isOpen: Whether anybody may come, also from other machines.
    """

    policy: Said
    auth: tuple[Said, ...] = ()
    authenticator: tuple[Said, ...] = ()
    rules: RulesFile | None = attrs.field(default=None, eq=id)
    isOpen: bool = False


@attrs.frozen
class ListenerSettings:
    """
    A place where clients can connect.

    @ivar endpoint: The endpoint to listen at.
    @ivar access: Who is let in here, and what they may.
    @ivar limits: Of those who come here together, if there are any.
    """

    endpoint: Said
    access: Access
    limits: Limits | None = None

    def admissionOf(self, server: Admission) -> Admission:
        """
        What counts those who come here.

        @param server: What counts all.
        """
        if self.limits is None:
            return server
        return server.within(f"listener {self.endpoint.shown}", self.limits)


@attrs.frozen
class Configuration:
    """
    All of it.

    @ivar listeners: Where clients can connect.
    @ivar route: The way out; L{None} is straight from this host.
    @ivar command: Commands of plugins.
    @ivar relay: What carries bytes: C{auto} or C{portable}.
    @ivar accessLog: C{text}, C{json} or C{off}.
    @ivar workers: How many processes serve clients.
    @ivar texts: All that can be said once, by the names of options.
    @ivar settings: Deadlines, limits and the like.
    @ivar access: Who is let in where a listener says nothing of its own.
    @ivar places: Where settings are said, by their keys.
    """

    access: Access
    listeners: tuple[ListenerSettings, ...]
    route: Said | None = None
    command: tuple[Said, ...] = ()
    relay: str = "auto"
    accessLog: str = "text"
    workers: int = 1
    texts: Mapping[str, Said] = attrs.field(factory=dict)
    settings: Settings = attrs.field(factory=Settings)
    places: Mapping[str, Said] = attrs.field(factory=dict, eq=False)

    def said(self, key: str) -> Said:
        """
        Where a setting is said.

        @param key: Its key, as operators call it.
        """
        return self.places.get(key, Said("", key))
