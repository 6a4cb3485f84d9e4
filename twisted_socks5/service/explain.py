# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
What rules say of a request, and why; nothing is connected to.
"""

from __future__ import annotations

import os
import sys
import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from ipaddress import IPv4Address, ip_address
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import react
from twisted.python.usage import Options, UsageError
from zope.interface import implementer

from twisted_socks5.addresses import UNIX_CLIENT, Address, readings, unmapped
from twisted_socks5.authenticators import Identity
from twisted_socks5.errors import InvalidName, SOCKSError
from twisted_socks5.interfaces import IRequest, IResolver, IRoute
from twisted_socks5.observe.escape import escape, onOneLine
from twisted_socks5.outcome import outcomeOf
from twisted_socks5.policy import RulePolicy
from twisted_socks5.policy.conditions import COMMANDS
from twisted_socks5.policy.decision import Decision
from twisted_socks5.policy.routesfile import RouteSettings
from twisted_socks5.policy.ruled import RuleDecision, isOpen
from twisted_socks5.policy.rules import Certainty, Rule
from twisted_socks5.policy.rulesfile import loadRules
from twisted_socks5.routes import DirectRoute, NameResolver
from twisted_socks5.service.configuration import Access, Configuration, Said
from twisted_socks5.service.options import SOCKS5Options
from twisted_socks5.service.overlap import Place
from twisted_socks5.service.plugins import POLICY, ROUTE, findPlugins, makePlugin
from twisted_socks5.service.routes import RouteMaker
from twisted_socks5.service.rules import policyOf, takeRules
from twisted_socks5.wire import Command

ALLOWED, DENIED, WRONG, NO_ADDRESS = range(4)
"""
The exit status.
"""

_METHODS = {"none": 0x00, "gssapi": 0x01, "username": 0x02, "certificate": 0x00}
MATCHES = "matches"
LISTENER = Address(IPv4Address("127.0.0.1"), 1080)
"""
Where clients connect to if nothing is said of it.
"""
_ANYWHERE = Address(IPv4Address(0), 0)


@implementer(IRequest)
@attrs.frozen
class _Request:
    command: int
    destination: Address
    client: Address
    identity: Identity
    listener: Address
    raw: bytes = b""
    session: Any = None


def main(arguments: Sequence[str]) -> None:
    """
    Do what the command line says.

    @raise SystemExit: Always, with the status.
    """
    from twisted.internet import reactor

    options = parse(arguments)
    try:
        plugins = findPlugins()
        access, route, listener = askedOf(options)
        loaded = access.rules
        if loaded is None:
            raise ValueError(
                "there are no rules; expected --rules FILE, or some in --config"
            )
        guard = makePlugin(POLICY, plugins, reactor, access.policy)
        policy = policyOf(loaded, lambda: secondsOf(options.at, policy), guard)
        resolver = NameResolver(reactor)
        own: IRoute = DirectRoute(reactor, resolver)
        if route is not None:
            own = makePlugin(ROUTE, plugins, reactor, route)
        takeRules(policy, loaded, own, RouteMaker(reactor, own, isForShow=True))
    except ValueError as error:
        problem = onOneLine(" ".join(str(error).split()))
        print(f"socks5: {problem}", file=sys.stderr)
        raise SystemExit(WRONG) from None

    async def run() -> None:
        raise SystemExit(
            await explain(policy, options, resolver, print, loaded.routes, listener)
        )

    react(lambda _: Deferred.fromCoroutine(run()))


def askedOf(options: Namespace) -> tuple[Access, Said | None, Address]:
    """
    What is to be explained.

    @param options: What L{parse} returns.
    @return: What decides there, the server's way out, and where the client has
        connected to.
    @raise ValueError: A file is wrong, or there is no such listener.
    """
    configuration = _configured(options)
    access, listener = configuration.access, LISTENER
    if options.listener is not None and options.config is not None:
        access, listener = _listenerOf(configuration, options.listener)
    elif options.listener is not None:
        listener = _addressIn(options.listener)
    if options.rules is not None:
        access = attrs.evolve(access, rules=loadRules(options.rules))
    if options.policy is not None:
        policy = Said(options.policy, "--policy", os.getcwd())
        access = attrs.evolve(access, policy=policy)
    return access, configuration.route, listener


def _configured(options: Namespace) -> Configuration:
    server = SOCKS5Options()
    given = [
        f"--{name}={getattr(options, name)}"
        for name in ("config", "route")
        if getattr(options, name) is not None
    ]
    try:
        Options.parseOptions(server, given)
    except UsageError as error:
        raise ValueError(str(error)) from None
    return server.configuration


def _listenerOf(configuration: Configuration, name: str) -> tuple[Access, Address]:
    """
    The listener that somebody means.

    @param name: Its endpoint as it is written, or, like a rule, its port, its address
        and port, or C{unix}.
    @return: What decides there, and its address.
    @raise ValueError: There is none, or there are several.
    """
    found = [one for one in configuration.listeners if _isMeant(one.endpoint, name)]
    if len(found) == 1:
        return found[0].access, _addressOf(found[0].endpoint, name)
    texts = (one.endpoint.shown for one in configuration.listeners)
    raise ValueError(
        f"--listener {name}: {'several are meant' if found else 'no such listener'}; "
        f"expected one of {', '.join(texts)}"
    )


def _isMeant(endpoint: Said, name: str) -> bool:
    if name in (endpoint.text, endpoint.resolved):
        return True
    place = Place.of(endpoint)
    if place is None:
        return False
    if name == "unix":
        return endpoint.text.removeprefix("haproxy:").startswith("unix:")
    if name.isascii() and name.isdecimal():
        return place.port == int(name)
    try:
        return place.has(_addressIn(name))
    except ValueError:
        return False


def _addressOf(endpoint: Said, name: str) -> Address:
    """
    Where a client of a listener has connected to: as it was said; or, on all
    addresses, to that of this host for itself.
    """
    place = Place.of(endpoint)
    if place is None or place.port is None:
        return UNIX_CLIENT if place is not None else LISTENER
    try:
        address = _addressIn(name)
    except ValueError:
        address = None
    if address is not None and place.has(address):
        return address
    if isinstance(place.where, str):
        return Address.fromName(place.where.encode(), place.port)
    if not place.where.is_unspecified:
        return Address(place.where, place.port)
    loopback = "127.0.0.1" if place.where.version == 4 else "::1"
    return Address(ip_address(loopback), place.port)


def _addressIn(text: str) -> Address:
    try:
        return _destination(text)
    except ArgumentTypeError:
        raise ValueError(f"--listener {text}: expected ADDRESS:PORT") from None


def secondsOf(moment: datetime | None, policy: RulePolicy) -> float:
    """
    The time, in seconds of the epoch, that a clock of the rules shows; by default
    now.
    """
    if moment is None:
        return time.time()
    return moment.replace(tzinfo=policy.timezone).timestamp()


def parse(arguments: Sequence[str]) -> Namespace:
    """
    Read the command line.

    @raise SystemExit: It is wrong.
    """
    parser = ArgumentParser(
        prog="python -m twisted_socks5",
        description="Tells what rules say of a request, and why. Nothing is connected "
        "to. The exit status is 0 if it is allowed, 1 if it is denied, 2 if something "
        "is wrong with the file or an option, 3 if the name has no address.",
    )
    commands = parser.add_subparsers(required=True, metavar="explain")
    asked = commands.add_parser("explain", description=parser.description)
    asked.add_argument("--config", metavar="FILE", help="the server's configuration")
    asked.add_argument("--rules", metavar="FILE", help="the rules, if it has them not")
    asked.add_argument("--policy", help="the guard in front (default: guard)")
    asked.add_argument("--route", help="the server's way out, if it has another")
    asked.add_argument("--user", default="", help="none: an anonymous client")
    asked.add_argument("--group", action="append", default=[])
    asked.add_argument(
        "--from",
        dest="client",
        type=_client,
        default="127.0.0.1",
        metavar="ADDRESS",
        help="where the client is, or 'unix' (default: %(default)s)",
    )
    asked.add_argument(
        "--listener",
        metavar="NAME",
        help=f"where it has connected to: ADDRESS:PORT (default: {LISTENER}); with "
        "--config one of its listeners, by its endpoint as it is written there, its "
        "port, ADDRESS:PORT, or 'unix'",
    )
    asked.add_argument("--method", choices=_METHODS)
    asked.add_argument(
        "--at",
        type=_moment,
        metavar="TIME",
        help="when, as 2026-06-01T12:00 (default: now)",
    )
    asked.add_argument("command", type=str.upper, choices=COMMANDS)
    asked.add_argument(
        "destination",
        type=_destination,
        metavar="HOST:PORT",
        help="with ASSOCIATE that of a datagram",
    )
    return parser.parse_args(arguments)


async def explain(
    policy: RulePolicy,
    options: Namespace,
    resolver: IResolver,
    write: Callable[[str], object],
    routes: Mapping[str, RouteSettings] | None = None,
    listener: Address = LISTENER,
) -> int:
    """
    Tell the way of a request through the rules.

    @param options: What L{parse} returns.
    @param routes: What the file says of the ways out.
    @param listener: Where the client has connected to.
    @return: The exit status.
    """
    method = options.method or ("username" if options.user else "none")
    identity = Identity(
        options.user, options.user.encode(), options.group, _METHODS[method]
    )
    destination: Address = options.destination
    request = _Request(
        COMMANDS[options.command],
        destination,
        options.client,
        identity,
        listener,
    )
    who = escape(options.user) or "an anonymous client"
    write(f"{options.command} {destination} by {who} from {options.client.host}")

    isDatagram = request.command == Command.ASSOCIATE
    asked = attrs.evolve(request, destination=_ANYWHERE) if isDatagram else request
    _writeRules(policy, asked, write)
    decision = policy.decide(asked)
    if not decision.allowed:
        return _end(decision, write)
    way = _wayOf(decision, routes or {})
    if isOpen(asked) and not isDatagram:
        return _end(decision, write, way)

    request = attrs.evolve(request, session=Namespace(decision=decision))
    addresses = [destination]
    if destination.ip is None:
        named = policy.checkName(request) if isDatagram else decision
        if not named.allowed:
            return _end(named, write)
        if not policy.looksUp(decision.route):
            write(f"  {destination.host} is not looked up here, but at the other end")
            return _end(named, write, way)
        try:
            found = await outcomeOf(resolver.resolve(str(destination.host)))
        except SOCKSError as error:
            write(f"{destination.host} cannot be looked up: {error}")
            return NO_ADDRESS
        addresses = [Address(unmapped(ip), destination.port) for ip in found]
    answers = []
    for address in addresses:
        answer = policy.checkAddress(request, address)
        write(f"  {address}: {_outcome(answer)}")
        answers.append(answer)
    return _end(next((one for one in answers if one.allowed), answers[0]), write, way)


def _wayOf(decision: Decision, routes: Mapping[str, RouteSettings]) -> str:
    """
    By which way it goes, in a line.
    """
    name = decision.routeName if isinstance(decision, RuleDecision) else ""
    if name in routes:
        line = f"by route {name} ({routes[name]})"
    else:
        line = "by the server's own way out"
    if decision.bindAddress is not None:
        line += f", from {decision.bindAddress}"
    return line


def _outcome(decision: Decision) -> str:
    reason = escape(decision.reason)
    if decision.allowed:
        return f"allowed by {reason}"
    return f"denied with {decision.reply:02x}: {reason}"


def _end(decision: Decision, write: Callable[[str], object], way: str = "") -> int:
    if decision.allowed:
        write(f"  {escape(way)}")
    write(_outcome(decision))
    return ALLOWED if decision.allowed else DENIED


def _writeRules(
    policy: RulePolicy, request: IRequest, write: Callable[[str], object]
) -> None:
    """
    What each rule says of a request, up to the one that decides.
    """
    for rule in policy.ruleset:
        told = _tell(policy, request, rule)
        write(f"  line {rule.line}: {escape(str(rule))} -- {told}")
        if told == MATCHES:
            return
    write("  the end: denies what no rule matches")


def _tell(policy: RulePolicy, request: IRequest, rule: Rule) -> str:
    isUnknown = isOpen(request)
    ip = None if isUnknown else request.destination.ip
    facts = policy.facts(request, None if isUnknown else request.destination.port)
    key = rule.conditions.failing(facts)
    if ip is not None:
        if key or not rule.hasAddress(None, readings(ip)[0], ip):
            return f"not for this {key or 'to'}"
        return MATCHES
    name = None if isUnknown else str(request.destination.host)
    certainty = policy.ruleset.tell(rule, facts, name)
    if certainty is Certainty.FAILS:
        return (
            f"not for this {rule.conditions.failingBesidesPort(facts) or key or 'to'}"
        )
    return MATCHES if certainty is Certainty.MATCHES else "depends on the address"


# -- options ---------------------------------------------------------------------------


def _destination(text: str) -> Address:
    host, _, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if not host or not port.isascii() or not port.isdecimal() or int(port) > 65535:
        raise ArgumentTypeError(f"{text}: expected HOST:PORT")
    try:
        return Address.fromName(
            host.encode("ascii" if host.isascii() else "idna"), int(port)
        )
    except (InvalidName, UnicodeError):
        raise ArgumentTypeError(f"{text}: expected HOST:PORT") from None


def _client(text: str) -> Address:
    if text == "unix":
        return UNIX_CLIENT
    try:
        return Address(unmapped(ip_address(text)), 0)
    except ValueError:
        raise ArgumentTypeError(f"{text}: expected an address, or 'unix'") from None


def _moment(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(f"{text}: expected YYYY-MM-DDTHH:MM") from None
