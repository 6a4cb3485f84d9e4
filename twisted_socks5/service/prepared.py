# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
What a configuration asks for, made, before anything of it is used: if it cannot
be made, nothing has changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import attrs
from twisted.application.service import IService
from twisted.cred.checkers import FilePasswordDB, ICredentialsChecker

from twisted_socks5.authenticators import (
    NoAuthentication,
    UsernamePasswordAuthenticator,
)
from twisted_socks5.authenticators.certificate import CertificateAuthenticator
from twisted_socks5.interfaces import IAuthenticator, IConnectPolicy
from twisted_socks5.passwords.checker import HashedPasswordChecker
from twisted_socks5.policy import RulePolicy
from twisted_socks5.relay import AutomaticRelay, PortableRelay
from twisted_socks5.server.factory import SOCKS5ServerFactory
from twisted_socks5.service.accounts import prepareChecker
from twisted_socks5.service.configuration import (
    Access,
    Configuration,
    ListenerSettings,
    Said,
)
from twisted_socks5.service.plugins import (
    AUTHENTICATOR,
    COMMAND,
    POLICY,
    ROUTE,
    PluginKind,
    Plugins,
    findPlugins,
    makePlugin,
)
from twisted_socks5.service.routes import RouteMaker
from twisted_socks5.service.rules import policyOf, takeRules

_AT_EACH_LOGIN = (
    "but accounts are read at each login: nobody gets in whom that file has not now"
)
"""
What else to tell if a file of accounts is wrong while the old configuration stays.
"""

_RELAYS: dict[str, type[AutomaticRelay] | type[PortableRelay]] = {
    "auto": AutomaticRelay,
    "portable": PortableRelay,
}

# Endpoints of ours and Twisted's that no client shows a certificate to; behind
# haproxy: it would be the balancer's.  Nothing is known of those of others.
_WITHOUT_CERTIFICATES = {"tcp", "tcp6", "unix", "ssl", "systemd", "haproxy"}


@attrs.frozen
class Prepared:
    """
    What was made.

    @ivar configuration: What asked for it.
    @ivar plugins: All that there are.
    @ivar factory: The server.
    @ivar factories: Its siblings, for each listener in their order.
    @ivar services: What is to be started with the server.
    @ivar checkers: Those of passwords.
    @ivar maker: Made the ways out that rules name.
    """

    configuration: Configuration
    plugins: Plugins
    factory: SOCKS5ServerFactory
    factories: tuple[SOCKS5ServerFactory, ...]
    services: tuple[IService, ...]
    checkers: Mapping[Said, ICredentialsChecker]
    maker: RouteMaker

    @property
    def served(self) -> Iterator[tuple[ListenerSettings, SOCKS5ServerFactory]]:
        """
        Where clients can connect, and what is to serve them.
        """
        return zip(self.configuration.listeners, self.factories, strict=True)


def prepare(
    reactor: Any,
    configuration: Configuration,
    before: Prepared | None = None,
    **options: Any,
) -> Prepared:
    """
    Make what a configuration asks for.

    @param before: What is in force now: of this, checkers that are asked for in the
        same words are taken, with what they have learned.
    @param options: What else the factory is to be told.
    @raise ValueError: It cannot be made; the text says why.
    """
    return _Preparation(reactor, configuration, before).prepare(options)


class _Preparation:
    """
    Making it.
    """

    def __init__(
        self,
        reactor: Any,
        configuration: Configuration,
        before: Prepared | None,
    ) -> None:
        self._reactor = reactor
        self._configuration = configuration
        self._plugins = findPlugins()
        self._before = before
        self._checkers: dict[Said, ICredentialsChecker] = {}
        self._made: list[object] = []

    def prepare(self, options: dict[str, Any]) -> Prepared:
        """
        Make all of it.
        """
        configuration, settings = self._configuration, self._configuration.settings
        authenticators, policy = self._access(configuration.access)
        unchanged = self._whenceTheSameWays()
        route = None
        if unchanged is not None:
            route = unchanged.factory.route
        elif configuration.route is not None:
            route = self._make(ROUTE, configuration.route)
        if self._before is not None:
            options = {"counts": self._before.factory.counts, **options}
        factory = SOCKS5ServerFactory(
            self._reactor,
            authenticators,
            policy=policy,
            route=route,
            relay=_RELAYS[configuration.relay](self._reactor, settings.timeout),
            timeouts=settings.timeout,
            limits=settings.limit,
            bind=settings.bind,
            udp=settings.udp,
            throttling=settings.throttle,
            **options,
        )
        factory.addCommands(
            self._make(COMMAND, command) for command in configuration.command
        )
        made = {configuration.access: (authenticators, policy)}
        for listener in configuration.listeners:
            if listener.access not in made:
                made[listener.access] = self._access(listener.access)
        if unchanged is not None:
            maker = unchanged.maker
        else:
            maker = RouteMaker(self._reactor, factory.route, settings.timeout.connect)
        self._made += [factory.route, maker]
        for access, (authenticators, policy) in made.items():
            endpoints = [
                listener.endpoint
                for listener in configuration.listeners
                if listener.access == access
            ]
            if endpoints:
                _refuseToLetNobodyIn(access, authenticators, endpoints)
            if access.rules is not None:
                assert isinstance(policy, RulePolicy)
                takeRules(policy, access.rules, factory.route, maker)
        return Prepared(
            configuration,
            self._plugins,
            factory,
            tuple(
                factory.sibling(
                    *made[listener.access], listener.admissionOf(factory.admission)
                )
                for listener in configuration.listeners
            ),
            tuple(dict.fromkeys(one for one in self._made if IService.providedBy(one))),
            self._checkers,
            maker,
        )

    def _whenceTheSameWays(self) -> Prepared | None:
        """
        What is in force, if the ways out are the same: they are counted in use, or
        know proxies.
        """
        before = self._before
        if before is not None:
            was, willBe = before.configuration, self._configuration
            if (
                was.route,
                was.settings.timeout,
                was.settings.bind,
                was.settings.udp,
            ) == (
                willBe.route,
                willBe.settings.timeout,
                willBe.settings.bind,
                willBe.settings.udp,
            ):
                return before
        return None

    def _make(self, kind: PluginKind, said: Said) -> Any:
        made = makePlugin(kind, self._plugins, self._reactor, said)
        self._made.append(made)
        return made

    def _checker(self, said: Said) -> ICredentialsChecker:
        if said not in self._checkers:
            known = {} if self._before is None else self._before.checkers
            try:
                made = prepareChecker(self._plugins, said)  # which looks into its file
            except ValueError as error:
                if isinstance(known.get(said), FilePasswordDB | HashedPasswordChecker):
                    raise ValueError(f"{error}; {_AT_EACH_LOGIN}") from None
                raise
            self._checkers[said] = known.get(said, made)
            self._made.append(self._checkers[said])
        return self._checkers[said]

    def _access(self, access: Access) -> tuple[list[IAuthenticator], IConnectPolicy]:
        """
        Who lets in and who judges.  Those that were named are asked, and no other:
        C{none} is there without anything, or by its name.
        """
        authenticators: list[IAuthenticator] = [
            self._make(AUTHENTICATOR, said) for said in access.authenticator
        ]
        checkers = [self._checker(said) for said in access.auth]
        if checkers:
            authenticators.append(UsernamePasswordAuthenticator.withCheckers(*checkers))
        policy: IConnectPolicy = self._make(POLICY, access.policy)
        if access.rules is not None:
            policy = policyOf(access.rules, self._reactor.seconds, policy)
        return authenticators or [NoAuthentication()], policy


def _refuseToLetNobodyIn(
    access: Access, authenticators: Iterable[IAuthenticator], endpoints: Iterable[Said]
) -> None:
    """
    @param endpoints: Where clients that are let in so can connect.
    @raise ValueError: There are only certificates to let clients in by, of which none
        of them learns.
    """
    if not all(isinstance(one, CertificateAuthenticator) for one in authenticators):
        return
    if {endpoint.name for endpoint in endpoints} <= _WITHOUT_CERTIFICATES:
        raise access.authenticator[0].fail(
            "nobody could get in; certificates of clients are seen by a listener "
            "--port mtls: only"
        )
