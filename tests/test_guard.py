# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The default policy, cell by cell.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import attrs
import pytest
from twisted.plugin import getPlugins
from zope.interface import implementer
from zope.interface.verify import verifyObject

from twisted_socks5 import Guard
from twisted_socks5.addresses import UNIX_CLIENT, Address
from twisted_socks5.authenticators import Identity
from twisted_socks5.interfaces import IConnectPolicy, IPolicyFactory, IRequest
from twisted_socks5.wire import Command

ANONYMOUS = Identity()
USER = Identity("user", b"user", method=0x02)

HERE = [
    Address(ip_address("127.0.0.1"), 40000),
    Address(ip_address("127.9.8.7"), 40000),
    Address(ip_address("::1"), 40000),
    Address(ip_address("::ffff:127.0.0.1"), 40000),
    UNIX_CLIENT,
]
ELSEWHERE = [
    Address(ip_address(text), 40000)
    for text in (
        "10.0.0.7",
        "192.168.1.1",
        "8.8.8.8",
        "::ffff:10.0.0.7",
        "2606:4700:4700::1111",
        "fe80::1",
        # Anybody may have an address with 127.0.0.1 in it.
        "2606:4700:4700::5efe:127.0.0.1",
        "2002:7f00:1::1",
        "2001:0:808:808::80ff:fffe",
        "64:ff9b::127.0.0.1",
        "::127.0.0.1",
        "0.0.0.0",  # noqa: S104 - no bind
    )
]
INSIDE = {
    "loopback": "127.0.0.1 ::1 ::ffff:127.0.0.1 2002:7f00:1::1 64:ff9b::7f00:1",
    "link-local": "169.254.1.1 fe80::1 fe80::5efe:8.8.8.8",
    "metadata": "169.254.169.254 fd00:ec2::254 100.100.100.200 ::169.254.169.254",
    "unspecified": "0.0.0.0 0.1.2.3 ::",
    "multicast": "224.0.0.1 ff02::1",
    "reserved": "192.0.2.1 240.0.0.1 255.255.255.255 2001:db8::1 100::1",
}
PRIVATE = "10.0.0.1 172.16.0.1 192.168.0.1 100.64.0.1 fd12::1 ::ffff:10.0.0.1".split()
GLOBAL = "8.8.8.8 2606:4700:4700::1111 ::ffff:8.8.8.8 64:ff9b::8.8.8.8".split()
EVERYWHERE = [*" ".join(INSIDE.values()).split(), *PRIVATE, *GLOBAL]


@implementer(IRequest)
@attrs.frozen
class Asked:
    """
    A request as far as a guard looks at it.
    """

    client: Address
    identity: Identity
    destination: Address = Address("example.org", 443)
    command: int = Command.CONNECT
    raw: bytes = b""
    listener: Address = Address(ip_address("192.0.2.1"), 1080)
    session: Any = None


def ask(guard: Guard, client: Address, identity: Identity, text: str) -> bool:
    """
    Whether a guard allows a client to go to an IP address: by what it says of
    the request and of the address, which have to agree.
    """
    destination = Address(ip_address(text), 443)
    request = Asked(client, identity, destination)
    decision = guard.checkAddress(request, destination)
    assert guard.decide(request) == decision
    assert guard.checkAddress(Asked(client, identity), destination) == decision
    if not decision.allowed:
        assert decision.reply == 0x02
        assert decision.reason.startswith("guard: ")
    return decision.allowed


@pytest.mark.parametrize("client", HERE, ids=str)
@pytest.mark.parametrize("identity", [ANONYMOUS, USER], ids=["anonymous", "user"])
@pytest.mark.parametrize("text", EVERYWHERE)
def test_onThisHost(client: Address, identity: Identity, text: str) -> None:
    """
    A client on this host may go anywhere.
    """
    assert ask(Guard(), client, identity, text)


ELSEWHERE_CASES = [
    *((Guard(), client) for client in ELSEWHERE),
    *((Guard("elsewhere"), client) for client in HERE + ELSEWHERE),
]


@pytest.mark.parametrize(("guard", "client"), ELSEWHERE_CASES)
def test_authenticatedFromElsewhere(guard: Guard, client: Address) -> None:
    """
    Whoever has said who it is gets to private networks, but not inside.
    """
    for texts in INSIDE.values():
        for text in texts.split():
            assert not ask(guard, client, USER, text), text
    for text in PRIVATE + GLOBAL:
        assert ask(guard, client, USER, text), text


@pytest.mark.parametrize(("guard", "client"), ELSEWHERE_CASES)
def test_anonymousFromElsewhere(guard: Guard, client: Address) -> None:
    """
    Whoever has not gets to global addresses only.
    """
    for text in EVERYWHERE:
        assert ask(guard, client, ANONYMOUS, text) is (text in GLOBAL), text


@pytest.mark.parametrize("kind", INSIDE)
def test_reasons(kind: str) -> None:
    """
    The log tells what kind of address was asked for.
    """
    destination = Address(ip_address(INSIDE[kind].split()[0]), 80)
    decision = Guard().checkAddress(Asked(ELSEWHERE[0], USER), destination)
    assert decision.reason == f"guard: {kind} destination for a client elsewhere"


def test_reasonForAnonymous() -> None:
    """
    It also tells that a client would have got further with a name.
    """
    destination = Address(ip_address("10.0.0.1"), 80)
    decision = Guard().checkAddress(Asked(ELSEWHERE[0], ANONYMOUS), destination)
    assert decision.reason == (
        "guard: private destination for an anonymous client elsewhere"
    )


@pytest.mark.parametrize("name", ["example.org", "localhost", "127.1", "2130706433"])
def test_namesAreJudgedByTheirAddresses(name: str) -> None:
    """
    A name is let pass, however it is spelt: what it resolves to is judged.
    """
    request = Asked(ELSEWHERE[0], ANONYMOUS, Address(name, 80))
    assert Guard().decide(request).allowed


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (Command.BIND, "0.0.0.0"),
        (Command.BIND, "::"),
        (Command.ASSOCIATE, "0.0.0.0"),
        (Command.ASSOCIATE, "::"),
        (Command.ASSOCIATE, "127.0.0.1"),
        (Command.ASSOCIATE, "10.0.0.1"),
    ],
)
def test_noDestination(command: Command, text: str) -> None:
    """
    DST of UDP ASSOCIATE, and an unspecified one of BIND, is none to go to; peers
    and the destinations of datagrams are judged as they come.
    """
    request = Asked(
        ELSEWHERE[0], ANONYMOUS, Address(ip_address(text), 0), command=command
    )
    assert Guard().decide(request).allowed
    assert not Guard().checkAddress(request, Address(ip_address(text), 9)).allowed


@pytest.mark.parametrize("text", ["127.0.0.1", "10.0.0.1", "::1"])
def test_aPeerIsADestination(text: str) -> None:
    """
    BIND names who is to connect, which is judged beforehand.
    """
    request = Asked(
        ELSEWHERE[0], ANONYMOUS, Address(ip_address(text), 0), command=Command.BIND
    )
    assert not Guard().decide(request).allowed


def test_isAPolicy() -> None:
    """
    It provides what it says.
    """
    assert verifyObject(IConnectPolicy, Guard())


@pytest.mark.parametrize("local", ["", "Elsewhere", "trusted", "no\nwhere"])
def test_wrongLocal(local: str) -> None:
    """
    A word that is not known is refused in one line that says what is.
    """
    with pytest.raises(ValueError, match="^.*expected 'here' or 'elsewhere'$") as error:
        Guard(local)
    assert "\n" not in str(error.value)


class TestPlugin:
    """
    The guard on the command line.
    """

    def factory(self) -> Any:
        found = [each for each in getPlugins(IPolicyFactory) if each.name == "guard"]
        assert len(found) == 1
        return found[0]

    def test_isAFactory(self) -> None:
        """
        It provides what it says.
        """
        factory = self.factory()
        assert IPolicyFactory.providedBy(factory)
        assert factory.help
        assert factory.argumentHelp == "[local=elsewhere]"

    def test_generate(self) -> None:
        """
        It makes guards of either sort.
        """
        for guard, allowed in (
            (self.factory().generate(None), True),
            (self.factory().generate(None, local="here"), True),
            (self.factory().generate(None, local="elsewhere"), False),
        ):
            assert isinstance(guard, Guard)
            assert ask(guard, HERE[0], USER, "127.0.0.1") is allowed

    def test_wrongArguments(self) -> None:
        """
        It makes none of what it does not know.
        """
        with pytest.raises(ValueError, match="expected 'here' or 'elsewhere'"):
            self.factory().generate(None, local="there")
