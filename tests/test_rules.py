# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Rules: which one decides.
"""

from __future__ import annotations

from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address, ip_network
from typing import Any

import attrs
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from zope.interface.verify import verifyObject

from tests.test_guard import Asked
from twisted_socks5 import Decision, Identity
from twisted_socks5.addresses import (
    UNIX_CLIENT,
    Address,
    IPAddress,
    Kind,
    kindOf,
    kindOfNetwork,
    rangeOf,
    readings,
)
from twisted_socks5.interfaces import IConnectPolicy
from twisted_socks5.policy import Guard, Rule, RulePolicy, Ruleset
from twisted_socks5.policy.conditions import (
    COMMANDS,
    Clients,
    Conditions,
    Facts,
    Listeners,
    Ranges,
)
from twisted_socks5.policy.destinations import Destinations
from twisted_socks5.policy.egress import (
    AsListener,
    FromAddress,
    FromNetwork,
    parseEgress,
)
from twisted_socks5.policy.networks import Networks
from twisted_socks5.policy.ruleindex import RuleIndex
from twisted_socks5.policy.rules import Certainty
from twisted_socks5.settings import Limits
from twisted_socks5.wire import Command

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)  # a Monday
ELSEWHERE = Address(ip_address("198.51.100.7"), 50000)
HERE = Address(ip_address("127.0.0.1"), 50000)
STAFF: Any = frozenset(["staff"])
ALICE = Identity("alice", b"alice", STAFF, 0x02)


def policyOf(*rules: Rule, **options: Any) -> RulePolicy:
    """
    Rules, numbered from 1, at noon.
    """
    numbered = [attrs.evolve(rule, number=n) for n, rule in enumerate(rules, 1)]
    options.setdefault("seconds", NOON.timestamp)
    return RulePolicy(Ruleset(numbered), timezone=UTC, **options)


def allow(*to: str, **options: Any) -> Rule:
    return _rule(True, to, options)


def deny(*to: str, **options: Any) -> Rule:
    return _rule(False, to, options)


def _rule(allows: bool, to: tuple[str, ...], options: dict[str, Any]) -> Rule:
    names = [str(field.name) for field in attrs.fields(Conditions)]
    conditions = Conditions(**{k: v for k, v in options.items() if k in names})
    rest = {k: v for k, v in options.items() if k not in names}
    return Rule(0, allows, conditions, Destinations.of(*to) if to else None, **rest)


def asked(
    text: str,
    port: int = 443,
    client: Address = ELSEWHERE,
    identity: Identity = ALICE,
    command: int = Command.CONNECT,
) -> Asked:
    """
    A request for what a client has sent as text.
    """
    destination = Address.fromName(text.encode(), port)
    return Asked(client, identity, destination, command)


def goes(
    policy: RulePolicy, text: str, *found: str, port: int = 443, **options: Any
) -> list[str]:
    """
    The addresses that would be dialled for a request: what was asked for itself,
    or those that the name is found to have.
    """
    request = asked(text, port, **options)
    if not policy.decide(request).allowed:
        return []
    addresses = found or (str(request.destination.host),)
    return [
        one
        for one in addresses
        if policy.checkAddress(request, Address(ip_address(one), port)).allowed
    ]


# -- first match, and the end ------------------------------------------------------


def test_isAPolicy() -> None:
    assert verifyObject(IConnectPolicy, policyOf())


def test_theEndDenies() -> None:
    for text in ("192.0.2.1", "93.184.215.14", "example.org"):
        decision = policyOf().decide(asked(text))
        assert not decision.allowed
        assert decision.reply == 0x02
    assert policyOf().decide(asked("example.org")).reason == "no rule matches"


def test_theFirstDecides() -> None:
    policy = policyOf(
        allow("www.example.org"), deny("*.example.org", reply=0x05), allow()
    )
    assert policy.decide(asked("www.example.org")).allowed
    assert policy.decide(asked("example.org")).allowed
    decision = policy.decide(asked("ftp.example.org"))
    assert not decision.allowed
    assert decision.reply == 0x05
    assert decision.reason == "rule 2 (deny to=*.example.org)"


def test_theWholeAnswer() -> None:
    class Route: ...

    route: Any = Route()
    address = ip_address("192.0.2.10")
    policy = policyOf(
        allow(
            route="office",
            egress=FromAddress(address),
            tags=("web",),
            comment="as agreed",
        ),
        routes={"office": route},
    )
    decision = policy.decide(asked("example.org"))
    assert (decision.allowed, decision.route) == (True, route)
    assert (decision.bindAddress, decision.tags) == (address, ("web",))
    assert decision.reason == "rule 1 (allow route=office bind=192.0.2.10): as agreed"


def test_goingOutFromTheListener() -> None:
    """
    A client on a UNIX socket has connected to no address.
    """
    policy = policyOf(allow(egress=AsListener()))
    request = asked("example.org")
    assert policy.decide(request).bindAddress == request.listener.ip
    request = attrs.evolve(request, listener=UNIX_CLIENT)
    assert policy.decide(request).bindAddress is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.0.2.0/29", {f"192.0.2.{n}" for n in range(1, 7)}),
        ("192.0.2.4/31", {"192.0.2.4", "192.0.2.5"}),
        ("2001:db8::/126", {f"2001:db8::{n}" for n in range(1, 4)}),
        ("2001:db8::2/127", {"2001:db8::2", "2001:db8::3"}),
    ],
)
def test_goingOutFromANetwork(text: str, expected: set[str]) -> None:
    """
    From any of its addresses, but for those that are no host's; and the way is
    the same for all.
    """
    policy = policyOf(allow(egress=parseEgress(text)))
    request = asked("example.org")
    found: set[str] = set()
    while len(found) < len(expected):
        decision = policy.decide(request)
        found.add(str(decision.bindAddress))
        decided = attrs.evolve(request, session=Session(decision))
        address = Address(ip_address("93.184.1.1"), 443)
        assert policy.checkAddress(decided, address).allowed
    assert found == expected


def test_noSuchRoute() -> None:
    with pytest.raises(ValueError, match="^rule 1: there is no route office$"):
        policyOf(allow(route="office"))


@pytest.mark.parametrize(
    ("key", "value", "good", "bad"),
    [
        ("user", {"alice"}, {}, {"identity": Identity("Alice", method=2)}),
        ("user", {"bob", "alice"}, {}, {"identity": Identity()}),
        ("group", {"staff", "it"}, {}, {"identity": Identity("alice", method=2)}),
        ("client", Clients(Networks((ip_network("198.51.100.0/24"),))), {}, {"client": HERE}),
        ("client", Clients(Networks(()), onUnix=True), {"client": UNIX_CLIENT}, {}),
        ("command", {1, 2}, {}, {"command": 3}),
        ("port", Ranges(((80, 80), (400, 500))), {}, {"port": 81}),
        ("port", Ranges(((0, 443),)), {}, {"port": 444}),
        ("method", {"username"}, {}, {"identity": Identity("alice", method=1)}),
        ("method", {"none"}, {"identity": Identity()}, {"identity": Identity("a")}),
        ("method", {"certificate"}, {"identity": Identity("a")}, {"identity": Identity()}),
        ("method", {"80"}, {"identity": Identity("a", method=0x80)}, {}),
    ],
)  # fmt: skip
def test_conditions(
    key: str, value: Any, good: dict[str, Any], bad: dict[str, Any]
) -> None:
    value = frozenset(value) if isinstance(value, set) else value
    policy = policyOf(allow(**{key: value}))
    assert policy.decide(asked("example.org", **good)).allowed
    assert not policy.decide(asked("example.org", **bad)).allowed


@pytest.mark.parametrize(
    ("listener", "matches"),
    [
        (("192.0.2.1", 1080), True),
        (("192.0.2.1", None), True),
        ((None, 1080), True),
        (("192.0.2.1", 1081), False),
        (("192.0.2.2", None), False),
        ((None, 1081), False),
    ],
)
def test_listeners(listener: tuple[str | None, int | None], matches: bool) -> None:
    host = None if listener[0] is None else ip_address(listener[0])
    policy = policyOf(allow(listener=Listeners(frozenset([(host, listener[1])]))))
    assert policy.decide(asked("example.org")).allowed is matches


@pytest.mark.parametrize(
    ("hour", "minute", "day", "matches"),
    [
        (9, 0, 1, True),
        (16, 59, 5, True),
        (17, 0, 1, False),
        (8, 59, 1, False),
        (12, 0, 6, False),
    ],
)
def test_officeHours(hour: int, minute: int, day: int, matches: bool) -> None:
    moment = datetime(2026, 6, day, hour, minute, tzinfo=UTC)
    policy = policyOf(
        allow(times=Ranges(((540, 1019),)), weekdays=frozenset(range(5))),
        seconds=moment.timestamp,
    )
    assert policy.decide(asked("example.org")).allowed is matches


# -- names and addresses -----------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        ("example.org", "EXAMPLE.org.", True),
        ("Example.ORG.", "example.org", True),
        ("example.org", "www.example.org", False),
        ("*.example.org", "www.example.org", True),
        ("*.example.org", "a.b.EXAMPLE.ORG.", True),
        ("*.example.org", "example.org", False),
        ("*.example.org", "anexample.org", False),
        ("*.org", "example.org", True),
        ("b\u00fccher.example", "xn--bcher-kva.example", True),
        ("*.b\u00dcCHER.example", "www.XN--BCHER-KVA.example.", True),
        ("localhost.", "localhost", True),
        ("private.", "private", True),
    ],
)
def test_names(pattern: str, text: str, matches: bool) -> None:
    assert policyOf(allow(pattern)).decide(asked(text)).allowed is matches
    assert policyOf(deny(pattern), allow()).decide(asked(text)).allowed is not matches


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no host name"),
        ("*", "no host name"),
        ("*.", "no host name"),
        ("www.*.org", "no host name"),
        ("a b.org", "no host name"),
        ("-a.org", "no host name"),
        ("a..org", "no host name"),
        ("privat", "did you mean private?"),
        ("example", "is written with one at its end, example."),
        ("10.0.0.1/8", "bits are set after the prefix; expected 10.0.0.0/8"),
        ("2001:db8::1/32", "bits are set after the prefix; expected 2001:db8::/32"),
        ("10.0.0/8", "no network"),
        ("10.0.0.0/33", "no network"),
        ("10.0.0.0/255.0.0.0", "no network"),
        ("127.1", "no network"),
        ("0x7f.1", "an address that is not written as one"),
        ("0x7f000001.", "an address that is not written as one"),
        ("::ffff:10.0.0.0/104", "expected it as IPv4, 10.0.0.0/8"),
        ("stra\u00dfe.example", "two ways"),
        ("https://example.org", "no host name"),
        ("example.org:443", "no host name"),
    ],
)
def test_noDestination(text: str, words: str) -> None:
    with pytest.raises(ValueError, match="expected") as error:
        Destinations.of(text)
    assert words in str(error.value)


def test_aNameIsJudgedByItsAddresses() -> None:
    """
    A rule for addresses decides on each of a name's.
    """
    policy = policyOf(deny("10.0.0.0/8", "loopback"), allow("*.example.org"))
    found = ("93.184.215.14", "10.1.2.3", "::1", "64:ff9b::a01:203")
    assert goes(policy, "www.example.org", *found) == ["93.184.215.14"]
    assert not policy.decide(asked("example.com")).allowed


def test_aNameMayHaveAnAddressThatIsAllowed() -> None:
    """
    It is not known before the look-up; a rule for the name before it is.
    """
    policy = policyOf(deny("evil.example"), allow("93.184.0.0/16"))
    assert goes(policy, "example.org", "93.184.215.14", "8.8.8.8") == ["93.184.215.14"]
    assert not policy.decide(asked("evil.example")).allowed
    assert policy.decide(asked("example.org")).reason == (
        "rule 2 (allow to=93.184.0.0/16)"
    )


def test_nothingIsLookedUpInVain() -> None:
    """
    A name for which no address could be allowed is denied at once.
    """
    policy = policyOf(
        allow("93.184.0.0/16", user=frozenset(["bob"])),
        allow("global", port=Ranges(((80, 80),))),
        deny("8.8.8.8"),
        allow("www.example.org"),
    )
    assert not policy.decide(asked("example.org")).allowed
    assert policy.decide(asked("example.org", 80)).allowed
    assert policy.decide(asked("example.org", identity=Identity("bob"))).allowed


def test_aRuleForNamesIsNotForAddresses() -> None:
    policy = policyOf(deny("example.org"), allow("global"))
    assert goes(policy, "93.184.215.14") == ["93.184.215.14"]
    assert goes(policy, "www.example.org", "93.184.215.14") == ["93.184.215.14"]


SPELLINGS = {
    "10.1.2.3": [
        "10.1.2.3",
        "10.1.2.3.",
        "::ffff:10.1.2.3",
        "::10.1.2.3",
        "::ffff:0:10.1.2.3",
        "64:ff9b::10.1.2.3",
        "64:ff9b:1::10.1.2.3",
        "2002:a01:203::1",
        "2001:0:808:808::f5fe:fdfc",
        "2001:0:a01:203::f7f7:f7f7",
        "2606:4700::5efe:10.1.2.3",
    ],
    "8.8.4.4": [
        "8.8.4.4",
        "::ffff:8.8.4.4",
        "64:ff9b::808:404",
        "2002:808:404:1::",
        "2001:0:909:909::f7f7:fbfb",
        "2606:4700::200:5efe:808:404",
    ],
}


@pytest.mark.parametrize("denied", SPELLINGS)
def test_everySpellingIsDenied(denied: str) -> None:
    """
    As it is asked for, and as the address of a name.
    """
    policy = policyOf(deny(denied), allow("0.0.0.0/0", "::/0"))
    private = policyOf(deny("private", "8.0.0.0/8"), allow())
    for spelling in SPELLINGS[denied]:
        for each in (policy, private):
            assert goes(each, spelling, client=HERE) == [], spelling
        literal = spelling.removesuffix(".")
        assert goes(policy, "example.org", literal, client=HERE) == []
        assert goes(private, "example.org", literal, client=HERE) == []
    assert goes(policy, "10.1.2.4", client=HERE) == ["10.1.2.4"]


def test_whatIsAllowedMustBeSoInEveryReading() -> None:
    """
    Anybody may give an address of theirs the end that means somebody else's.
    """
    policy = policyOf(allow("93.184.0.0/16"))
    for spelling in ("::ffff:93.184.1.1", "64:ff9b::5db8:101", "2002:5db8:101::1"):
        literal = str(asked(spelling).destination.host)
        assert goes(policy, spelling) == [literal]
    assert not policy.decide(asked("2606:4700::5efe:93.184.1.1")).allowed
    assert not policy.decide(asked("2001:0:5db8:101::f7f7:fbfb")).allowed


def test_ipv6OfTransition() -> None:
    """
    It can be denied for what it is, but not be allowed so.
    """
    both = allow("0.0.0.0/0", "::/0")
    assert goes(policyOf(both), "2002:808:404::1") == ["2002:808:404::1"]
    assert goes(policyOf(deny("2002::/16"), both), "2002:808:404::1") == []
    assert goes(policyOf(allow("2002::/16")), "2002:808:404::1") == []


# -- the guard in front --------------------------------------------------------------


@pytest.mark.parametrize(
    ("to", "text", "isMeant"),
    [
        ((), "127.0.0.1", False),
        (("0.0.0.0/0",), "127.0.0.1", False),
        (("0.0.0.0/1",), "127.0.0.1", False),
        (("127.0.0.0/8",), "127.0.0.1", True),
        (("127.0.0.1",), "127.0.0.1", True),
        (("127.0.0.1",), "::ffff:127.0.0.1", True),
        (("loopback",), "64:ff9b::7f00:1", True),
        (("private",), "127.0.0.1", False),
        (("loopback",), "169.254.169.254", False),
        (("169.254.0.0/16",), "169.254.169.254", False),
        (("169.254.169.254",), "169.254.169.254", True),
        (("metadata",), "169.254.169.254", True),
        (("::1",), "::1", True),
        (("::/0",), "::1", False),
        (("global", "loopback"), "127.0.0.1", True),
    ],
)
def test_theGuardStandsInFront(to: tuple[str, ...], text: str, isMeant: bool) -> None:
    policy = policyOf(allow(*to))
    literal = str(asked(text).destination.host)
    assert goes(policy, text) == [literal] * isMeant
    byName = policyOf(allow("example.org"), *([allow(*to)] if to else []))
    assert goes(byName, "example.org", literal) == []


@pytest.mark.parametrize("text", ["127.0.0.1", "169.254.169.254", "::1"])
def test_whyTheGuardDenies(text: str) -> None:
    """
    To a client on this host it does not.
    """
    policy = policyOf(allow("0.0.0.0/0", "::/0"))
    assert policy.decide(asked(text)).reason.startswith("guard: ")
    assert goes(policy, text, client=HERE) == [text]


def test_whichGuard() -> None:
    rules = [allow()]
    assert goes(policyOf(*rules), "127.0.0.1", client=HERE)
    assert not goes(
        policyOf(*rules, guard=Guard("elsewhere")), "127.0.0.1", client=HERE
    )


# -- where the destination is not known ----------------------------------------------


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (Command.ASSOCIATE, "0.0.0.0"),
        (Command.ASSOCIATE, "10.0.0.1"),
        (Command.ASSOCIATE, "evil.example"),
        (Command.BIND, "0.0.0.0"),
        (Command.BIND, "::"),
    ],
)
def test_whatMayComeIsJudgedThen(command: Command, text: str) -> None:
    """
    The request is let pass if there may be a destination that is allowed.
    """
    request = asked(text, 0, command=command)
    other = Conditions(command=frozenset([int(Command.CONNECT)])).command
    for rules, isLetPass in (
        ([], False),
        ([deny()], False),
        ([deny(), allow()], False),
        ([allow(command=other)], False),
        ([allow()], True),
        ([allow("8.8.8.8")], True),
        ([allow("example.org")], True),
        ([allow(port=Ranges(((53, 53),)))], True),
        ([deny("evil.example", "10.0.0.1"), allow()], True),
        ([deny(port=Ranges(((53, 53),))), allow()], True),
    ):
        assert policyOf(*rules).decide(request).allowed is isLetPass, rules
    policy = policyOf(deny("10.0.0.0/8"), deny(port=Ranges(((25, 25),))), allow())
    for destination, port, allowed in (
        ("8.8.8.8", 53, True),
        ("8.8.8.8", 25, False),
        ("10.0.0.1", 53, False),
        ("127.0.0.1", 53, False),
    ):
        address = Address(ip_address(destination), port)
        datagram = attrs.evolve(request, destination=address)
        assert policy.checkAddress(datagram, address).allowed is allowed


# -- ways out --------------------------------------------------------------------------


@attrs.define
class Session:
    decision: Decision
    dialled: Address | None = None


@attrs.frozen
class Way:
    resolvesNames: bool


def test_namesOfDatagrams() -> None:
    """
    They are judged before a look-up, and for good if there is none here.
    """
    route: Any = Way(resolvesNames=False)
    rules = [
        deny("evil.example"),
        allow("93.184.0.0/16", "*.test"),
        allow("*.onion", route="tor"),
    ]
    numbered = [attrs.evolve(rule, number=n) for n, rule in enumerate(rules, 1)]
    policy = RulePolicy(
        Ruleset(numbered, ["tor"]), NOON.timestamp, routes={"tor": route}
    )
    request = asked("0.0.0.0", 0, command=Command.ASSOCIATE)
    direct = attrs.evolve(request, session=Session(policy.decide(request)))
    tor = attrs.evolve(request, session=Session(policy.decide(asked("a.onion"))))
    assert tor.session.decision.route is route
    for text, isDirect, isTor in (
        ("evil.example", False, False),
        ("a.test", True, False),
        ("a.onion", True, True),  # to be denied by the way of its addresses
        ("example.org", True, False),
    ):
        destination = Address(text, 53)
        for one, allowed in ((direct, isDirect), (tor, isTor)):
            named = attrs.evolve(one, destination=destination)
            assert policy.checkName(named).allowed is allowed, text


def test_anAddressKeepsToTheWay() -> None:
    """
    The way is decided with the request; an address for which the rules have
    another one is not dialled.
    """
    here, there = ip_address("192.0.2.1"), ip_address("192.0.2.2")
    policy = policyOf(
        allow("93.184.0.0/16", egress=FromAddress(there)),
        allow(egress=FromAddress(here)),
    )
    request = asked("example.org")
    decision = policy.decide(request)
    assert decision.bindAddress == here
    decided = attrs.evolve(request, session=Session(decision))
    other = policy.checkAddress(decided, Address(ip_address("93.184.1.1"), 443))
    assert not other.allowed
    assert "rule 1 (" in other.reason
    assert "another way than rule 2 (" in other.reason
    assert policy.checkAddress(decided, Address(ip_address("8.8.8.8"), 443)).allowed
    direct = asked("93.184.1.1")
    assert policy.decide(direct).bindAddress == there


@pytest.mark.parametrize(
    ("rules", "allowed"),
    [
        ([allow("*.onion", route="tor")], True),
        ([deny("evil.onion"), allow("*.onion", route="tor")], True),
        ([deny("private"), allow("*.onion", route="tor")], False),
        ([deny("private", port=Ranges(((80, 80),))), allow(route="tor")], True),
        ([allow("93.184.0.0/16", route="tor")], False),
        ([allow("93.184.0.0/16", route="tor"), allow()], True),
        ([allow("global"), allow("*.onion", route="tor")], True),
    ],
)
def test_whereAddressesAreNotKnown(rules: list[Rule], allowed: bool) -> None:
    """
    By a route that does not look names up, a rule for addresses that may deny
    does.
    """
    numbered = [attrs.evolve(rule, number=n) for n, rule in enumerate(rules, 1)]
    route: Any = object()
    policy = RulePolicy(
        Ruleset(numbered, ["tor"]), NOON.timestamp, routes={"tor": route}
    )
    decision = policy.decide(asked("good.onion"))
    assert decision.allowed is allowed
    if not allowed:
        assert decision.reason.startswith(("rule 1 (deny to=private) asks", "no rule"))


def numbered(*rules: Rule) -> list[Rule]:
    return [attrs.evolve(rule, number=n) for n, rule in enumerate(rules, 1)]


def test_goingOnByTheOldWay() -> None:
    """
    A tunnel goes on, unless its name was left to others and the rules have
    addresses looked at now.
    """
    tor, other = Way(resolvesNames=False), Way(resolvesNames=False)
    policy = RulePolicy(
        Ruleset(numbered(allow(route="tor")), ["tor"]),
        NOON.timestamp,
        routes={"tor": tor},  # type: ignore[dict-item]  # what is asked of a route here
    )
    for text, isSeen, stays in (
        ("example.org", False, False),
        ("example.org", True, True),
        ("8.8.8.8", False, True),
    ):
        policy.replace(
            Ruleset(numbered(allow(route="tor")), ["tor"]),
            {"tor": tor},  # type: ignore[dict-item]  # what is asked of a route here
        )
        session = Session(policy.decide(asked(text)))
        request = attrs.evolve(asked(text), session=session)
        if isSeen:
            session.dialled = Address(ip_address("8.8.8.8"), 443)
        policy.replace(
            Ruleset(numbered(allow(route="tor")), ["tor"]),
            {"tor": other},  # type: ignore[dict-item]  # what is asked of a route here
        )
        assert policy.decide(request).allowed
        policy.replace(Ruleset(numbered(deny("10.0.0.0/8"), allow())))
        decision = policy.decide(request)
        assert decision.allowed is stays, text
        if not stays:
            assert decision.reason == "rule 2 (allow) goes another way now"


def test_associationsKeepToTheirWay() -> None:
    """
    They go on as long as there is a rule for that, and so do their destinations.
    """
    here, there = ip_address("192.0.2.1"), ip_address("192.0.2.2")
    policy = policyOf(allow(egress=FromAddress(here)))
    request = asked("0.0.0.0", 0, command=Command.ASSOCIATE)
    session = Session(policy.decide(request))
    request = attrs.evolve(request, session=session)
    policy.replace(
        Ruleset(
            numbered(
                allow("93.184.0.0/16", egress=FromAddress(there)),
                allow("8.8.0.0/16", egress=FromAddress(here)),
            )
        )
    )
    session.decision = policy.decide(request)
    assert session.decision.allowed
    assert session.decision.bindAddress == here
    assert session.decision.reason.startswith("rule 1 ")
    for text, allowed in (("93.184.1.1", False), ("8.8.8.8", True)):
        address = Address(ip_address(text), 53)
        named = attrs.evolve(request, destination=address)
        assert policy.checkAddress(named, address).allowed is allowed
    policy.replace(Ruleset(numbered(allow(egress=FromAddress(there)))))
    decision = policy.decide(request)
    assert not decision.allowed
    assert decision.reason.endswith("goes another way now")


def test_theAddressThatWasChosenStays() -> None:
    rule = allow(egress=FromNetwork(IPv4Network("10.0.0.0/8")))
    policy = policyOf(rule)
    first = policy.decide(asked("8.8.8.8"))
    request = attrs.evolve(asked("8.8.8.8"), session=Session(first))
    policy.replace(Ruleset(numbered(deny("10.0.0.1"), rule)))
    again = policy.decide(request)
    assert again.reason.startswith("rule 2 ")
    assert again.bindAddress == first.bindAddress


def test_namesOfDatagramsThroughAProxy() -> None:
    """
    The server's own way may be one that does not look names up.
    """
    rules = [allow("*.example.org"), deny("private"), allow("*.test", "9.9.9.9")]
    numbered = [attrs.evolve(rule, number=n) for n, rule in enumerate(rules, 1)]
    policy = RulePolicy(Ruleset(numbered, [""]), NOON.timestamp)
    request = asked("0.0.0.0", 0, command=Command.ASSOCIATE)
    decision = policy.decide(request)
    assert decision.allowed
    request = attrs.evolve(request, session=Session(decision))
    for text, allowed in (
        ("a.example.org", True),
        ("a.test", False),  # which may be a private address
        ("example.com", False),
    ):
        named = attrs.evolve(request, destination=Address(text, 53))
        assert policy.checkName(named).allowed is allowed, text
    for text, allowed in (("9.9.9.9", True), ("10.0.0.1", False), ("8.8.8.8", False)):
        address = Address(ip_address(text), 53)
        named = attrs.evolve(request, destination=address)
        assert policy.checkAddress(named, address).allowed is allowed, text


# -- against a plain implementation ---------------------------------------------------

NAMES = ["example.org", "www.example.org", "a.www.example.org", "example.com"]
ADDRESSES = [
    "127.0.0.1 10.1.2.3 10.200.0.1 8.8.8.8 8.8.4.4 93.184.1.1 0.0.0.0".split(),
    "::1 fe80::1 fd00::1 2606:4700::1 64:ff9b::a01:203 2002:808:808::1".split(),
    "2001:0:808:808::f5fe:fdfc 2606:4700::5efe:8.8.8.8 fe80::5efe:8.8.8.8".split(),
]
IPS = [ip_address(text) for texts in ADDRESSES for text in texts]
PATTERNS = [
    *NAMES,
    *("*.org", "*.example.org", "*.www.example.org"),
    *("10.0.0.0/8", "10.1.0.0/16", "10.1.2.3", "8.8.0.0/16", "0.0.0.0/0", "127.0.0.1"),
    *("::/0", "2606:4700::/32", "2002::/16", "fe80::/10", "::1"),
    *(kind.value for kind in Kind),
]  # fmt: skip
USERS = ["", "alice", "bob"]


def subset(values: list[Any]) -> st.SearchStrategy[Any]:
    some = st.lists(st.sampled_from(values), min_size=1, max_size=3, unique=True)
    return st.none() | some.map(frozenset)


ports = st.none() | st.sampled_from(
    [Ranges(((53, 53),)), Ranges(((1, 1023),)), Ranges(((25, 25), (443, 443)))]
)
clients = st.none() | st.sampled_from(
    [
        Clients(Networks((ip_network("198.51.100.0/24"),))),
        Clients(Networks((ip_network("0.0.0.0/0"),))),
        Clients(Networks((ip_network("10.0.0.0/8"),)), onUnix=True),
    ]
)
conditions = st.builds(
    Conditions,
    user=subset(USERS),
    client=clients,
    command=subset([1, 2, 3]),
    port=ports,
    weekdays=subset([0, 1]),
)
patterns = st.none() | st.lists(
    st.sampled_from(PATTERNS), min_size=1, max_size=4, unique=True
).map(lambda texts: Destinations.of(*texts))
rules = st.lists(
    st.builds(Rule, st.just(0), st.booleans(), conditions, patterns), max_size=8
).map(lambda some: [attrs.evolve(rule, number=n) for n, rule in enumerate(some, 1)])
requests = st.builds(
    Facts,
    user=st.sampled_from(USERS),
    groups=st.just(frozenset()),
    client=st.sampled_from(
        [ELSEWHERE, HERE, UNIX_CLIENT, Address(ip_address("10.0.0.9"), 1)]
    ),
    listener=st.just(HERE),
    command=st.sampled_from([1, 2, 3]),
    method=st.just("none"),
    moment=st.just(NOON),
    port=st.sampled_from([25, 53, 443, 8080]),
)


def plainlyFits(pattern: str, name: str | None, ip: IPAddress) -> bool:
    """
    Whether a destination, as it is written, is the one.
    """
    if pattern in [kind.value for kind in Kind]:
        return kindOf(ip).value == pattern
    if pattern[0].isdigit() or ":" in pattern:
        network = ip_network(pattern)
        return network.version == ip.version and ip in network
    if name is None:
        return False
    return name.endswith(pattern[1:]) if pattern[0] == "*" else name == pattern


def plainly(
    some: list[Rule], facts: Facts, name: str | None, reading: IPAddress, ip: IPAddress
) -> Rule | None:
    """
    What decides, found one by one.
    """
    for rule in some:
        asks = rule.conditions
        if asks.user is not None and facts.user not in asks.user:
            continue
        if asks.client is not None:
            where = facts.client.ip
            if where is None and not asks.client.onUnix:
                continue
            if where is not None and not any(
                where in network for network in asks.client.networks.all
            ):
                continue
        if asks.command is not None and facts.command not in asks.command:
            continue
        if asks.port is not None and not any(
            first <= (facts.port or 0) <= last for first, last in asks.port.all
        ):
            continue
        if asks.weekdays is not None and 0 not in asks.weekdays:
            continue
        if rule.to is None:
            return rule
        for pattern in map(str, map(textual, rule.to.patterns)):
            if plainlyFits(pattern, name, reading):
                return rule
            if "/" in pattern and not rule.allows and plainlyFits(pattern, None, ip):
                return rule
    return None


def textual(pattern: Any) -> str:
    return pattern.value if isinstance(pattern, Kind) else str(pattern)


@pytest.mark.parametrize("what", ["to", "to a name", "user", "from"])
def test_thousandsOfRules(what: str) -> None:
    """
    Only those are looked at that may match.
    """
    some: list[tuple[Conditions, Destinations | None]] = []
    for number in range(10_000):
        text = f"8.{number // 256}.{number % 256}.0/24"
        if what == "to":
            some.append((Conditions(), Destinations.of(text)))
        elif what == "to a name":
            some.append((Conditions(), Destinations.of(f"*.{number}.example.org")))
        elif what == "user":
            some.append((Conditions(user=frozenset([str(number)])), None))
        else:
            where = Clients(Networks((ip_network(text),)))
            some.append((Conditions(client=where), None))
    some.insert(5000, (Conditions(), None))
    index = RuleIndex(some)
    request = asked("www.7.example.org", identity=Identity("7", method=2))
    client = Address(ip_address("8.0.7.9"), 1)
    facts = Facts.of(attrs.evolve(request, client=client), 443, NOON)
    addresses = [ip_address("8.0.7.9"), ip_address("2001:db8::1")]
    assert index.candidates(facts, "www.7.example.org", addresses) == [7, 5000]


@settings(deadline=None, max_examples=300)
@given(rules, requests, st.none() | st.sampled_from(NAMES), st.sampled_from(IPS))
def test_asAPlainImplementationHasIt(
    some: list[Rule], facts: Facts, name: str | None, ip: IPAddress
) -> None:
    ruleset = Ruleset(some)
    for reading in readings(ip):
        assert ruleset.judge(facts, name, reading, ip) == plainly(
            some, facts, name, reading, ip
        )


@settings(deadline=None, max_examples=300)
@given(rules, requests, st.none() | st.sampled_from(NAMES), st.booleans())
def test_whatIsForeseenIsSo(
    some: list[Rule], facts: Facts, name: str | None, isOpen: bool
) -> None:
    """
    What is denied before a look-up would be denied for every address; and if
    nothing comes between, what is certain is so for every address.
    """
    ruleset = Ruleset(some)
    if isOpen:
        name = None
        facts = attrs.evolve(facts, port=None)
    elif name is None:
        name = NAMES[0]
    foresight = ruleset.foresee(facts, name)
    allowed = foresight.possible or foresight.certain
    undecided = [
        rule
        for rule in some
        if ruleset.tell(rule, facts, name) is Certainty.DEPENDS
        and (foresight.certain is None or rule.number < foresight.certain.number)
    ]
    for ip in IPS:
        for port in [25, 53, 443, 8080] if isOpen else [facts.port]:
            for each in [None, *NAMES] if isOpen else [name]:
                asks = attrs.evolve(facts, port=port)
                found = plainly(some, asks, each, readings(ip)[0], ip)
                if allowed is None or not allowed.allows:
                    assert found is None or not found.allows
                if not undecided:
                    assert found == foresight.certain


@settings(deadline=None, max_examples=300)
@given(
    rules,
    st.lists(st.sampled_from(["", "tor", "other"]), min_size=8, max_size=8),
    st.sampled_from([["tor"], ["", "tor"], [""]]),
    requests,
    st.sampled_from(NAMES),
)
def test_whatIsAllowedUnseenIsSo(
    some: list[Rule], routes: list[str], blind: list[str], facts: Facts, name: str
) -> None:
    """
    A name that is left to others is allowed whatever its addresses are; what is
    denied for that reason has an address that is denied.
    """
    some = [
        attrs.evolve(rule, route=route if rule.allows else "")
        for rule, route in zip(some, routes, strict=False)
    ]
    foresight = Ruleset(some, blind).foresee(facts, name)
    rule = foresight.possible or foresight.certain
    if rule is None or not rule.allows or rule.route not in blind:
        assert foresight.obstacle is None
        return
    found = [
        plainly(some, facts, name, reading, ip)
        for ip in IPS
        for reading in readings(ip)
    ]
    if foresight.obstacle is None:
        assert all(one is not None and one.allows for one in found)
    else:
        assert not foresight.obstacle.allows
        assert foresight.obstacle.number < rule.number


networks4 = st.builds(
    lambda number, length: IPv4Network((number >> 32 - length << 32 - length, length)),
    st.integers(0, 2**32 - 1),
    st.integers(0, 32),
)


@settings(deadline=None)
@given(st.lists(networks4, max_size=20), networks4, st.integers(0, 2**32 - 1))
@example([IPv4Network("0.0.0.0/0")], IPv4Network("10.0.0.0/8"), 0)
def test_networks(some: list[IPv4Network], other: IPv4Network, number: int) -> None:
    networks = Networks(tuple(some))
    ip = IPv4Address(number)
    assert (ip in networks) == any(ip in one for one in some)
    assert networks.coverOne(other) == any(other.subnet_of(one) for one in some)
    assert IPv6Address(number) not in networks


# -- what addresses are -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("8.8.8.8", "8.8.8.8"),
        ("2606:4700::1", "2606:4700::1"),
        ("::1", "::1"),
        ("::8.8.8.8", "8.8.8.8"),
        ("64:ff9b::8.8.8.8", "8.8.8.8"),
        ("2606:4700::5efe:8.8.8.8", "8.8.8.8 2606:4700::5efe:808:808"),
        ("2001:0:808:808::f7f7:fbfb", "8.8.8.8 8.8.4.4"),
        ("64:ff9b:1::808:808", "8.8.8.8 64:ff9b:1::808:808"),
    ],
)
def test_readings(text: str, found: str) -> None:
    assert [str(one) for one in readings(ip_address(text))] == found.split()


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("10.1.0.0/16", Kind.PRIVATE),
        ("10.0.0.0/7", None),
        ("0.0.0.0/0", None),
        ("169.254.0.0/16", None),
        ("169.254.169.254", Kind.METADATA),
        ("8.0.0.0/8", Kind.GLOBAL),
        ("fe80::1:0/112", Kind.LINK_LOCAL),
        ("fe80::/10", None),
        ("2606:4700::/32", Kind.GLOBAL),
    ],
)
def test_kindOfNetwork(text: str, kind: Kind | None) -> None:
    network = ip_network(text)
    assert kindOfNetwork(network) is kind
    if kind is not None:
        assert kindOf(network[0]) is kind
        within = rangeOf(network[0])
        assert within.overlaps(network)
        assert within.prefixlen <= network.prefixlen


def test_commandsByTheirNames() -> None:
    assert COMMANDS == {"CONNECT": 1, "BIND": 2, "ASSOCIATE": 3}


def test_limitsAreThoseOfTheRuleThatDecides() -> None:
    """
    A request for a name may come to be one for another rule, by its address; then its
    limits come with the address.
    """
    few, many = Limits(sessions=1), Limits(sessions=9)
    policy = policyOf(
        allow("10.0.0.0/8", limits=few), allow("global", limits=many), deny()
    )
    named = asked("example.org")
    assert policy.decide(named).limits is None
    for text, limits in (("10.1.2.3", few), ("8.8.8.8", many)):
        address = Address(ip_address(text), 443)
        assert policy.checkAddress(named, address).limits == limits
        assert policy.decide(asked(text)).limits == limits
    scopes = {policy.decide(asked(text)).scope for text in ("10.1.2.3", "8.8.8.8")}
    assert scopes == {"rule allow to=10.0.0.0/8", "rule allow to=global"}


def test_limitsWhereTheRuleIsSure() -> None:
    few = Limits(sessions=1)
    policy = policyOf(deny("10.0.0.0/8"), allow(limits=few))
    assert policy.decide(asked("example.org")).limits == few
    before = policyOf(allow("10.0.0.0/8"), allow(limits=few))
    assert before.decide(asked("example.org")).limits is None
    blind = attrs.evolve(allow(limits=few), route="proxy")
    ruleset = Ruleset([attrs.evolve(blind, number=1)], {"proxy"})
    policy = RulePolicy(ruleset, NOON.timestamp, routes={"proxy": None})
    assert policy.decide(asked("example.org")).limits == few
    # Of what datagrams are for, no address may ever be known.
    some = attrs.evolve(allow("10.0.0.0/8", limits=few), route="proxy", number=1)
    way: Any = Way(resolvesNames=False)
    ruleset = Ruleset([some], {"proxy"})
    policy = RulePolicy(ruleset, NOON.timestamp, routes={"proxy": way})
    assert policy.decide(asked("0.0.0.0", command=Command.ASSOCIATE)).limits == few
