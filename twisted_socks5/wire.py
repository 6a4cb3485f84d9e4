# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The messages of SOCKS5 (RFC 1928) and of its username/password authentication
(RFC 1929), without any I/O, for both the client's and the server's side.

Each message has C{encode}, and C{parse}, which is given all bytes that have
come so far and returns the message and how many of them it took, or L{None}
while there are too few, or raises L{MalformedMessage} as soon as the bytes show
that no message can come of them.  No parser looks at more than the longest
message of its kind.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address
from typing import TypeAlias

from twisted_socks5.errors import SUCCEEDED, MalformedMessage, UnknownAddressType

VERSION = 0x05
NO_ACCEPTABLE_METHODS = 0xFF

_USERNAME_VERSION = 0x01

Buffer: TypeAlias = bytes | bytearray | memoryview

Host: TypeAlias = IPv4Address | IPv6Address | bytes
"""
An IP address (ATYP 01 and 04), or a name as it is on the wire (ATYP 03).
"""


class Method(IntEnum):
    """
    METHOD octets (RFC 1928, section 3).
    """

    NONE = 0x00
    GSSAPI = 0x01
    USERNAME = 0x02


class Command(IntEnum):
    """
    CMD octets (RFC 1928, section 4).
    """

    CONNECT = 0x01
    BIND = 0x02
    ASSOCIATE = 0x03


class AddressType(IntEnum):
    """
    ATYP octets (RFC 1928, section 5).
    """

    IPV4 = 0x01
    NAME = 0x03
    IPV6 = 0x04


# Plain numbers, since looking up an enum's member costs twice the comparison,
# and this is done for every request and datagram.
_IPV4, _NAME, _IPV6 = map(int, AddressType)


def _parseAddress(data: Buffer, start: int) -> tuple[Host, int, int] | None:
    """
    Parse an address and a port, and tell where they end (RFC 1928, section
    5)::

        +------+----------+----------+
        | ATYP |   ADDR   |   PORT   |
        +------+----------+----------+
        |  1   | Variable |    2     |
        +------+----------+----------+

    ADDR is 4 octets for ATYP 01, 16 for 04; for 03 it is an octet with the
    length of a name, then the name, without a NUL.

    @return: The address, the port, and the offset after them; L{None} if they
        have not all come.
    @raise UnknownAddressType: Nobody knows how long the address is.
    """
    size = len(data)
    if size <= start:
        return None
    kind = data[start]
    begin = start + 1
    if kind == _IPV4:
        end = begin + 4
    elif kind == _NAME:
        if size <= begin:
            return None
        begin += 1
        end = begin + data[begin - 1]
    elif kind == _IPV6:
        end = begin + 16
    else:
        raise UnknownAddressType(f"no address type {kind:02x}")
    if size < end + 2:
        return None
    raw = bytes(data[begin:end])
    host: Host
    if kind == _IPV4:
        host = IPv4Address(raw)
    elif kind == _IPV6:
        host = IPv6Address(raw)
    else:
        host = raw
    return host, data[end] << 8 | data[end + 1], end + 2


def _parseFields(data: Buffer) -> tuple[int, Host, int, int] | None:
    """
    Parse what requests and replies have in common: VER, the octet that tells
    them apart, RSV, and an address; and tell where that ends.
    """
    if not _checkVersion(data, VERSION):
        return None
    address = _parseAddress(data, 3)
    if address is None:
        return None
    host, port, end = address
    return data[1], host, port, end


def _encodeAddress(host: Host, port: int) -> bytes:
    """
    The inverse of L{_parseAddress}.

    @raise ValueError: The name is longer than 255 bytes, the address has a
        scope, for which there is no room, or the port is no 16-bit number.
    """
    if not 0 <= port <= 0xFFFF:
        raise ValueError(f"port {port}: 0 to 65535")
    if isinstance(host, IPv4Address):
        return b"\x01" + host.packed + port.to_bytes(2, "big")
    if isinstance(host, IPv6Address):
        if host.scope_id is not None:
            raise ValueError(f"address {host}: no place for its scope")
        return b"\x04" + host.packed + port.to_bytes(2, "big")
    return b"\x03" + _counted(host, "host name") + port.to_bytes(2, "big")


def _counted(data: bytes, what: str) -> bytes:
    """
    Bytes behind an octet with their number.

    @raise ValueError: There are more than 255.
    """
    if len(data) > 255:
        raise ValueError(f"{what} of {len(data)} bytes: 255 at most")
    return bytes((len(data),)) + data


def _checkVersion(data: Buffer, version: int) -> bool:
    """
    Whether the first octet has come.

    @raise MalformedMessage: It is wrong.
    """
    if not data:
        return False
    if data[0] != version:
        raise MalformedMessage(f"version {data[0]:02x} in the place of {version:02x}")
    return True


@dataclass(frozen=True, slots=True)
class Greeting:
    """
    The client's first message: the methods that it offers (RFC 1928, section
    3)::

        +----+----------+----------+
        |VER | NMETHODS | METHODS  |
        +----+----------+----------+
        | 1  |    1     | 1 to 255 |
        +----+----------+----------+
    """

    methods: bytes

    @classmethod
    def parse(cls, data: Buffer) -> tuple[Greeting, int] | None:
        """
        Parse a greeting.

        @raise MalformedMessage: It is of another version, or offers nothing.
        """
        if not _checkVersion(data, VERSION) or len(data) < 2:
            return None
        end = 2 + data[1]
        if end == 2:
            raise MalformedMessage("no methods")
        if len(data) < end:
            return None
        return cls(bytes(data[2:end])), end

    def encode(self) -> bytes:
        """
        The greeting's bytes.

        @raise ValueError: It has no methods, or more than 255.
        """
        if not self.methods:
            raise ValueError("a greeting needs a method")
        return b"\x05" + _counted(self.methods, "methods")


@dataclass(frozen=True, slots=True)
class MethodChoice:
    """
    The server's answer to a greeting: the method to use, FF for none of those
    that were offered (RFC 1928, section 3)::

        +----+--------+
        |VER | METHOD |
        +----+--------+
        | 1  |   1    |
        +----+--------+
    """

    method: int

    @classmethod
    def parse(cls, data: Buffer) -> tuple[MethodChoice, int] | None:
        """
        Parse a method choice.

        @raise MalformedMessage: It is of another version.
        """
        if not _checkVersion(data, VERSION) or len(data) < 2:
            return None
        return cls(data[1]), 2

    def encode(self) -> bytes:
        """
        The choice's bytes.

        @raise ValueError: The method is no octet.
        """
        return bytes((VERSION, self.method))


@dataclass(frozen=True, slots=True)
class UsernamePassword:
    """
    The client's credentials (RFC 1929, section 2)::

        +----+------+----------+------+----------+
        |VER | ULEN |  UNAME   | PLEN |  PASSWD  |
        +----+------+----------+------+----------+
        | 1  |  1   | 1 to 255 |  1   | 1 to 255 |
        +----+------+----------+------+----------+

    VER is 01, the version of this negotiation.  Unlike in the RFC, either may
    be empty: there are clients that send an empty password.
    """

    username: bytes
    password: bytes = field(repr=False)

    @classmethod
    def parse(cls, data: Buffer) -> tuple[UsernamePassword, int] | None:
        """
        Parse credentials.

        @raise MalformedMessage: They are of another version.
        """
        if not _checkVersion(data, _USERNAME_VERSION) or len(data) < 2:
            return None
        userEnd = 2 + data[1]
        if len(data) <= userEnd:
            return None
        end = userEnd + 1 + data[userEnd]
        if len(data) < end:
            return None
        return cls(bytes(data[2:userEnd]), bytes(data[userEnd + 1 : end])), end

    def encode(self) -> bytes:
        """
        The credentials' bytes.

        @raise ValueError: One of them is longer than 255 bytes.
        """
        return (
            bytes((_USERNAME_VERSION,))
            + _counted(self.username, "username")
            + _counted(self.password, "password")
        )


@dataclass(frozen=True, slots=True)
class UsernamePasswordStatus:
    """
    The server's answer to credentials, 00 for success (RFC 1929, section 2)::

        +----+--------+
        |VER | STATUS |
        +----+--------+
        | 1  |   1    |
        +----+--------+
    """

    status: int

    @property
    def succeeded(self) -> bool:
        """
        Whether the client is let in.
        """
        return self.status == 0x00

    @classmethod
    def parse(cls, data: Buffer) -> tuple[UsernamePasswordStatus, int] | None:
        """
        Parse a status.

        @raise MalformedMessage: It is of another version.
        """
        if not _checkVersion(data, _USERNAME_VERSION) or len(data) < 2:
            return None
        return cls(data[1]), 2

    def encode(self) -> bytes:
        """
        The status' bytes.

        @raise ValueError: The status is no octet.
        """
        return bytes((_USERNAME_VERSION, self.status))


@dataclass(frozen=True, slots=True)
class Request:
    """
    What the client asks for (RFC 1928, section 4)::

        +----+-----+-------+------+----------+----------+
        |VER | CMD |  RSV  | ATYP | DST.ADDR | DST.PORT |
        +----+-----+-------+------+----------+----------+
        | 1  |  1  | X'00' |  1   | Variable |    2     |
        +----+-----+-------+------+----------+----------+

    RSV is ignored.  Any CMD will do here: whether there is such a command is
    for the server to say, once it has read the whole request.
    """

    command: int
    host: Host
    port: int

    @classmethod
    def parse(cls, data: Buffer) -> tuple[Request, int] | None:
        """
        Parse a request.

        @raise UnknownAddressType: Nobody knows how long it is.
        @raise MalformedMessage: It is of another version.
        """
        fields = _parseFields(data)
        if fields is None:
            return None
        octet, host, port, end = fields
        return cls(octet, host, port), end

    def encode(self) -> bytes:
        """
        The request's bytes.

        @raise ValueError: A number does not fit in its place, the name is
            longer than 255 bytes, or the address has a scope.
        """
        return bytes((VERSION, self.command, 0)) + _encodeAddress(self.host, self.port)


@dataclass(frozen=True, slots=True)
class Reply:
    """
    The server's answer to a request (RFC 1928, section 6)::

        +----+-----+-------+------+----------+----------+
        |VER | REP |  RSV  | ATYP | BND.ADDR | BND.PORT |
        +----+-----+-------+------+----------+----------+
        | 1  |  1  | X'00' |  1   | Variable |    2     |
        +----+-----+-------+------+----------+----------+
    """

    reply: int
    host: Host
    port: int

    @classmethod
    def parse(cls, data: Buffer) -> tuple[Reply, int] | None:
        """
        Parse a reply.  That of a failure is over where its address is of an unknown
        type, since it is the last that is said, and what has failed is known.

        @raise UnknownAddressType: Nobody knows how long it is.
        @raise MalformedMessage: It is of another version.
        """
        try:
            fields = _parseFields(data)
        except UnknownAddressType:
            if data[1] == SUCCEEDED:
                raise
            return cls(data[1], IPv4Address(0), 0), len(data)
        if fields is None:
            return None
        octet, host, port, end = fields
        return cls(octet, host, port), end

    def encode(self) -> bytes:
        """
        The reply's bytes.

        @raise ValueError: A number does not fit in its place, the name is
            longer than 255 bytes, or the address has a scope.
        """
        return bytes((VERSION, self.reply, 0)) + _encodeAddress(self.host, self.port)


def parseDatagramHeader(data: Buffer) -> tuple[int, Host, int, int]:
    """
    Parse the header of a datagram (RFC 1928, section 7), as L{Datagram} shows
    it, without copying the payload.

    @return: FRAG, DST.ADDR, DST.PORT, and where the payload begins.
    @raise MalformedMessage: The header is cut short, or of an unknown ATYP.
    """
    address = _parseAddress(data, 3)
    if address is None:
        raise MalformedMessage("a datagram shorter than its header")
    host, port, end = address
    return data[2], host, port, end


def datagramHeaderLength(data: Buffer) -> int:
    """
    Where the payload of a datagram begins, without taking the header apart.

    @raise MalformedMessage: The header is cut short, or of an unknown ATYP.
    """
    size = len(data)
    if size > 4:
        kind = data[3]
        if kind == _IPV4:
            end = 10
        elif kind == _NAME:
            end = 7 + data[4]
        elif kind == _IPV6:
            end = 22
        else:
            raise UnknownAddressType(f"no address type {kind:02x}")
        if size >= end:
            return end
    raise MalformedMessage("a datagram shorter than its header")


def encodeDatagramHeader(host: Host, port: int, fragment: int = 0) -> bytes:
    """
    The header of a datagram.

    @raise ValueError: A number does not fit in its place, the name is longer
        than 255 bytes, or the address has a scope.
    """
    return bytes((0, 0, fragment)) + _encodeAddress(host, port)


@dataclass(frozen=True, slots=True)
class Datagram:
    """
    What goes between a client and the relay of its UDP association (RFC 1928,
    section 7)::

        +----+------+------+----------+----------+----------+
        |RSV | FRAG | ATYP | DST.ADDR | DST.PORT |   DATA   |
        +----+------+------+----------+----------+----------+
        | 2  |  1   |  1   | Variable |    2     | Variable |
        +----+------+------+----------+----------+----------+

    RSV is ignored.
    """

    fragment: int
    host: Host
    port: int
    payload: bytes

    @classmethod
    def parse(cls, data: Buffer) -> Datagram:
        """
        Parse one whole datagram.

        @raise MalformedMessage: The header is cut short, or of an unknown
            ATYP.
        """
        fragment, host, port, end = parseDatagramHeader(data)
        return cls(fragment, host, port, bytes(data[end:]))

    def encode(self) -> bytes:
        """
        The datagram's bytes.

        @raise ValueError: A number does not fit in its place, the name is longer
            than 255 bytes, or the address has a scope.
        """
        return encodeDatagramHeader(self.host, self.port, self.fragment) + self.payload
