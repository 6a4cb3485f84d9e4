# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Rules in a file, and what is told of them.
"""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock
from zope.interface import implementer

from tests.conversation import connectTo, connectToName, failure, readAll, readExactly
from tests.test_docs import BLOCKS
from tests.test_rules import (
    IPS,
    NAMES,
    NOON,
    asked,
    conditions,
    patterns,
    plainly,
    requests,
    rules,
)
from tests.test_start import refused
from twisted_socks5.addresses import IPAddress, readings
from twisted_socks5.errors import NameNotFound
from twisted_socks5.interfaces import IResolver
from twisted_socks5.policy import Guard, Rule, RulePolicy
from twisted_socks5.policy.conditions import (
    Clients,
    Conditions,
    Facts,
    Listeners,
    Ranges,
)
from twisted_socks5.policy.coverage import covered
from twisted_socks5.policy.destinations import Destinations
from twisted_socks5.policy.egress import AsListener, FromAddress, FromNetwork
from twisted_socks5.policy.networks import Networks
from twisted_socks5.policy.rulesfile import loadRules, parseRules
from twisted_socks5.routes import DirectRoute
from twisted_socks5.service.explain import explain, parse, secondsOf
from twisted_socks5.service.routes import RouteMaker
from twisted_socks5.service.rules import policyOf, takeRules
from twisted_socks5.settings import Limits
from twisted_socks5.tomltable import TOMLFileError

if TYPE_CHECKING:
    from tests.conftest import Server

ALLOW = '[[rule]]\naction = "allow"\n'
DENY = '[[rule]]\naction = "deny"\n'


def ruleOf(text: str) -> Rule:
    (rule,) = parseRules(text).ruleset
    return rule


# -- what is read ----------------------------------------------------------------------


def test_everything() -> None:
    loaded = parseRules(
        """
        timezone = "Europe/Berlin"
        [[rule]]
        action = "allow"
        user = ["alice", "bob"]
        group = "staff"
        from = ["10.0.0.0/8", "2001:db8::1", "unix"]
        listener = [1080, "192.0.2.1", "[2001:db8::1]:1081", "unix"]
        command = ["CONNECT", 0x80]
        to = ["*.example.org", "private", "192.0.2.0/24"]
        port = [443, "8000-8100"]
        method = ["username", 0x80]
        time = ["09:00-17:00", "22:00-06:00"]
        weekday = ["mon-wed", "sat"]
        route = "office"
        tag = ["a", "b"]
        comment = "as agreed"
        limit = { sessions-per-user = 5, bandwidth-per-session = "1.5M" }
        [route.office]
        bind = "192.0.2.10"
        """
    )
    networks = Networks(parseNetworks("10.0.0.0/8 2001:db8::1/128"))
    (rule,) = loaded.ruleset
    assert loaded.timezone == ZoneInfo("Europe/Berlin")
    assert rule == Rule(
        1,
        True,
        Conditions(
            frozenset(["alice", "bob"]),
            frozenset(["staff"]),
            Clients(networks, onUnix=True),
            Listeners(
                frozenset(
                    [
                        (None, 1080),
                        (ip_address("192.0.2.1"), None),
                        (ip_address("2001:db8::1"), 1081),
                        ("unix", None),
                    ]
                )
            ),
            frozenset([1, 0x80]),
            Ranges(((443, 443), (8000, 8100))),
            frozenset(["username", "80"]),
            Ranges(((540, 1019), (1320, 1439), (0, 359))),
            frozenset([0, 1, 2, 5]),
        ),
        Destinations.of("*.example.org", "private", "192.0.2.0/24"),
        0x02,
        "office",
        FromAddress(ip_address("192.0.2.10")),
        ("a", "b"),
        "as agreed",
        3,
        Limits(sessionsPerUser=5, bandwidthPerSession=1500000, bindsPerClient=0),
    )


def parseNetworks(texts: str) -> Any:
    return Destinations.of(*texts.split()).networks.all


def test_whatItDenies() -> None:
    rule = ruleOf(DENY + "reply = 0x05\nto = '8.8.8.8'\n")
    assert (rule.allows, rule.reply) == (False, 5)
    assert str(rule) == "rule 1 (deny to=8.8.8.8)"


def test_longListsAreShortened() -> None:
    ports = ", ".join(map(str, range(1, 100, 2)))
    names = ", ".join(f'"{n}.example"' for n in range(50))
    rule = ruleOf(ALLOW + f"user = [{names}]\nto = [{names}]\nport = [{ports}]\n")
    assert "to=0.example,1.example,2.example,3.example,+46" in str(rule)
    assert len(str(rule)) < 300


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("00:00-24:00", ((0, 1439),)),
        ("22:00-00:00", ((1320, 1439),)),
        ("23:59-00:01", ((1439, 1439), (0, 0))),
        ("09:00-09:01", ((540, 540),)),
    ],
)
def test_times(text: str, minutes: tuple[tuple[int, int], ...]) -> None:
    assert ruleOf(ALLOW + f'time = "{text}"').conditions.times == Ranges(minutes)


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("mon", {0}),
        ("sat-mon", {5, 6, 0}),
        ("sun-sun", {6}),
        ("mon-sun", set(range(7))),
    ],
)
def test_weekdays(text: str, days: set[int]) -> None:
    rule = ruleOf(ALLOW + f'weekday = "{text}"')
    assert rule.conditions.weekdays == frozenset(days)


@pytest.mark.parametrize(
    ("text", "egress"),
    [
        ("192.0.2.1", FromAddress(ip_address("192.0.2.1"))),
        ("::ffff:192.0.2.1", FromAddress(ip_address("192.0.2.1"))),
        ("192.0.2.1/32", FromAddress(ip_address("192.0.2.1"))),
        ("2001:db8::/64", FromNetwork(ip_network("2001:db8::/64"))),
        ("listener", AsListener()),
    ],
)
def test_egress(text: str, egress: object) -> None:
    rule = ruleOf(ALLOW + f"bind = '{text}'")
    assert rule.egress == egress
    assert str(rule) == f"rule 1 (allow bind={egress})"


# -- what is refused --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", 1, "expected at least one [[rule]]"),
        ("rule = []", 1, "expected at least one [[rule]]"),
        ("rule = 5", 1, "expected at least one [[rule]]"),
        ("\nrule = [5]", 2, "each with [[rule]]"),
        ("\nrules = []\n", 2, "unknown key 'rules': did you mean rule?"),
        ("[[rule]]\nto = 'a.b'", 1, "expected action"),
        ("[[rule]]\naction = 'permit'", 2, "expected allow or deny"),
        ("[[rule]]\naction = true", 2, "expected a text, not true"),
        ("[[rule]]\naction = ['allow']", 2, "expected a text"),
        (ALLOW + "\n\nusr = 'alice'", 5, "unknown key 'usr': did you mean user?"),
        (DENY + "to = []", 3, "the list is empty"),
        (DENY + "to = ''", 3, "no host name"),
        (DENY + "to = 5", 3, "expected a text or a list of texts, not 5"),
        (DENY + "to = [\n'a.b',\n# no\n'10.0.0.1/8']", 6, "expected 10.0.0.0/8"),
        (DENY + "to = ['a.b', 'A.B.']", 3, "A.B. is there twice"),
        (DENY + "to = [\n'10.0.0.0/8',\n'10.0.0.0/8']", 5, "is there twice"),
        (DENY + "to = ['privat']", 3, "did you mean private?"),
        (ALLOW + "to = '2002::/16'", 3, "judged as the IPv4 addresses inside"),
        (ALLOW + "to = '64:ff9b::a00:0/104'", 3, "judged as the IPv4 addresses"),
        (ALLOW + "from = '10.0.0.1/8'", 3, "expected 10.0.0.0/8"),
        (ALLOW + "from = 'private'", 3, "expected one like 10.0.0.0/8"),
        (ALLOW + "port = 0", 3, "expected a port from 1 to 65535"),
        (ALLOW + "port = 65536", 3, "expected a port from 1 to 65535"),
        (ALLOW + "port = '443'", 3, "expected a port (443) or a range"),
        (ALLOW + "port = '90-80'", 3, "expected the lower port first"),
        (ALLOW + "port = true", 3, "expected a number"),
        (ALLOW + "port = 4.5", 3, "expected a number"),
        (ALLOW + "port = [80, 80]", 3, "twice"),
        (ALLOW + "command = 'connect'", 3, "expected CONNECT, BIND, ASSOCIATE"),
        (ALLOW + "command = 1", 3, "expected CONNECT, BIND, ASSOCIATE"),
        (ALLOW + "method = 'password'", 3, "expected none, gssapi, username"),
        (ALLOW + "method = 2", 3, "expected none, gssapi, username"),
        (ALLOW + "listener = '0.0.0.0'", 3, "expected the address that clients"),
        (ALLOW + "listener = 'localhost:1080'", 3, "expected the address that"),
        (ALLOW + "listener = '127.0.0.1:0'", 3, "expected the address that clients"),
        (ALLOW + "time = '9-17'", 3, "expected a beginning and an end"),
        (ALLOW + "time = '09:00-09:00'", 3, "expected a beginning and an end"),
        (ALLOW + "time = '00:00-00:00'", 3, "expected a beginning and an end"),
        (ALLOW + "time = '09:60-10:00'", 3, "expected a beginning and an end"),
        (ALLOW + "time = '24:00-10:00'", 3, "expected a beginning and an end"),
        (ALLOW + "time = 09:00:00", 3, "expected a text or a list of texts"),
        (ALLOW + "weekday = 'Mon'", 3, "expected mon, tue"),
        (ALLOW + "weekday = 'mon-'", 3, "expected mon, tue"),
        (ALLOW + "user = ''", 3, "expected a name"),
        (DENY + "user = 'alice '", 3, "expected a name without space"),
        (DENY + "group = [' staff']", 3, "expected a name without space"),
        (ALLOW + "reply = 5", 3, "expected none in a rule that allows"),
        (DENY + "route = 'office'", 3, "expected none in a rule that denies"),
        (DENY + "bind = '192.0.2.1'", 3, "expected none in a rule that denies"),
        (DENY + "reply = 0", 3, "expected a number from 1 to 255"),
        (DENY + "reply = 256", 3, "expected a number from 1 to 255"),
        (DENY + "reply = '5'", 3, "expected a number from 1 to 255"),
        (DENY + "limit = {sessions = 5}", 3, "expected none in a rule that denies"),
        (ALLOW + "limit = 5", 3, "expected a table, not 5"),
        (ALLOW + "\nlimit = {}", 4, "the table is empty"),
        (ALLOW + "limit = {session = 5}", 3, "did you mean sessions?"),
        (ALLOW + "limit = {sessions = '5'}", 3, "expected a whole number"),
        (ALLOW + "limit = {sessions = true}", 3, "expected a whole number"),
        (ALLOW + "limit = {sessions = -1}", 3, "expected 0 or more"),
        (
            ALLOW + "limit = {sessions = 1" + 400 * "0" + "}",
            3,
            "expected 1000000000000000000",
        ),
        (ALLOW + "limit = {bandwidth = '999999999T'}", 3, "0 is without limit"),
        (ALLOW + "limit = {bandwidth = '1X'}", 3, "such as 500000, 500K or 1.5M"),
        (ALLOW + "limit = {bandwidth = 1.5}", 3, "a text such as '500K'"),
        (ALLOW + "limit = {client-prefix-ipv4 = 33}", 3, "expected a number from 1"),
        (ALLOW + "bind = '0.0.0.0'", 3, "expected an address of this host"),
        (ALLOW + "bind = 'eth0'", 3, "expected an address of this host"),
        (ALLOW + "bind = '192.0.2.1/24'", 3, "expected 192.0.2.0/24"),
        (ALLOW + "bind = '0.0.0.0/0'", 3, "expected an address of this host"),
        (ALLOW + "route = 'office'", 3, "expected one of the file: none"),
        (ALLOW + "tag = 'a b'", 3, "expected letters"),
        (ALLOW + "comment = '''a\nb'''", 3, "expected one line"),
        (ALLOW + "[route]\noffice = 5", 4, "expected tables with names"),
        (ALLOW + "[route.office]\nbind = '::'", 4, "expected an address of this host"),
        (ALLOW + "[route.office]\n", 3, "expected bind, interface or both, or one of"),
        (ALLOW + "[route.a]\nbind = '::1'\nfirst = 'b'", 3, "or one of proxy"),
        (ALLOW + "[route.a]\nfirst = []", 4, "the list is empty"),
        (ALLOW + "[route.a]\nfirst = ['a']", 4, "a: it comes back"),
        (ALLOW + "[route.a]\nfirst = ['b']", 4, "b: no such route; expected"),
        (ALLOW + "[route.office]\nbnd = 5\n", 4, "did you mean bind?"),
        (
            ALLOW + "route = 'a'\nbind = '192.0.2.1'\n[route.a]\nbind = '192.0.2.1'\n",
            4,
            "not in both",
        ),
        ("timezone = 'Berlin'\n" + ALLOW, 1, "expected a name like Europe/Berlin"),
        ("timezone = '../passwd'\n" + ALLOW, 1, "expected a name like Europe/Berlin"),
        (ALLOW + "action = 'deny'", 3, "no TOML"),
        (ALLOW + "to = ['a.b'", 3, "no TOML"),
        (ALLOW + "\nto : 'a.b'\n", 4, "no TOML"),
        (
            ALLOW + "\n" + DENY,
            4,
            "rule 2 (deny) never matches: rule 1 in line 1 (allow)",
        ),
    ],
)
def test_refused(text: str, line: int, words: str) -> None:
    for each in (text, text.replace("\n", "\r\n")):
        with pytest.raises(TOMLFileError) as error:
            parseRules(each, "/etc/rules.toml")
        message = str(error.value)
        assert message.startswith(f"/etc/rules.toml:{line}: "), message
        assert words in message
        assert "expected" in message or "no TOML" in message
        assert "\n" not in message


def test_linesOfStrangeText() -> None:
    """
    Brackets, quotes and line ends in texts and comments are no others.
    """
    text = (
        '# [[rule]] "\n[[rule]]\naction = "allow" # [\n'
        'comment = "[[rule]] # \\" \' = "\n'
        "user = ['a]', \"\"\"b\n[[rule]]\nb\"\"\", '''c\nc''']\n"
        "\n  [[ rule ]]\n'action' = 'deny'\n\"port\" = [1, [], 2]\n"
    )
    with pytest.raises(TOMLFileError, match=r"^x:12: port: expected a number"):
        parseRules(text, "x")


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    with pytest.raises(TOMLFileError, match="No such file"):
        loadRules(str(path))
    path.write_bytes(b"# fine\n# \xff\n")
    with pytest.raises(TOMLFileError, match="rules.toml:2: expected UTF-8"):
        loadRules(str(path))
    path.write_text(ALLOW)
    assert len(loadRules(str(path)).ruleset.rules) == 1


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("to = 'private'", "to = '10.1.0.0/16'"),
        ("to = ['10.0.0.0/8', '8.0.0.0/8']", "to = ['8.8.8.8', '10.0.0.0/9']"),
        ("to = '*.org'", "to = ['*.example.org', 'example.org']"),
        ("to = ['a.b', 'c.d']", "to = 'c.d'"),
        ("to = 'private'", "to = 'private'\nuser = 'alice'"),
        ("user = ['alice', 'bob']", "user = 'bob'\nto = 'a.b'"),
        ("from = '10.0.0.0/8'", "from = ['10.1.0.0/16', '10.2.0.0/16']"),
        ("from = ['10.0.0.0/8', 'unix']", "from = 'unix'"),
        ("port = ['1-500', '400-600']", "port = ['300-550', 7]"),
        ("listener = 1080", "listener = '192.0.2.1:1080'"),
        ("listener = '192.0.2.1'", "listener = '192.0.2.1:1080'"),
        ("command = ['CONNECT', 'BIND']", "command = 'BIND'"),
        ("time = '09:00-17:00'", "time = '10:00-11:00'\nweekday = 'mon'"),
        ("weekday = 'mon-fri'", "weekday = 'tue-wed'"),
    ],
)
def test_covered(earlier: str, later: str) -> None:
    text = f"{DENY}{earlier}\n{{}}{ALLOW}{later}\n"
    other = DENY + "user = 'mallory'\nport = 7\ntime = '00:00-01:00'\n"
    for between in ("", other):
        with pytest.raises(TOMLFileError, match="never matches: rule 1 in line 1 "):
            parseRules(text.format(between))
    turned = f"{DENY}{later}\n{ALLOW}{earlier}\n"
    if earlier != later:
        assert len(parseRules(turned).ruleset.rules) == 2


def test_notCovered() -> None:
    text = f"{ALLOW}to = ['0.0.0.0/0', '::/0']\n{DENY}to = '2002::/16'\n"
    assert len(parseRules(text).ruleset.rules) == 2


@settings(deadline=None, max_examples=300)
@given(
    rules,
    st.builds(Rule, st.just(0), st.booleans(), conditions, patterns),
    requests,
    st.none() | st.sampled_from(NAMES),
)
def test_whatIsCoveredNeverMatches(
    some: list[Rule], last: Rule, facts: Facts, name: str | None
) -> None:
    last = attrs.evolve(last, number=len(some) + 1)
    found = {rule.number for rule, _ in covered([*some, last])}
    for ip in IPS:
        rule = plainly([*some, last], facts, name, readings(ip)[0], ip)
        assert rule is None or rule.number not in found


# -- why --------------------------------------------------------------------------------


@implementer(IResolver)
class Names:
    """
    Names and their addresses.
    """

    def __init__(self, **names: str) -> None:
        self.names = {key.replace("_", "."): value for key, value in names.items()}
        self.asked: list[str] = []

    def resolve(self, name: str) -> Deferred[Sequence[IPAddress]]:
        self.asked.append(name)
        outcome: Deferred[Sequence[IPAddress]] = Deferred()
        if name in self.names:
            outcome.callback([ip_address(one) for one in self.names[name].split()])
        else:
            outcome.errback(NameNotFound("the name has no address"))
        return outcome


def told(path: Path, arguments: str, **names: str) -> tuple[int, list[str], list[str]]:
    """
    What is told of a request.

    @return: The exit status, the lines, and the names that were looked up.
    """
    options: Namespace = parse(["explain", "--rules", str(path), *arguments.split()])
    loaded = loadRules(options.rules)
    policy: RulePolicy = policyOf(
        loaded, lambda: secondsOf(options.at, policy), Guard()
    )
    resolver, lines = Names(**names), list[str]()
    own: Any = DirectRoute(MemoryReactorClock(), resolver)
    maker = RouteMaker(MemoryReactorClock(), own, isForShow=True)
    takeRules(policy, loaded, own, maker)
    outcome = list[int]()
    Deferred.fromCoroutine(
        explain(policy, options, resolver, lines.append, loaded.routes)
    ).addCallback(outcome.append)
    return outcome[0], lines, resolver.asked


MIXED = """
[[rule]]
action = "deny"
to = ["10.0.0.0/8", "evil.example"]

[[rule]]
action = "allow"
user = "alice"
to = "*.example.org"
comment = "ours"
"""


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    path = tmp_path / "mixed.toml"
    path.write_text(MIXED)
    return path


def test_explain(mixed: Path) -> None:
    status, lines, _ = told(
        mixed,
        "--user alice --from 10.1.2.3 CONNECT WWW.example.org.:443",
        www_example_org="93.184.215.14 10.0.0.1 ::1",
    )
    assert status == 0
    allowed = "allowed by rule 2 (allow user=alice to=*.example.org): ours"
    assert lines == [
        "CONNECT www.example.org:443 by alice from 10.1.2.3",
        "  line 2: rule 1 (deny to=10.0.0.0/8,evil.example) -- depends on the address",
        "  line 6: rule 2 (allow user=alice to=*.example.org): ours -- matches",
        f"  93.184.215.14:443: {allowed}",
        "  10.0.0.1:443: denied with 02: rule 1 (deny to=10.0.0.0/8,evil.example)",
        "  [::1]:443: denied with 02: guard: loopback destination for a client "
        "elsewhere",
        "  by the server's own way out",
        allowed,
    ]


def test_explainDenial(mixed: Path) -> None:
    status, lines, asked = told(mixed, "--user bob CONNECT www.example.org:443")
    assert (status, asked) == (1, [])
    assert lines[2:] == [
        "  line 6: rule 2 (allow user=alice to=*.example.org): ours "
        "-- not for this user",
        "  the end: denies what no rule matches",
        "denied with 02: no rule matches",
    ]
    status, lines, _ = told(
        mixed, "--user alice CONNECT www.example.org:443", www_example_org="10.0.0.1"
    )
    assert status == 1
    assert lines[-1] == "denied with 02: rule 1 (deny to=10.0.0.0/8,evil.example)"
    status, lines, _ = told(mixed, "--user alice CONNECT www.example.org:443")
    assert status == 3
    assert lines[-1] == "www.example.org cannot be looked up: the name has no address"


@pytest.mark.parametrize("command", ["ASSOCIATE", "CONNECT", "BIND"])
def test_explainEachCommand(mixed: Path, command: str) -> None:
    good = told(
        mixed, f"--user alice {command} a.example.org:53", a_example_org="9.9.9.9"
    )
    assert good[0] == 0
    bad = told(mixed, f"--user alice {command} evil.example:53", evil_example="9.9.9.9")
    assert bad[0] == 1
    assert bad[1][-1] == "denied with 02: rule 1 (deny to=10.0.0.0/8,evil.example)"
    assert told(mixed, f"--user alice {command} [64:ff9b::a00:1]:53")[0] == 1


def test_explainAsAProgram(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(DENY + "to = '::1'\n" + ALLOW + "port = 80\n")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "twisted_socks5", "explain", "--rules", str(path)]
            + list(arguments),
            capture_output=True,
            text=True,
            timeout=30,
        )

    done = run("CONNECT", "localhost:80")
    assert done.returncode == 0, done.stderr
    assert "127.0.0.1:80: allowed by rule 2 (allow port=80)" in done.stdout
    assert run("CONNECT", "localhost:81").returncode == 1
    assert run("CONNECT", "localhost").returncode == 2
    done = run("--policy", "guard:local=elsewhere", "CONNECT", "127.0.0.1:80")
    assert done.returncode == 1
    assert "guard: loopback destination" in done.stdout
    path.write_text(DENY + "too = '::1'\n")
    done = run("CONNECT", "localhost:80")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"socks5: {path}:3: unknown key 'too': did you mean to?")


# -- the examples of the documentation ------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "arguments", "status"),
    [
        ("allowlist.toml", "--user a CONNECT www.example.org:443", 0),
        ("allowlist.toml", "--user a CONNECT example.org:80", 0),
        ("allowlist.toml", "--user a CONNECT www.example.org:22", 1),
        ("allowlist.toml", "--user a CONNECT www.example.net:443", 1),
        ("allowlist.toml", "--user a CONNECT 9.9.9.9:443", 1),
        ("allowlist.toml", "--user a ASSOCIATE www.example.org:443", 0),
        ("allowlist.toml", "--user a --group admins CONNECT 10.20.0.1:22", 0),
        ("allowlist.toml", "--user a --group admins CONNECT 10.21.0.1:22", 1),
        ("allowlist.toml", "--user a CONNECT 10.20.0.1:22", 1),
        ("egress.toml", "--user alice CONNECT 9.9.9.9:443", 0),
        ("egress.toml", "--user carol CONNECT 9.9.9.9:443", 1),
        ("mail.toml", "--from 10.0.0.25 CONNECT 9.9.9.9:25", 0),
        ("mail.toml", "--from 10.0.0.26 CONNECT 9.9.9.9:25", 1),
        ("mail.toml", "--from 10.0.0.25 CONNECT 9.9.9.9:587", 1),
        ("mail.toml", "--from 10.0.0.26 CONNECT 9.9.9.9:443", 0),
        ("mail.toml", "--from 10.0.0.26 ASSOCIATE 9.9.9.9:25", 1),
        ("hours.toml", "--user a --at 2026-06-01T08:00 CONNECT 9.9.9.9:1", 0),
        ("hours.toml", "--user a --at 2026-06-01T17:59 CONNECT 9.9.9.9:1", 0),
        ("hours.toml", "--user a --at 2026-06-01T18:00 CONNECT 9.9.9.9:1", 1),
        ("hours.toml", "--user a --at 2026-06-07T12:00 CONNECT 9.9.9.9:1", 1),
        (
            "hours.toml",
            "--user a --group on-call --at 2026-06-07T12:00 CONNECT 9.9.9.9:1",
            0,
        ),
    ],
)
def test_examples(tmp_path: Path, name: str, arguments: str, status: int) -> None:
    (text,) = (block.text for block in BLOCKS if block.fileName == name)
    path = tmp_path / name
    path.write_text(text)
    names = {"www_example_org": "93.184.215.14", "example_org": "93.184.215.14"}
    assert told(path, arguments, **names)[0] == status


# -- a started server -----------------------------------------------------------------------


def test_wrongFile(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(DENY + "to = []\n")
    assert refused("--rules", str(path)) == (
        f"socks5: {path}:3: to: the list is empty; expected something, or no such key"
    )
    assert "No such file" in refused("--rules", str(tmp_path / "none"))


def test_untilRulesAreTakenAllIsDenied() -> None:
    """
    So that nothing goes out by the wrong way where one cannot be made.
    """
    loaded = parseRules(ALLOW)
    policy = policyOf(loaded, NOON.timestamp, Guard())
    assert not policy.decide(asked("9.9.9.9")).allowed
    own: Any = DirectRoute(MemoryReactorClock(), Names())
    takeRules(policy, loaded, own, RouteMaker(MemoryReactorClock(), own))
    assert policy.decide(asked("9.9.9.9")).allowed


@pytest.mark.usefixtures("denying")
def test_onlyTheGuardInFront(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(ALLOW)
    line = refused("--rules", str(path), "--policy", "denying:CONNECT")
    assert "only the guard" in line


def test_started(
    start: Callable[..., Server], listener: socket.socket, tmp_path: Path
) -> None:
    port = listener.getsockname()[1]
    path = tmp_path / "rules.toml"
    path.write_text(
        f"""
        [[rule]]
        action = "deny"
        to = ["evil.example", "127.0.0.9"]
        reply = 5
        tag = "bad"
        [[rule]]
        action = "allow"
        bind = "127.0.0.2"
        to = ["127.0.0.1", "localhost."]
        port = {port}
        tag = ["good", "web"]
        comment = "a \\"word\\""
        """
    )
    server = start("--rules", str(path))
    for request in (connectTo(port), connectToName(b"LocalHost.", port)):
        with server.connect() as client:
            client.sendall(b"\x05\x01\x00" + request)
            assert readExactly(client, 6) == b"\x05\x00\x05\x00\x00\x01"
            destination, peer = listener.accept()
            assert peer[0] == "127.0.0.2"
            destination.close()
    allowed = (
        r'rule=2 tags=good,web decision="rule 2 \(allow port=.*: a \\x22word\\x22"'
    )
    server.waitUntil(lambda: len(re.findall(allowed, server.output())) == 2)
    for request, reply in (
        (connectToName(b"EVIL.example.", port), 5),
        (connectTo(port, "127.0.0.9"), 5),
        (connectTo(port, "127.0.0.3"), 2),
        (connectToName(b"example.org", port ^ 1), 2),
    ):
        with server.connect() as client:
            client.sendall(b"\x05\x01\x00" + request)
            assert readAll(client) == b"\x05\x00" + failure(reply)
    server.waitForLog(
        'rule=1 tags=bad reason="rule 1 (deny to=evil.example,127.0.0.9)"', times=2
    )
    server.waitForLog('reason="no rule matches"', times=2)


@pytest.mark.parametrize("bind", ["listener", "127.5.0.0/16"])
def test_goingOut(
    start: Callable[..., Server], listener: socket.socket, tmp_path: Path, bind: str
) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(ALLOW + f"route = 'r'\n[route.r]\nbind = '{bind}'\n")
    endpoint = "tcp:0:interface=127.0.0.9"
    server = start("--rules", str(path), "--port", endpoint)
    sources = set()
    for _ in range(5):
        with socket.create_connection(server.address(endpoint), 10) as client:
            client.sendall(b"\x05\x01\x00" + connectTo(listener.getsockname()[1]))
            assert readExactly(client, 4) == b"\x05\x00\x05\x00"
            destination, (source, _) = listener.accept()
            destination.close()
            sources.add(source)
    if bind == "listener":
        assert sources == {"127.0.0.9"}
    else:
        assert len(sources) > 1
        assert all(source.startswith("127.5.") for source in sources)


FAILOVER = """
[[rule]]
action = "allow"
route = "both"

[route.both]
first = ["broken", "good"]

[route.broken]
bind = "192.0.2.77"

[route.good]
bind = "127.0.0.6"
"""


@pytest.mark.parametrize("reloads", [False, True])
def test_failover(
    start: Callable[..., Server],
    listener: socket.socket,
    tmp_path: Path,
    reloads: bool,
) -> None:
    """
    An address that this host has not got is no way out.
    """
    path = tmp_path / "rules.toml"
    path.write_text(ALLOW if reloads else FAILOVER)
    server = start("--rules", str(path))
    if reloads:
        path.write_text(FAILOVER)
        server.process.send_signal(signal.SIGHUP)
        server.waitForLog("the configuration was loaded")
    port = listener.getsockname()[1]
    with server.connect() as client:
        client.sendall(b"\x05\x01\x00" + connectTo(port))
        assert readExactly(client, 4) == b"\x05\x00\x05\x00"
        destination, (source, _) = listener.accept()
        destination.close()
        assert source == "127.0.0.6"
    with server.connect() as client:
        client.sendall(b"\x05\x01\x00" + connectToName(b"no.invalid", port))
        assert readAll(client) == b"\x05\x00" + failure(4)


@pytest.mark.parametrize("reloads", [False, True])
def test_throughAnotherProxy(
    start: Callable[..., Server],
    listener: socket.socket,
    tmp_path: Path,
    reloads: bool,
) -> None:
    """
    It looks names up, so a name that might be a denied address goes nowhere.
    """
    text = f"{ALLOW}to = '*.example.org'\n{DENY}to = '10.0.0.0/8'\n{ALLOW}"
    path = tmp_path / "rules.toml"
    path.write_text(ALLOW if reloads else text)
    route = rf"socks5:tcp\:127.0.0.1\:{listener.getsockname()[1]}"
    server = start("--rules", str(path), "--route", route)
    if reloads:
        path.write_text(text)
        server.process.send_signal(signal.SIGHUP)
        server.waitForLog("the configuration was loaded")
    for request in (connectToName(b"example.com", 80), connectTo(80, "10.0.0.1")):
        with server.connect() as client:
            client.sendall(b"\x05\x01\x00" + request)
            assert readAll(client) == b"\x05\x00" + failure(2)
    for request in (connectToName(b"a.example.org", 80), connectTo(80, "9.9.9.9")):
        with server.connect() as client:
            client.sendall(b"\x05\x01\x00" + request)
            proxy, _ = listener.accept()
            with proxy:
                proxy.settimeout(10)
                assert readExactly(proxy, 3) == b"\x05\x01\x00"
                proxy.sendall(b"\x05\x00")
                assert readExactly(proxy, len(request)) == request
                proxy.sendall(failure(5))
                assert readAll(client) == b"\x05\x00" + failure(5)


def test_noAddressToGoOutFrom(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(FAILOVER)
    route = r"socks5:tcp\:127.0.0.1\:9"
    line = refused("--port", "0", "--rules", str(path), "--route", route)
    assert "route both: a proxy goes out from the address that it likes" in line


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        ("CONNECT a.example.org:80", 0),
        ("CONNECT example.com:80", 1),
        ("ASSOCIATE a.example.org:80", 0),
        ("ASSOCIATE example.com:80", 1),
        ("CONNECT 9.9.9.9:80", 0),
    ],
)
def test_explainThroughAnotherProxy(
    tmp_path: Path, arguments: str, status: int
) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(f"{ALLOW}to = '*.example.org'\n{DENY}to = '10.0.0.0/8'\n{ALLOW}")
    command = [sys.executable, "-m", "twisted_socks5", "explain", "--rules", str(path)]
    command += ["--route", r"socks5:tcp\:127.0.0.1\:9", *arguments.split()]
    done = subprocess.run(command, capture_output=True, timeout=60)
    assert done.returncode == status, done
