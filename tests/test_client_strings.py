# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Client endpoints as strings.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.endpoints import clientFromString, quoteStringArgument
from twisted.internet.testing import MemoryReactorClock, StringTransport

from tests.clientmemory import CHOSEN, REPLY, REQUEST, SeenFactory, errorOf, resultOf
from twisted_socks5.errors import TimedOut


class Connected:
    """
    What a string's endpoint says to the proxy that it has connected to.
    """

    def __init__(self, text: str) -> None:
        self.reactor: Any = MemoryReactorClock()
        self.outcome: Any = clientFromString(self.reactor, text).connect(SeenFactory())
        host, port, factory, *_ = self.reactor.tcpClients[0]
        self.proxy = (host, port)
        protocol: Any = factory.buildProtocol(None)
        self.transport = StringTransport()
        self.protocol: Any = protocol
        protocol.makeConnection(self.transport)

    def say(self, data: bytes) -> bytes:
        """
        The proxy says something; returns what it hears then.
        """
        self.transport.clear()
        self.protocol.dataReceived(data)
        heard: bytes = self.transport.value()
        return heard


PROXY = "proxy=tcp\\:127.0.0.1\\:1080"


@pytest.mark.parametrize(
    "text",
    [
        f"socks5:host=example.org:port=443:{PROXY}",
        f"socks5:example.org:443:{PROXY}",
        "socks5:example.org:443:tcp\\:127.0.0.1\\:1080",
    ],
)
def test_plain(text: str) -> None:
    connected = Connected(text)
    assert connected.proxy == ("127.0.0.1", 1080)
    assert connected.transport.value() == b"\x05\x01\x00"
    assert connected.say(CHOSEN) == REQUEST
    assert connected.say(REPLY) == b""
    assert resultOf(connected.outcome).events == ["made"]


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_password(tmp_path: Path, end: str) -> None:
    file = tmp_path / "password"
    file.write_bytes(b"wonder:land" + end.encode())
    connected = Connected(
        f"socks5:example.org:443:{PROXY}:user=alice"
        f":passwordFile={quoteStringArgument(str(file))}"
    )
    assert connected.transport.value() == b"\x05\x01\x02"
    assert connected.say(b"\x05\x02") == b"\x01\x05alice\x0bwonder:land"
    assert "wonder" not in repr(connected.outcome)


def test_options() -> None:
    connected = Connected(f"socks5:example.org:443:{PROXY}:oneFlight=yes:timeout=2.5")
    assert connected.transport.value() == b"\x05\x01\x00" + REQUEST
    connected.reactor.advance(2.5)
    assert type(errorOf(connected.outcome)) is TimedOut


def test_chain() -> None:
    second = quoteStringArgument(f"socks5:proxy.example:1081:{PROXY}")
    connected = Connected(f"socks5:example.org:443:proxy={second}")
    assert connected.proxy == ("127.0.0.1", 1080)
    assert b"proxy.example" in connected.say(CHOSEN)
    assert connected.say(REPLY) == b"\x05\x01\x00"
    assert connected.say(CHOSEN) == REQUEST


def test_TLSThroughTheProxy() -> None:
    through = quoteStringArgument(f"socks5:example.org:443:{PROXY}")
    connected = Connected(f"tls:example.org:443:endpoint={through}")
    assert connected.say(CHOSEN) == REQUEST
    hello = connected.say(REPLY)
    assert hello[:2] == b"\x16\x03"
    assert b"example.org" in hello


def test_TLSToTheProxy() -> None:
    connected = Connected("socks5:a:443:proxy=tls\\:127.0.0.1\\:1080")
    hello = connected.transport.value()
    assert hello[:2] == b"\x16\x03"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("socks5:a:443", "proxy"),
        (f"socks5:a:port:{PROXY}", "port"),
        (f"socks5:a:443:{PROXY}:typo=1", "typo"),
        (f"socks5:a:443:{PROXY}:user=alice", "passwordFile"),
        (f"socks5:a:443:{PROXY}:oneFlight=maybe", "yes or no"),
        (f"socks5:a:443:{PROXY}:timeout=soon", "soon"),
        (f"socks5:a:443:{PROXY}:user=a:passwordFile=/nowhere", "/nowhere"),
        (f"socks5:a:443:{PROXY}:service=socks", "go with gssapi"),
        (f"socks5:a:443:{PROXY}:gssapi=a:minimum=3", "minimum=3: expected 0, 1 or 2"),
        ("socks5:a:443:proxy=nonsense\\:1", "nonsense"),
    ],
)
def test_mistakes(text: str, words: str) -> None:
    with pytest.raises((TypeError, ValueError, OSError), match=words):
        clientFromString(MemoryReactorClock(), text)


def test_aPasswordFileWithTwoLines(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("secret\nother\n")
    with pytest.raises(ValueError, match="more than one line") as caught:
        Connected(f"socks5:a:443:{PROXY}:user=a:passwordFile={file}")
    assert "secret" not in str(caught.value)


def test_GSSAPIIsNotInstalled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "twisted_socks5.client.gssapi", raising=False)
    monkeypatch.setitem(sys.modules, "gssapi", None)
    with pytest.raises(ValueError, match=r"pip install twisted-socks5\[gssapi\]"):
        Connected(f"socks5:a:443:{PROXY}:gssapi=proxy.example")
