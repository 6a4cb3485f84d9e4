# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Making the ways out that a file names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from ipaddress import IPv4Address
from typing import Any
from weakref import WeakValueDictionary

from twisted.application.service import IService, MultiService
from twisted.internet.endpoints import clientFromString
from twisted.internet.interfaces import IStreamClientEndpoint

from twisted_socks5.addresses import Address
from twisted_socks5.client.endpoint import SOCKS5ClientEndpoint
from twisted_socks5.client.proxy import TIMEOUT
from twisted_socks5.client.strings import authenticatorsFromArguments
from twisted_socks5.device import checkDevice
from twisted_socks5.errors import CommandNotSupported, InvalidName
from twisted_socks5.interfaces import IClientAuthenticator, IRoute
from twisted_socks5.passwords.accountfile import warnOfReaders
from twisted_socks5.policy.egress import FromAddress
from twisted_socks5.policy.routesfile import (
    OfPlugin,
    Proxied,
    RouteSettings,
    Several,
    Straight,
)
from twisted_socks5.routes.direct import DirectRoute
from twisted_socks5.routes.egress import EgressRoute
from twisted_socks5.routes.failover import FailoverRoute
from twisted_socks5.routes.leastused import LeastUsedRoute
from twisted_socks5.routes.throughproxy import ThroughProxy
from twisted_socks5.service.configuration import Said
from twisted_socks5.service.plugins import ROUTE, findPlugins, makePlugin, parsePlugin

_EXAMPLE = Address(IPv4Address("127.0.0.1"), 1080)
"""
Where a client may have connected to.
"""


class RouteMaker(MultiService):
    """
    Makes ways out.  What was made before, in the same way, and is still in use, is
    taken again, so that those who use it can be counted.  The services of plugins run
    as long as this one.
    """

    def __init__(
        self,
        reactor: Any,
        own: IRoute,
        timeout: float = TIMEOUT,
        isForShow: bool = False,
    ) -> None:
        """
        @param own: The server's own way out, which all that are straight are made of.
        @param timeout: How many seconds a proxy may take to connect.
        @param isForShow: Nothing will go out by them; so passwords and network
            interfaces of this host, which may be others' alone, are not asked for.
        """
        MultiService.__init__(self)
        self._reactor = reactor
        self._own = own
        self._timeout = timeout
        self._isForShow = isForShow
        self._made: WeakValueDictionary[object, IRoute] = WeakValueDictionary()
        self._ofPlugins: dict[str, IRoute] = {}

    def make(
        self, settings: Mapping[str, RouteSettings]
    ) -> tuple[dict[str, IRoute | None], set[str]]:
        """
        Make all that a file names.

        @return: They, by their names; L{None} is the server's own, from an address
            that a rule chooses.  And the names of those that do not look names up
            here.
        @raise ValueError: One cannot be made; the text says where it is in the file.
        """
        making = _Making(self, settings)
        routes = {name: making.named(name) for name in settings}
        blind = {
            name
            for name, route in routes.items()
            if not (self._own if route is None else route).resolvesNames
        }
        return routes, blind

    # -- for the kinds of ways -------------------------------------------------

    def straight(self, way: Straight) -> IRoute | None:
        """
        From this host; from which address is for the rule that chooses it.

        @raise ValueError: The server's own way is another one, or there is no such
            interface.
        """
        if not way.interface:
            return None
        if not isinstance(self._own, DirectRoute):
            raise ValueError("expected no interface, since the server has --route")
        if not self._isForShow:
            checkDevice(way.interface)
        return self._once(way.interface, partial(self._own.by, way.interface))

    def proxied(self, way: Proxied) -> tuple[Any, list[IClientAuthenticator]]:
        """
        What to tell a proxy of us, and how to reach it.

        @raise ValueError: The string or the file is wrong.
        """
        offered: list[IClientAuthenticator] = []
        if way.passwordFile is not None and not self._isForShow:
            try:
                warnOfReaders(way.passwordFile)
                offered = authenticatorsFromArguments(
                    self._reactor, user=way.user, passwordFile=way.passwordFile
                )
            except OSError as error:
                problem = f"{way.passwordFile}: {error.strerror}"
                raise ValueError(f"password-file: {problem}") from None
            except ValueError as error:
                raise ValueError(f"password-file: {error}") from None
        return self._endpoint(way.endpoint), offered

    def _endpoint(self, text: str) -> IStreamClientEndpoint:
        try:
            endpoint: IStreamClientEndpoint = clientFromString(self._reactor, text)
            return endpoint
        except Exception as error:  # as various as parsers are
            raise ValueError(
                f"proxy: {text}: expected a client endpoint, like tcp:127.0.0.1:1080 "
                f"({type(error).__name__}: {error})"
            ) from None

    def chained(self, ways: list[Proxied]) -> IRoute:
        """
        Through one proxy after the other.

        @raise ValueError: One cannot be reached from another.
        """
        found = [self.proxied(way) for way in ways]
        targets = [_hostAndPort(way.endpoint) for way in ways[1:]]

        def make() -> IRoute:
            endpoint, offered = found[0]
            for (host, port), (_, following) in zip(targets, found[1:], strict=True):
                endpoint = SOCKS5ClientEndpoint(
                    endpoint,
                    host,
                    port,
                    *offered,
                    timeout=self._timeout,
                    reactor=self._reactor,
                )
                offered = following
            return ThroughProxy(
                self._reactor, endpoint, *offered, timeout=self._timeout
            )

        key = tuple(
            (way, *offered) for way, (_, offered) in zip(ways, found, strict=True)
        )
        return self._once(key, make)

    def several(self, routes: list[IRoute], isByLoad: bool) -> IRoute:
        """
        One of several ways.
        """
        kind = LeastUsedRoute if isByLoad else FailoverRoute
        key = (kind, *map(id, routes))  # which live as long as what is made of them
        return self._once(key, lambda: kind(routes))

    def bound(self, way: Straight) -> IRoute:
        """
        From this host, and from the address that the way has, if it has any; where
        it has several, one is chosen for each session.

        @raise ValueError: It cannot go out so.
        """
        route = self.straight(way)
        if route is None:
            route = self._own
        egress = way.egress
        if egress is None:
            return route
        example = egress.choose(_EXAMPLE)
        assert example is not None
        try:
            bound = route.boundTo(example)
        except CommandNotSupported as error:
            raise ValueError(str(error)) from None
        if isinstance(egress, FromAddress):
            return self._once(way, lambda: bound)
        return self._once(way, lambda: EgressRoute(route, egress.choose))

    def ofPlugin(self, way: OfPlugin) -> IRoute:
        """
        What a plugin makes.

        @raise ValueError: It does not make it.
        """
        if way.text not in self._ofPlugins:
            made = makePlugin(
                ROUTE, findPlugins(), self._reactor, Said(way.text, "plugin")
            )
            if IService.providedBy(made):
                made.setServiceParent(self)
            self._ofPlugins[way.text] = made
        return self._ofPlugins[way.text]

    def _once(self, key: object, make: Callable[[], IRoute]) -> IRoute:
        made = self._made.get(key)
        if made is None:
            made = self._made[key] = make()
        return made


class _Making:
    """
    The ways out of one file, some of which are made of others.
    """

    def __init__(
        self, maker: RouteMaker, settings: Mapping[str, RouteSettings]
    ) -> None:
        self._maker = maker
        self._settings = settings
        self._routes: dict[str, IRoute | None] = {}

    def named(self, name: str) -> IRoute | None:
        """
        The way of a name; L{None} is the server's own.

        @raise ValueError: It cannot be made.
        """
        if name not in self._routes:
            settings = self._settings[name]
            try:
                self._routes[name] = self._make(settings)
            except _Told:
                raise
            except ValueError as error:
                problem = settings.told(error)
                raise _Told(f"{settings.where}: route {name}: {problem}") from None
        return self._routes[name]

    def _make(self, settings: RouteSettings) -> IRoute | None:
        way, maker = settings.way, self._maker
        if isinstance(way, Straight):
            return maker.straight(way)
        if isinstance(way, Proxied):
            return maker.chained([way])
        if isinstance(way, OfPlugin):
            return maker.ofPlugin(way)
        if isinstance(way, Several):
            return maker.several(
                [self._member(one) for one in way.routes], way.isByLoad
            )
        for one in way.routes:
            self.named(one)  # which tells of itself what is wrong
        for one in way.routes[1:]:
            self._checkReachable(one)
        proxies = [self._settings[one].way for one in way.routes]
        return maker.chained([one for one in proxies if isinstance(one, Proxied)])

    def _checkReachable(self, name: str) -> None:
        """
        See that another proxy can connect to that of a route.

        @raise ValueError: It cannot.
        """
        settings = self._settings[name]
        assert isinstance(settings.way, Proxied)
        try:
            _hostAndPort(settings.way.endpoint)
        except ValueError as error:
            raise ValueError(f"{name}: {settings.told(error)}") from None

    def _member(self, name: str) -> IRoute:
        """
        One of several, which needs no rule to choose its address.
        """
        way = self._settings[name].way
        route = self.named(name)
        if isinstance(way, Straight):
            return self._maker.bound(way)
        assert route is not None
        return route


class _Told(ValueError):
    """
    A route cannot be made; the text has its place in the file.
    """


def _hostAndPort(text: str) -> tuple[str, int]:
    """
    Where a proxy is that another one connects to.

    @raise ValueError: It is not told as host and port.
    """
    kind, positional, keyword = parsePlugin(text)
    for key, value in zip(("host", "port"), positional, strict=False):
        keyword.setdefault(key, value)
    host, port = keyword.get("host", ""), keyword.get("port", "")
    isPlain = kind == "tcp" and set(keyword) == {"host", "port"}
    if not (isPlain and len(positional) <= 2 and host and port.isascii()):
        port = ""
    try:
        Address.fromName(host.encode("ascii"), 0)
    except (InvalidName, UnicodeError):
        port = ""
    if not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise ValueError(
            f"proxy: {text}: expected tcp:HOST:PORT, since another proxy connects there"
        )
    return host, int(port)
