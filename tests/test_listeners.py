# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The proxy's own listeners, which nobody gets to through the proxy.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from ipaddress import IPv6Address, ip_address

import pytest

from twisted_socks5.addresses import UNIX_CLIENT, Address, fromSocketName
from twisted_socks5.server.listeners import OwnListeners

Listen = Callable[[str], socket.socket]

OTHERS = "192.0.2.1 8.8.8.8 2001:db8::1 64:ff9b::192.0.2.1 224.0.0.1 ff02::1".split()


def at(text: str, port: int = 1080) -> Address:
    return Address(ip_address(text), port)


def own(*texts: str) -> OwnListeners:
    listeners = OwnListeners()
    for text in texts:
        listeners.add(at(text))
    return listeners


def family(text: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in text else socket.AF_INET


@pytest.fixture
def listen() -> Iterator[Listen]:
    """
    Listens on an address, on any port; an IPv6 one takes IPv4 too.
    """
    opened: list[socket.socket] = []

    def listen(text: str) -> socket.socket:
        try:
            listener = socket.socket(family(text))
            opened.append(listener)
            if listener.family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            listener.bind((text, 0))
        except OSError as error:
            if os.environ.get("CI") == "true":
                raise
            pytest.skip(f"{text} cannot be listened on: {error}")
        listener.listen()
        return listener

    yield listen
    for each in opened:
        each.close()


def comesTo(listener: socket.socket, text: str) -> bool:
    """
    Whether a connection to an address comes to a listener of its port.
    """
    try:
        with socket.socket(family(text)) as client:
            client.settimeout(10)
            client.connect((text, listener.getsockname()[1]))
            accepted, _ = listener.accept()
            accepted.close()
            return True
    except OSError:
        return False


@pytest.mark.parametrize(
    ("host", "texts"),
    [
        ("127.0.0.1", "127.0.0.1 ::ffff:127.0.0.1 0.0.0.0 ::ffff:0.0.0.0"),
        ("127.0.0.3", "127.0.0.3 ::ffff:127.0.0.3"),
        ("0.0.0.0", "127.0.0.1 127.7.7.7 ::ffff:127.0.0.1 0.0.0.0 ::ffff:0.0.0.0"),
        ("::1", "::1 ::"),
        ("::", "::1 :: 127.0.0.1 127.7.7.7 ::ffff:127.7.7.7 0.0.0.0"),
        ("::ffff:127.0.0.1", "127.0.0.1 ::ffff:127.0.0.1 0.0.0.0"),
    ],
)
def test_whatComesToAListenerIsIncluded(listen: Listen, host: str, texts: str) -> None:
    """
    Every address by which a connection really comes to a listener is told to.
    """
    listener = listen(host)
    address = fromSocketName(listener.getsockname())
    listeners = OwnListeners()
    listeners.add(address)
    for text in texts.split():
        assert comesTo(listener, text), text
        assert listeners.includes(at(text, address.port)), text


@pytest.mark.parametrize(
    ("host", "texts"),
    [
        ("127.0.0.1", "127.0.0.2 ::ffff:127.0.0.2 ::1"),
        ("::1", "127.0.0.1 ::ffff:127.0.0.1"),
    ],
)
def test_whatDoesNotComeToASpecificListener(
    listen: Listen, host: str, texts: str
) -> None:
    """
    Somebody else may listen at the same port of another address of this host.
    """
    listener = listen(host)
    address = fromSocketName(listener.getsockname())
    listeners = OwnListeners()
    listeners.add(address)
    for text in texts.split():
        assert not comesTo(listener, text), text
        assert not listeners.includes(at(text, address.port)), text


@pytest.mark.parametrize(
    "text",
    "127.0.0.1 ::127.0.0.1 ::ffff:127.0.0.1 ::ffff:0:127.0.0.1 64:ff9b::127.0.0.1 "
    "64:ff9b:1::127.0.0.1 2002:7f00:1::1 2001:0:808:808::80ff:fffe "
    "2606:4700:4700::5efe:127.0.0.1 0.0.0.0 :: 0.1.2.3 64:ff9b::".split(),
)
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::"])  # noqa: S104
def test_everyForm(host: str, text: str) -> None:
    """
    An address comes to the proxy also by the IPv4 address inside it, and an
    unspecified one whatever the proxy listens on.
    """
    assert own(host).includes(at(text))


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::", "::1"])  # noqa: S104
@pytest.mark.parametrize("text", OTHERS)
def test_otherHosts(host: str, text: str) -> None:
    """
    The port of a listener may be used on other hosts.
    """
    assert not own(host).includes(at(text))


def test_otherPorts() -> None:
    """
    So may the other ports of this one.
    """
    listeners = own("0.0.0.0", "::")
    for text in ("127.0.0.1", "0.0.0.0", "::", "::1"):
        assert not listeners.includes(at(text, 1081))
    assert not OwnListeners().includes(at("127.0.0.1"))


def test_addressThatIsNotOfThisHost() -> None:
    """
    What is announced counts, whether or not a socket can be bound to it here:
    another host may pass its connections on to us.
    """
    listeners = own("203.0.113.5", "2002:cb00:7106::1")
    for text in ("203.0.113.5", "::ffff:203.0.113.5", "2002:cb00:7106::1"):
        assert listeners.includes(at(text)), text
    assert not listeners.includes(at("203.0.113.7"))


def test_UNIXSockets() -> None:
    """
    A UNIX socket cannot be got to, and is no wildcard.
    """
    listeners = OwnListeners()
    listeners.add(UNIX_CLIENT)
    listeners.learn(UNIX_CLIENT)
    listeners.remove(UNIX_CLIENT)
    assert not listeners.includes(at("127.0.0.1", UNIX_CLIENT.port))


def test_names() -> None:
    """
    A name is no address yet.
    """
    assert not own("0.0.0.0").includes(Address("localhost", 1080))


def test_remove() -> None:
    """
    A listener that is gone is forgotten, the others of its port are not.
    """
    listeners = own("127.0.0.1", "127.0.0.2")
    listeners.remove(at("::ffff:127.0.0.1"))
    assert not listeners.includes(at("127.0.0.1"))
    assert listeners.includes(at("127.0.0.2"))
    listeners.remove(at("127.0.0.2"))
    assert not listeners.includes(at("127.0.0.2"))
    assert not listeners.includes(at("0.0.0.0"))


def test_removeOneOfTwo() -> None:
    """
    A wildcard of each IP version is one each.
    """
    listeners = own("0.0.0.0", "::")
    listeners.remove(at("::"))
    assert listeners.includes(at("127.0.0.1"))
    listeners.remove(at("0.0.0.0"))
    assert not listeners.includes(at("127.0.0.1"))


def test_removeWhatWasNotAdded() -> None:
    """
    Only what was added can be removed.
    """
    for listeners in (OwnListeners(), own("127.0.0.1")):
        with pytest.raises(ValueError, match="not in list"):
            listeners.remove(at("127.0.0.2"))


def test_learn() -> None:
    """
    A port that a client has connected to, and that nobody has announced, is
    taken to be listened on everywhere on this host.
    """
    listeners = OwnListeners()
    listeners.learn(at("127.0.0.1"))
    for text in ("127.0.0.1", "127.0.0.2", "0.0.0.0", "::", "::ffff:127.9.9.9"):
        assert listeners.includes(at(text)), text
    for text in OTHERS:
        assert not listeners.includes(at(text)), text
    assert not listeners.includes(at("127.0.0.1", 1081))


@pytest.mark.parametrize("learnedFirst", [True, False])
def test_announcedWins(learnedFirst: bool) -> None:
    """
    Where a port's listener is announced, sooner or later, it is as announced.
    """
    listeners = OwnListeners()
    if learnedFirst:
        listeners.learn(at("127.0.0.1"))
    listeners.add(at("127.0.0.1"))
    listeners.learn(at("127.0.0.1"))
    listeners.learn(at("::ffff:127.0.0.1"))
    assert listeners.includes(at("127.0.0.1"))
    assert not listeners.includes(at("127.0.0.2"))


def test_learnBesideAnnounced() -> None:
    """
    A client that has come by another address than those announced shows that
    the proxy listens there as well.
    """
    listeners = own("127.0.0.1")
    listeners.learn(Address(IPv6Address("::ffff:127.0.0.4"), 1080))
    assert listeners.includes(at("127.0.0.4"))
    assert listeners.includes(at("127.0.0.1"))
    assert not listeners.includes(at("127.0.0.2"))
