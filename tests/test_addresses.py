# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
What bytes mean as an address, and what an address is.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address as TCP4Address
from twisted.internet.address import IPv6Address as TCP6Address
from twisted.internet.address import UNIXAddress

from twisted_socks5.addresses import (
    UNIX_CLIENT,
    Address,
    IPAddress,
    Kind,
    addressOf,
    embedded,
    fromSocketName,
    isThisHost,
    kindOf,
    reached,
    unmapped,
)
from twisted_socks5.errors import InvalidName

# -- names --------------------------------------------------------------------

LONG_LABEL = b"a" * 63
LONGEST_NAME = b".".join([LONG_LABEL] * 3 + [b"a" * 61])


@pytest.mark.parametrize(
    ("raw", "host"),
    [
        (b"127.0.0.1", "127.0.0.1"),
        (b"0.0.0.0", "0.0.0.0"),  # noqa: S104 - as a client may spell it
        (b"255.255.255.255", "255.255.255.255"),
        (b"::1", "::1"),
        (b"::", "::"),
        (b"2001:DB8::A", "2001:db8::a"),
        (b"::ffff:127.0.0.1", "127.0.0.1"),
        (b"64:ff9b::192.0.2.1", "64:ff9b::c000:201"),
    ],
)
def test_spellingsOfAnIP(raw: bytes, host: str) -> None:
    """
    What C{inet_pton} takes is that IP address.
    """
    address = Address.fromName(raw, 80)
    assert address == Address(ip_address(host), 80)
    assert address.ip == ip_address(host)


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        (b"localhost", "localhost"),
        (b"LocalHost", "localhost"),
        (b"example.org.", "example.org"),
        (b"127.1", "127.1"),
        (b"0x7f.1", "0x7f.1"),
        (b"0X7F000001", "0x7f000001"),
        (b"2130706433", "2130706433"),
        (b"0177.0.0.1", "0177.0.0.1"),
        (b"[::1]", "[::1]"),
        (b"fe80::1%lo", "fe80::1%lo"),
        (b"0", "0"),
        (b"_dmarc.example.org", "_dmarc.example.org"),
        (LONG_LABEL, LONG_LABEL.decode()),
        (LONGEST_NAME, LONGEST_NAME.decode()),
        (LONGEST_NAME + b".", LONGEST_NAME.decode()),
    ],
)
def test_otherSpellingsAreNames(raw: bytes, name: str) -> None:
    """
    Whatever C{inet_pton} does not take is a name, in lower case and without
    its trailing dot, even where C{getaddrinfo} would know an IP by it.
    """
    address = Address.fromName(raw, 80)
    assert address.host == name
    assert address.ip is None


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b".",
        b"..",
        b".example.org",
        b"example.org..",
        b"example..org",
        b"local\x00host",
        b"127.0.0.1\x00",
        b"127.0.0.1\x00.example.org",
        b"\x00",
        b"example.org\r\n",
        b"exam\nple.org",
        b"127.0.0.1 ",
        b" 127.0.0.1",
        b"local host",
        b"tab\there",
        b"del\x7f",
        "１２７.0.0.1".encode(),  # full-width digits
        "ｌocalhost".encode(),  # noqa: RUF001 - full-width letter
        "127。0。0。1".encode(),  # ideographic full stops
        b"\xff\xfe",
        b"a" * 64,
        b"a" * 64 + b".org",
        b"example." + b"b" * 64,
        LONGEST_NAME + b"a",
        LONGEST_NAME + b"a.",
        LONGEST_NAME + b"..",
        b"a" * 255,
    ],
)
def test_impossibleNames(raw: bytes) -> None:
    """
    What can be no name is told so at once.
    """
    with pytest.raises(InvalidName):
        Address.fromName(raw, 80)


def test_lengthsOfTheLongestNames() -> None:
    """
    The lengths meant above: 253 bytes is the most without a trailing dot.
    """
    assert len(LONGEST_NAME) == 253


@given(st.binary(max_size=255))
@example(b"xn--.")
def test_anyBytesAreAnAddressOrInvalid(raw: bytes) -> None:
    """
    No bytes raise anything but L{InvalidName}, and what becomes a name stays
    that one.
    """
    try:
        address = Address.fromName(raw, 1)
    except InvalidName:
        return
    if isinstance(address.host, str):
        assert address.host == address.host.lower()
        assert len(address.host) <= 253
        assert address.host.isascii()
        assert address.host.isprintable()


@given(st.ip_addresses())
def test_everyIPIsKnownByItsText(ip: IPAddress) -> None:
    """
    An IP address as text, of either case, is that IP address; and so are its
    octets.
    """
    for text in (str(ip), str(ip).upper(), ip.exploded):
        assert Address.fromName(text.encode(), 1).ip == unmapped(ip)
        assert Address.fromWire(text.encode(), 1).ip == unmapped(ip)
    assert Address.fromWire(ip, 1).ip == unmapped(ip)


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (Address(IPv4Address("192.0.2.1"), 80), "192.0.2.1:80"),
        (Address(IPv6Address("2001:db8::1"), 80), "[2001:db8::1]:80"),
        (Address("example.org", 443), "example.org:443"),
    ],
)
def test_text(address: Address, text: str) -> None:
    """
    Addresses are shown as in URLs.
    """
    assert str(address) == text


def test_fromSocketName() -> None:
    """
    The tuples of the socket module, with or without a scope.
    """
    assert fromSocketName(("192.0.2.1", 80)) == Address(IPv4Address("192.0.2.1"), 80)
    assert fromSocketName(("fe80::1%eth0", 80, 0, 2)) == Address(
        IPv6Address("fe80::1"), 80
    )


def test_addressOf() -> None:
    """
    Twisted's addresses.
    """
    assert addressOf(TCP4Address("TCP", "192.0.2.1", 80)) == Address(
        IPv4Address("192.0.2.1"), 80
    )
    assert addressOf(TCP6Address("TCP", "2001:db8::1", 80)) == Address(
        IPv6Address("2001:db8::1"), 80
    )
    assert addressOf(UNIXAddress(b"/run/socks")) == UNIX_CLIENT
    assert UNIX_CLIENT.ip is None


# -- kinds --------------------------------------------------------------------

KINDS = {
    Kind.LOOPBACK: "127.0.0.0 127.0.0.1 127.1.2.3 127.255.255.255 ::1",
    Kind.LINK_LOCAL: "169.254.0.0 169.254.1.1 169.254.255.255 fe80:: fe80::1 "
    "fe80:0:0:1::1 febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    Kind.METADATA: "169.254.169.254 169.254.170.2 169.254.170.23 169.254.42.42 "
    "168.63.129.16 100.100.100.200 192.0.0.192 fd00:ec2::254 fd00:ec2::23 "
    "fd20:ce::254 fd00:c1::a9fe:a9fe fd00:42::42 fd00:a9fe:a9fe::1 "
    "fd00:100::100:200 fe80::a9fe:a9fe",
    Kind.UNSPECIFIED: "0.0.0.0 0.0.0.1 0.1.2.3 0.255.255.255 ::",
    Kind.MULTICAST: "224.0.0.0 224.0.0.1 239.255.255.255 ff00:: ff02::1 ff0e::1 "
    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    Kind.RESERVED: "192.0.0.0 192.0.0.9 192.0.0.255 192.0.2.0 192.0.2.255 "
    "198.51.100.1 203.0.113.1 192.88.99.1 198.18.0.0 198.19.255.255 240.0.0.0 "
    "255.255.255.254 255.255.255.255 100::1 100:0:0:1::1 2001:1::1 2001:2::1 "
    "2001:10::1 2001:40::1 2001:1ff:ffff:: 2001:db8:: 2001:db8:ffff::1 3fff:: "
    "3fff:fff:ffff::1 5f00::1 4000::1 200::1 e000::1 fe00::1 ::1:0:0:0 1::1 "
    "64:ff9a::1 64:ff9b:0:1::1 64:ff9b:2::1",
    Kind.PRIVATE: "10.0.0.0 10.255.255.255 172.16.0.0 172.31.255.255 192.168.0.0 "
    "192.168.255.255 100.64.0.0 100.127.255.255 fc00:: fdff:ffff::1 fec0:: "
    "feff:ffff::1",
    Kind.GLOBAL: "1.0.0.0 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 "
    "100.128.0.0 126.255.255.255 128.0.0.0 168.63.129.15 168.63.129.17 "
    "169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 191.255.255.255 "
    "192.0.1.0 192.0.3.0 192.31.196.1 192.88.98.255 192.88.100.0 192.167.255.255 "
    "192.169.0.0 198.17.255.255 198.20.0.0 198.51.99.255 198.51.101.0 "
    "203.0.112.255 203.0.114.0 223.255.255.255 2000:: 2001:200::1 2001:3::1 "
    "2001:4:112::1 2001:20::1 2001:30::1 2001:db7:ffff::1 2001:db9::1 "
    "2606:4700:4700::1111 2003::1 3ffe::1 3fff:1000::1 "
    "3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
}
SPELLINGS = [(text, kind) for kind, texts in KINDS.items() for text in texts.split()]


@pytest.mark.parametrize(("text", "kind"), SPELLINGS)
def test_kinds(text: str, kind: Kind) -> None:
    """
    Ranges end where the registries say.
    """
    assert kindOf(ip_address(text)) is kind


def test_namesOfKinds() -> None:
    """
    The words that operators use in rules.
    """
    assert [kind.value for kind in Kind] == [
        "loopback",
        "link-local",
        "metadata",
        "unspecified",
        "multicast",
        "reserved",
        "private",
        "global",
    ]


# Built here from octets, as the RFCs show them.
GLOBAL_4 = IPv4Address("8.8.8.8").packed
FORMS: dict[str, Callable[[bytes], bytes]] = {
    "mapped": lambda v: bytes(10) + b"\xff\xff" + v,
    "compatible": lambda v: bytes(12) + v,
    "translated": lambda v: bytes(8) + b"\xff\xff\0\0" + v,
    "nat64": lambda v: bytes.fromhex("0064ff9b") + bytes(8) + v,
    "6to4": lambda v: b"\x20\x02" + v + bytes(9) + b"\x01",
    "teredo client": lambda v: (
        bytes.fromhex("20010000") + GLOBAL_4 + bytes(4) + bytes(b ^ 0xFF for b in v)
    ),
    "teredo server": lambda v: (
        bytes.fromhex("20010000") + v + bytes(4) + bytes(b ^ 0xFF for b in GLOBAL_4)
    ),
    "isatap": lambda v: bytes.fromhex("2606470047000000 00005efe") + v,
    "isatap, universal": lambda v: bytes.fromhex("2606470047000000 02005efe") + v,
    "isatap, group": lambda v: bytes.fromhex("2606470047000000 03005efe") + v,
}
LOCAL = bytes.fromhex("0064ff9b0001")
LOCAL_FORMS: dict[str, Callable[[bytes], bytes]] = {
    "nat64/48": lambda v: LOCAL + v[:2] + b"\0" + v[2:] + bytes(5),
    "nat64/56": lambda v: LOCAL + b"\0" + v[:1] + b"\0" + v[1:] + bytes(4),
    "nat64/64": lambda v: LOCAL + bytes(2) + b"\0" + v + bytes(3),
    "nat64/96": lambda v: LOCAL + bytes(6) + v,
}
SAMPLES = {
    "127.0.0.1": Kind.LOOPBACK,
    "127.255.0.255": Kind.LOOPBACK,
    "10.0.0.1": Kind.PRIVATE,
    "172.16.5.4": Kind.PRIVATE,
    "192.168.1.1": Kind.PRIVATE,
    "100.64.0.1": Kind.PRIVATE,
    "169.254.169.254": Kind.METADATA,
    "168.63.129.16": Kind.METADATA,
    "169.254.7.7": Kind.LINK_LOCAL,
    "224.0.0.251": Kind.MULTICAST,
    "255.255.255.255": Kind.RESERVED,
    "0.0.0.0": Kind.UNSPECIFIED,  # noqa: S104 - no bind
    "8.8.8.8": Kind.GLOBAL,
    "93.184.216.34": Kind.GLOBAL,
}


def permission(kind: Kind) -> int:
    """
    How much a policy would permit: the less, the lower.
    """
    return {Kind.GLOBAL: 2, Kind.PRIVATE: 1}.get(kind, 0)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("text", "kind"), SAMPLES.items())
def test_embeddedIsThatIPv4(form: str, text: str, kind: Kind) -> None:
    """
    An IPv6 address with an IPv4 one in it is of the kind of that.
    """
    inner = IPv4Address(text)
    outer = IPv6Address(FORMS[form](inner.packed))
    assert kindOf(outer) is kind
    if kind is not Kind.UNSPECIFIED:  # :: and ::0.0.0.0 are the same
        assert inner in embedded(outer)
    if kind is not Kind.GLOBAL:
        assert reached(outer) in (inner, outer)
        assert kindOf(reached(outer)) is kind


@pytest.mark.parametrize("form", LOCAL_FORMS)
@pytest.mark.parametrize(("text", "kind"), SAMPLES.items())
def test_localNAT64(form: str, text: str, kind: Kind) -> None:
    """
    An address for a network's own translator is never better than private,
    and an IPv4 address that is worse is found in each of the layouts.
    """
    inner = IPv4Address(text)
    outer = IPv6Address(LOCAL_FORMS[form](inner.packed))
    assert inner in embedded(outer)
    assert permission(kindOf(outer)) <= min(permission(kind), permission(Kind.PRIVATE))


@pytest.mark.parametrize("form", ["nat64/64", "nat64/96"])
@pytest.mark.parametrize(("text", "kind"), SAMPLES.items())
def test_localNAT64IsUsable(form: str, text: str, kind: Kind) -> None:
    """
    In the longer layouts, the others do not get in the way.
    """
    outer = IPv6Address(LOCAL_FORMS[form](IPv4Address(text).packed))
    assert kindOf(outer) is (Kind.PRIVATE if kind is Kind.GLOBAL else kind)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        # The prefix forbids what the interface identifier would not.
        ("fe80::5efe:8.8.8.8", Kind.LINK_LOCAL),
        ("fe80::200:5efe:8.8.8.8", Kind.LINK_LOCAL),
        ("ff02::5efe:8.8.8.8", Kind.MULTICAST),
        ("2001:db8::5efe:8.8.8.8", Kind.RESERVED),
        ("::5efe:8.8.8.8", Kind.RESERVED),
        ("fd12::5efe:8.8.8.8", Kind.PRIVATE),
        ("fd00:ec2::5efe:8.8.8.8", Kind.METADATA),
        # And the other way round.
        ("fd12::5efe:127.0.0.1", Kind.LOOPBACK),
        ("fe80::5efe:10.0.0.1", Kind.LINK_LOCAL),
        # Several in one.
        ("2002:808:808::5efe:127.0.0.1", Kind.LOOPBACK),
        ("2002:7f00:1::5efe:8.8.8.8", Kind.LOOPBACK),
        ("2002:a00:1:0:0:5efe:a9fe:a9fe", Kind.METADATA),
        ("2001:0:a00:1::f7f7:f7f7", Kind.PRIVATE),
        ("2001:0:7f00:1::f5ff:fffe", Kind.LOOPBACK),
        ("2001:0:7f00:1:0:5efe:f7f7:f7f7", Kind.LOOPBACK),
        ("64:ff9b:1::5efe:8.8.8.8", Kind.PRIVATE),
        # Not of the forms.
        ("2606:4700:4700:0:0:5eff:7f00:1", Kind.GLOBAL),
        ("2606:4700:4700::7f00:1", Kind.GLOBAL),
        ("2003:7f00:1::1", Kind.GLOBAL),
    ],
)
def test_strictestReadingCounts(text: str, kind: Kind) -> None:
    """
    Where an address can be read in several ways, the strictest one counts.
    """
    assert kindOf(ip_address(text)) is kind


octets = st.binary(min_size=16, max_size=16)


@given(st.ip_addresses(v=4))
@example(IPv4Address(0))
@example(IPv4Address(1))
@example(IPv4Address("127.0.0.1"))
@example(IPv4Address("0.8.8.8"))
@example(IPv4Address("255.255.255.255"))
def test_noFormIsMorePermissive(inner: IPv4Address) -> None:
    """
    Whatever form an IPv4 address is put in, nobody gets any further by it.
    """
    for form, make in (FORMS | LOCAL_FORMS).items():
        outer = IPv6Address(make(inner.packed))
        assert permission(kindOf(outer)) <= permission(kindOf(inner)), form


@given(st.ip_addresses(v=4), octets)
def test_noFillingIsMorePermissive(inner: IPv4Address, filling: bytes) -> None:
    """
    Nor by what is put in those bits that a form leaves open.
    """
    v = inner.packed
    inverted = bytes(octet ^ 0xFF for octet in v)
    identifier = bytes((filling[8] & 0x03, 0, 0x5E, 0xFE))
    outers = [
        b"\x20\x02" + v + filling[6:],
        b"\x20\x02" + filling[2:8] + identifier + v,
        bytes.fromhex("20010000") + filling[4:12] + inverted,
        bytes.fromhex("20010000") + v + filling[8:],
        filling[:8] + identifier + v,
        LOCAL + filling[6:12] + v,
    ]
    for outer in outers:
        assert permission(kindOf(IPv6Address(outer))) <= permission(kindOf(inner))


@given(st.ip_addresses(v=4), octets)
def test_noJunkIsMorePermissive(inner: IPv4Address, junk: bytes) -> None:
    """
    A translator that looks neither at the suffix nor at bits 64 to 71 is not
    fooled either (nobody forwards to 0.0.0.0/8).
    """
    assume(inner.packed[0])
    v = inner.packed
    for outer in (
        LOCAL + v[:2] + junk[8:9] + v[2:] + junk[11:],
        LOCAL + junk[6:7] + v[:1] + junk[8:9] + v[1:] + junk[12:],
        LOCAL + junk[6:9] + v + junk[13:],
    ):
        assert permission(kindOf(IPv6Address(outer))) <= permission(kindOf(inner))


@given(st.ip_addresses())
def test_reachedIsOfTheSameKind(ip: IPAddress) -> None:
    """
    An address is of the kind of what it reaches, which is itself or in it.
    """
    assert reached(ip) in (ip, *embedded(ip))
    assert kindOf(reached(ip)) is kindOf(ip)


@given(st.ip_addresses(v=4))
def test_IPv4HasNothingInIt(ip: IPAddress) -> None:
    """
    An IPv4 address reaches itself.
    """
    assert embedded(ip) == ()
    assert reached(ip) == ip
    assert unmapped(ip) == ip


def test_unmapped() -> None:
    """
    Only mapped addresses are the same as their IPv4 one.
    """
    assert unmapped(IPv6Address("::ffff:127.0.0.1")) == IPv4Address("127.0.0.1")
    for text in ("::127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "::1"):
        assert unmapped(IPv6Address(text)) == IPv6Address(text)


# -- this host ----------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    "127.0.0.1 127.200.3.4 ::ffff:127.0.0.1 ::127.0.0.1 ::ffff:0:127.0.0.1 "
    "64:ff9b::7f00:1 2002:7f00:1::1 2001:0:808:808::80ff:fffe "
    "0.0.0.0 0.1.2.3 :: ::ffff:0.0.0.0 64:ff9b::".split(),
)
def test_thisHost(text: str) -> None:
    """
    Addresses that a socket can be bound to, in every form, and unspecified
    ones.
    """
    assert isThisHost(ip_address(text))


@pytest.mark.parametrize(
    "text",
    "192.0.2.1 203.0.113.7 8.8.8.8 240.0.0.1 2001:db8::1 ::ffff:192.0.2.1 "
    "64:ff9b::192.0.2.1 224.0.0.1 239.1.2.3 255.255.255.255 ff02::1 ff0e::1 "
    "::ffff:224.0.0.1 ::ffff:255.255.255.255 64:ff9b::224.0.0.1".split(),
)
def test_notThisHost(text: str) -> None:
    """
    Addresses of others, and those that are nobody's although a socket can be
    bound to them.
    """
    assert not isThisHost(ip_address(text))


def openDescriptors() -> int:
    return len(os.listdir("/dev/fd"))


def test_thisHostKeepsNothingOpen() -> None:
    """
    Asking leaves no descriptor behind, whatever the answer.
    """
    before = openDescriptors()
    for text in ("127.0.0.1", "192.0.2.1", "::1", "2001:db8::1", "fe80::1"):
        isThisHost(ip_address(text))
    assert openDescriptors() == before


def test_thisHostWithoutDescriptors() -> None:
    """
    When there is no descriptor to find it out with, an address is ours.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    try:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/dev/fd"))) + 2, hard)
        )
        with pytest.raises(OSError, match="Too many open files"):
            while True:
                taken.append(os.dup(0))
        assert isThisHost(IPv4Address("192.0.2.1"))
        assert isThisHost(IPv6Address("2001:db8::1"))
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert not isThisHost(IPv4Address("192.0.2.1"))


@pytest.mark.parametrize("text", ["127.0.0.1", "::1"])
def test_addressWithTrailingDot(text: str) -> None:
    """
    What is an IP address without its trailing dot is no name that a policy
    would let pass unjudged.
    """
    assert Address.fromName(text.encode() + b".", 80) == Address(ip_address(text), 80)


def test_socketForBothFamilies() -> None:
    """
    One client has one address, whichever listener it comes by.
    """
    name = ("::ffff:192.0.2.1", 80, 0, 0)
    assert fromSocketName(name) == Address(IPv4Address("192.0.2.1"), 80)
