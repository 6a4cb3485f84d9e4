# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The codec: what goes in comes out, whatever else comes in does no harm.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_socks5 import wire
from twisted_socks5.errors import MalformedMessage, UnknownAddressType
from twisted_socks5.wire import (
    Datagram,
    Greeting,
    MethodChoice,
    Reply,
    Request,
    UsernamePassword,
    UsernamePasswordStatus,
    datagramHeaderLength,
    encodeDatagramHeader,
    parseDatagramHeader,
)

# No property is parametrized: pytest-twisted wraps the test inside of C{given}
# anew for each parameter, and all but the first fail.

Buffer: TypeAlias = bytearray | memoryview

# The longest message of each kind, counted from the RFCs' diagrams.
LONGEST: dict[type[Any], int] = {
    Greeting: 1 + 1 + 255,
    MethodChoice: 2,
    UsernamePassword: 1 + 1 + 255 + 1 + 255,
    UsernamePasswordStatus: 2,
    Request: 4 + 1 + 255 + 2,
    Reply: 4 + 1 + 255 + 2,
}
BUFFERS: list[Callable[[bytes], Buffer]] = [
    bytearray,
    lambda data: memoryview(bytearray(data)),
]

octets = st.integers(0, 255)
ports = st.integers(0, 65535)
counted = st.binary(max_size=255)
hosts = st.one_of(
    st.integers(0, 2**32 - 1).map(IPv4Address),
    st.integers(0, 2**128 - 1).map(IPv6Address),
    counted,
)
messages = st.one_of(
    st.builds(Greeting, st.binary(min_size=1, max_size=255)),
    st.builds(MethodChoice, octets),
    st.builds(UsernamePassword, counted, counted),
    st.builds(UsernamePasswordStatus, octets),
    st.builds(Request, octets, hosts, ports),
    st.builds(Reply, octets, hosts, ports),
)
datagrams = st.builds(Datagram, octets, hosts, ports, st.binary(max_size=2000))

# Random bytes seldom get past the first octet; these do.
versions = st.sampled_from([b"\x01", b"\x05", b"\x05\x01\x00\x03"])
arbitrary = st.one_of(
    st.binary(max_size=1200),
    st.builds(bytes.__add__, versions, st.binary(max_size=1200)),
)


# -- properties ---------------------------------------------------------------


@given(messages)
def test_roundTrip(message: Any) -> None:
    data = message.encode()
    assert type(data) is bytes
    assert len(data) <= LONGEST[type(message)]
    assert type(message).parse(data) == (message, len(data))


@given(datagrams)
def test_datagramRoundTrip(datagram: Datagram) -> None:
    assert Datagram.parse(datagram.encode()) == datagram


@given(messages)
def test_everyProperPrefixNeedsMore(message: Any) -> None:
    data = message.encode()
    for length in range(len(data)):
        assert type(message).parse(data[:length]) is None


@given(messages, st.binary(min_size=1))
def test_whatFollowsIsNotTaken(message: Any, following: bytes) -> None:
    data = message.encode()
    assert type(message).parse(data + following) == (message, len(data))


@given(arbitrary)
def test_anythingElseIsMalformed(data: bytes) -> None:
    for kind, longest in LONGEST.items():
        try:
            parsed = kind.parse(data)
        except MalformedMessage:
            continue
        if parsed is None:
            assert len(data) < longest
            continue
        message, length = parsed
        assert type(message) is kind
        assert 0 < length <= min(len(data), longest)
        # Nothing after the message has a say in it.
        assert kind.parse(data[:length]) == parsed


@given(st.one_of(arbitrary, st.builds(bytes.__add__, st.just(b"\0\0\0"), arbitrary)))
def test_anyOtherDatagramIsMalformed(data: bytes) -> None:
    try:
        fragment, host, port, length = parseDatagramHeader(data)
    except MalformedMessage:
        with pytest.raises(MalformedMessage):
            Datagram.parse(data)
        return
    assert length <= LONGEST[Request]
    assert Datagram.parse(data) == Datagram(fragment, host, port, data[length:])
    # All but RSV comes out as it came in.
    assert encodeDatagramHeader(host, port, fragment)[2:] == data[2:length]


@given(datagrams)
def test_aDatagramCutInItsHeaderIsMalformed(datagram: Datagram) -> None:
    data = datagram.encode()
    header = len(data) - len(datagram.payload)
    for length in range(header):
        with pytest.raises(MalformedMessage):
            Datagram.parse(data[:length])
    assert Datagram.parse(data[:header]).payload == b""


@given(messages)
def test_anyBufferIsCopiedFrom(message: Any) -> None:
    for buffer in BUFFERS:
        data = buffer(message.encode())
        parsed, length = type(message).parse(data)
        assert length == len(data)
        data[:] = bytes(len(data))
        assert parsed == message
        assertHoldsOnlyBytes(parsed)


@given(datagrams)
def test_anyBufferOfADatagramIsCopiedFrom(datagram: Datagram) -> None:
    for buffer in BUFFERS:
        data = buffer(datagram.encode())
        parsed = Datagram.parse(data)
        data[:] = bytes(len(data))
        assert parsed == datagram
        assertHoldsOnlyBytes(parsed)


def assertHoldsOnlyBytes(message: Any) -> None:
    for name in message.__slots__:
        assert type(getattr(message, name)) in (bytes, int, IPv4Address, IPv6Address)


# -- nothing beyond the message is looked at -----------------------------------


class Watched(bytearray):
    """
    Bytes that know how far they were read.
    """

    furthest = 0

    def __getitem__(self, index: Any) -> Any:
        end = index.stop if isinstance(index, slice) else index + 1
        self.furthest = max(self.furthest, end)
        return super().__getitem__(index)


@given(messages)
def test_onlyTheMessageIsRead(message: Any) -> None:
    data = Watched(message.encode() + bytes(10_000))
    _, length = type(message).parse(data)
    assert data.furthest == length


# -- transcripts --------------------------------------------------------------

LOCALHOST_6 = IPv6Address("::1")

TRANSCRIPTS: list[tuple[str, Any]] = [
    # RFC 1928, section 3
    ("05 01 00", Greeting(b"\x00")),
    ("05 02 00 02", Greeting(b"\x00\x02")),
    ("05 01 02", Greeting(b"\x02")),
    ("05 03 00 01 02", Greeting(b"\x00\x01\x02")),
    ("05 FF" + bytes(range(255)).hex(), Greeting(bytes(range(255)))),
    ("05 00", MethodChoice(wire.Method.NONE)),
    ("05 01", MethodChoice(wire.Method.GSSAPI)),
    ("05 02", MethodChoice(wire.Method.USERNAME)),
    ("05 FF", MethodChoice(wire.NO_ACCEPTABLE_METHODS)),
    # RFC 1929, section 2
    (
        "01 04 75736572 08 70617373776F7264",
        UsernamePassword(b"user", b"password"),
    ),
    ("01 04 75736572 03 626164", UsernamePassword(b"user", b"bad")),
    ("01 00 00", UsernamePassword(b"", b"")),
    ("01 04 75736572 00", UsernamePassword(b"user", b"")),
    ("01 00", UsernamePasswordStatus(0x00)),
    ("01 01", UsernamePasswordStatus(0x01)),
    ("01 FF", UsernamePasswordStatus(0xFF)),
    # RFC 1928, section 4 and 5
    (
        "05 01 00 01 7F000001 0050",
        Request(wire.Command.CONNECT, IPv4Address("127.0.0.1"), 80),
    ),
    (
        "05 02 00 01 7F000001 1F90",
        Request(wire.Command.BIND, IPv4Address("127.0.0.1"), 8080),
    ),
    (
        "05 03 00 01 00000000 0000",
        Request(wire.Command.ASSOCIATE, IPv4Address("0.0.0.0"), 0),  # noqa: S104
    ),
    (
        "05 01 00 03 09 6C6F63616C686F7374 01BB",
        Request(wire.Command.CONNECT, b"localhost", 443),
    ),
    ("05 01 00 04" + "00" * 15 + "01 FFFF", Request(1, LOCALHOST_6, 65535)),
    ("05 01 00 03 00 0050", Request(1, b"", 80)),
    ("05 01 00 03 FF" + "61" * 255 + "0050", Request(1, b"a" * 255, 80)),
    ("05 03 00 03 01 30 0000", Request(3, b"0", 0)),
    ("05 F0 00 01 7F000001 0050", Request(0xF0, IPv4Address("127.0.0.1"), 80)),
    # RFC 1928, section 6
    ("05 00 00 01 7F000001 0438", Reply(0x00, IPv4Address("127.0.0.1"), 1080)),
    ("05 07 00 01 00000000 0000", Reply(0x07, IPv4Address(0), 0)),
    ("05 00 00 04" + "00" * 15 + "01 0438", Reply(0x00, LOCALHOST_6, 1080)),
    ("05 00 00 03 80" + "62" * 128 + "0001", Reply(0x00, b"b" * 128, 1)),
    ("05 00 00 03 FF" + "62" * 255 + "0001", Reply(0x00, b"b" * 255, 1)),
    ("05 FF 00 01 00000000 0000", Reply(0xFF, IPv4Address(0), 0)),
]


@pytest.mark.parametrize(("text", "message"), TRANSCRIPTS)
def test_transcript(text: str, message: Any) -> None:
    data = bytes.fromhex(text)
    assert message.encode() == data
    assert type(message).parse(data) == (message, len(data))


@pytest.mark.parametrize(
    ("text", "datagram"),
    [
        # RFC 1928, section 7
        (
            "0000 00 01 7F000001 0035 6F6E65",
            Datagram(0, IPv4Address("127.0.0.1"), 53, b"one"),
        ),
        ("0000 81 03 01 61 0035", Datagram(0x81, b"a", 53, b"")),
        (
            "0000 7F 04" + "00" * 15 + "01 0035 00",
            Datagram(0x7F, LOCALHOST_6, 53, b"\0"),
        ),
    ],
)
def test_datagramTranscript(text: str, datagram: Datagram) -> None:
    data = bytes.fromhex(text)
    assert datagram.encode() == data
    assert Datagram.parse(data) == datagram


def test_datagramHeader() -> None:
    header = bytes.fromhex("0000 00 01 7F000001 0035")
    assert encodeDatagramHeader(IPv4Address("127.0.0.1"), 53) == header
    assert parseDatagramHeader(header + b"one") == (0, IPv4Address("127.0.0.1"), 53, 10)


def test_largestDatagram() -> None:
    payload = bytes(65_497)  # with an IPv4 header in 65,507, the most UDP carries
    datagram = Datagram(0, IPv4Address("127.0.0.1"), 53, payload)
    assert len(datagram.encode()) == 65_507
    assert Datagram.parse(datagram.encode()).payload == payload


def test_pipelined() -> None:
    """
    A client that does not wait: greeting, request and payload in one.
    """
    data = bytearray.fromhex("050100 05010001 7F000001 0050 68656C6C6F")
    greeting = Greeting.parse(data)
    assert greeting == (Greeting(b"\x00"), 3)
    del data[:3]
    request = Request.parse(data)
    assert request == (Request(1, IPv4Address("127.0.0.1"), 80), 10)
    del data[:10]
    assert data == b"hello"


@given(octets, hosts, ports, octets)
def test_reservedOctetOfARequestIsIgnored(
    command: int, host: wire.Host, port: int, reserved: int
) -> None:
    data = bytearray(Request(command, host, port).encode())
    data[2] = reserved
    assert Request.parse(data) == (Request(command, host, port), len(data))


@given(octets, hosts, ports, octets)
def test_reservedOctetOfAReplyIsIgnored(
    reply: int, host: wire.Host, port: int, reserved: int
) -> None:
    data = bytearray(Reply(reply, host, port).encode())
    data[2] = reserved
    assert Reply.parse(data) == (Reply(reply, host, port), len(data))


@given(datagrams, st.binary(min_size=2, max_size=2))
def test_reservedOctetsOfADatagramAreIgnored(
    datagram: Datagram, reserved: bytes
) -> None:
    assert Datagram.parse(reserved + datagram.encode()[2:]) == datagram


# -- errors, as early as they show -----------------------------------------------

VERSIONS: dict[type[Any], int] = {
    Greeting: 5,
    MethodChoice: 5,
    UsernamePassword: 1,
    UsernamePasswordStatus: 1,
    Request: 5,
    Reply: 5,
}


@pytest.mark.parametrize("kind", VERSIONS, ids=lambda kind: kind.__name__)
def test_oneOctetShowsAWrongVersion(kind: type[Any]) -> None:
    for octet in range(256):
        data = bytes([octet])
        if octet == VERSIONS[kind]:
            assert kind.parse(data) is None
        else:
            with pytest.raises(MalformedMessage):
                kind.parse(data)


def test_otherProtocolsAreToldByTheirFirstOctet() -> None:
    for data in (b"GET / HTTP/1.1\r\n\r\n", b"\x04\x01\x00\x50", b"\x16\x03\x01"):
        with pytest.raises(MalformedMessage):
            Greeting.parse(data)


def test_noMethodsShowsAtOnce() -> None:
    with pytest.raises(MalformedMessage):
        Greeting.parse(b"\x05\x00")


@pytest.mark.parametrize("kind", [Request, Reply], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("second", [0x00, 0x01, 0x04, 0xF0, 0xFF])
def test_fourOctetsShowAnUnknownAddressType(kind: type[Any], second: int) -> None:
    assert kind.parse(bytes([5, second, 0])) is None
    for octet in range(256):
        data = bytes([5, second, 0, octet])
        if octet in (1, 3, 4):
            assert kind.parse(data) is None
        elif kind is Reply and second:
            for said in (data, data + bytes(6)):
                failed = Reply(second, IPv4Address(0), 0)
                assert kind.parse(said) == (failed, len(said))
        else:
            with pytest.raises(UnknownAddressType):
                kind.parse(data)
            with pytest.raises(UnknownAddressType):
                kind.parse(data + bytes(6))


@pytest.mark.parametrize("octet", [0x00, 0x02, 0x05, 0xFF])
def test_unknownAddressTypeOfADatagram(octet: int) -> None:
    with pytest.raises(UnknownAddressType):
        Datagram.parse(bytes([0, 0, 0, octet]) + bytes(20))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00",
        "000000",
        "0000 00 01 7F000001 00",
        "0000 00 03",
        "0000 00 03 FF 61 0035",
        "0000 00 03 00 00",
        "0000 00 04" + "00" * 17,
    ],
)
def test_shortDatagram(text: str) -> None:
    with pytest.raises(MalformedMessage):
        Datagram.parse(bytes.fromhex(text))


# -- what cannot be put on the wire ----------------------------------------------

HERE = IPv4Address("127.0.0.1")


@pytest.mark.parametrize(
    "message",
    [
        Greeting(b""),
        Greeting(bytes(256)),
        MethodChoice(256),
        MethodChoice(-1),
        UsernamePassword(bytes(256), b""),
        UsernamePassword(b"", bytes(256)),
        UsernamePasswordStatus(256),
        UsernamePasswordStatus(-1),
        Request(256, HERE, 80),
        Request(-1, HERE, 80),
        Request(1, HERE, 65536),
        Request(1, LOCALHOST_6, 65536),
        Request(1, b"localhost", 65536),
        Request(1, HERE, -1),
        Request(1, bytes(256), 80),
        Request(1, IPv6Address("fe80::1%eth0"), 80),
        Reply(256, HERE, 80),
        Reply(-1, HERE, 80),
        Reply(0, HERE, 65536),
        Reply(0, HERE, -1),
        Reply(0, bytes(256), 80),
        Reply(0, IPv6Address("fe80::1%eth0"), 80),
        Datagram(256, HERE, 80, b""),
        Datagram(-1, HERE, 80, b""),
        Datagram(0, HERE, 65536, b""),
        Datagram(0, bytes(256), 80, b""),
    ],
    ids=repr,
)
def test_cannotBeEncoded(message: Any) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        message.encode()


def test_datagramHeaderCannotBeEncoded() -> None:
    with pytest.raises(ValueError, match="port 65536"):
        encodeDatagramHeader(HERE, 65536)
    with pytest.raises(ValueError, match="host name of 256 bytes"):
        encodeDatagramHeader(bytes(256), 80)


# -- the messages themselves -----------------------------------------------------


def test_passwordIsNeverShown() -> None:
    message = UsernamePassword(b"user", b"s3cr3t")
    for text in (repr(message), str(message), f"{message}"):
        assert "user" in text
        assert "s3cr3t" not in text


def test_passwordIsNotInTheTextOfAnError() -> None:
    with pytest.raises(ValueError, match="password") as caught:
        UsernamePassword(b"user", b"s3cr3t" * 50).encode()
    assert "s3cr3t" not in str(caught.value)


def test_statusSucceeded() -> None:
    assert UsernamePasswordStatus(0x00).succeeded
    assert not any(UsernamePasswordStatus(octet).succeeded for octet in range(1, 256))


@given(st.one_of(messages, datagrams))
def test_messagesAreFrozenAndSlotted(message: Any) -> None:
    name = message.__slots__[0]
    with pytest.raises(FrozenInstanceError):
        setattr(message, name, getattr(message, name))
    assert not hasattr(message, "__dict__")
    same = type(message)(*(getattr(message, each) for each in message.__slots__))
    assert message == same
    assert hash(message) == hash(same)


def test_constants() -> None:
    assert wire.VERSION == 0x05
    assert wire.NO_ACCEPTABLE_METHODS == 0xFF
    assert {each.name: int(each) for each in wire.Method} == {
        "NONE": 0x00,
        "GSSAPI": 0x01,
        "USERNAME": 0x02,
    }
    assert {each.name: int(each) for each in wire.Command} == {
        "CONNECT": 0x01,
        "BIND": 0x02,
        "ASSOCIATE": 0x03,
    }
    assert {each.name: int(each) for each in wire.AddressType} == {
        "IPV4": 0x01,
        "NAME": 0x03,
        "IPV6": 0x04,
    }


def test_importsNothingThatDoesIO() -> None:
    imported: set[str] = set()
    for node in ast.walk(ast.parse(Path(wire.__file__).read_text("utf-8"))):
        if isinstance(node, ast.Import):
            imported.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module or "")
    assert imported <= {
        "__future__",
        "dataclasses",
        "enum",
        "ipaddress",
        "typing",
        "twisted_socks5.errors",
    }


@given(st.one_of(datagrams.map(Datagram.encode), st.binary(max_size=30), arbitrary))
def test_headerLengthAgreesWithTheHeader(data: bytes) -> None:
    """
    Whether it is taken apart or only measured.
    """
    try:
        end = parseDatagramHeader(data)[3]
    except MalformedMessage:
        with pytest.raises(MalformedMessage):
            datagramHeaderLength(data)
    else:
        assert datagramHeaderLength(data) == end
