# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Plugins of other packages, named on the command line.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conversation import GREET, connectTo, failure, readAll, readExactly
from tests.test_start import refused
from twisted_socks5.service.plugins import parsePlugin

if TYPE_CHECKING:
    from tests.conftest import Server

PLUGINS = """
    from twisted.application.service import Service
    from twisted.logger import Logger
    from twisted.plugin import IPlugin
    from zope.interface import implementer

    from twisted_socks5.authenticators import Authenticated, Identity
    from twisted_socks5.interfaces import (
        IAuthenticator,
        IAuthenticatorFactory,
        ICommand,
        ICommandFactory,
        IPolicyFactory,
    )

    log = Logger()


    @implementer(IAuthenticator)
    class Knock(Service):
        failureReply = b""

        def __init__(self, method, strength):
            self.method = int(method, 16)
            self.strength = strength if strength == "text" else int(strength)

        def isAvailable(self, exchange):
            return True

        async def authenticate(self, exchange):
            await exchange.readExactly(5)
            exchange.write(b"come in")
            return Authenticated(Identity("somebody"))

        def startService(self):
            log.info("knock has started")

        def stopService(self):
            log.info("knock has stopped")


    @implementer(IPlugin, IAuthenticatorFactory)
    class KnockFactory:
        name, help, argumentHelp = "knock", "Asks to knock.", "METHOD[:strength=N]"

        def generate(self, reactor, method, *, strength="5"):
            return Knock(method, strength)


    @implementer(ICommand)
    class Hello:
        def __init__(self, code):
            self.code = code

        async def run(self, session, request):
            session.sendReply(0x42)


    @implementer(IPlugin, ICommandFactory)
    class HelloFactory:
        name, help, argumentHelp = "hello", "Says hello.", "[code=N]"

        def generate(self, reactor, *, code="129"):
            return Hello(int(code) if code.isdecimal() else code)


    @implementer(IPlugin, IPolicyFactory)
    class Twin:
        name, help, argumentHelp = "twin", "There are two.", ""

        def __init__(self, failure=None):
            if failure is not None:
                self.name = type(failure).__name__
            self.failure = failure

        def generate(self, reactor):
            if self.failure is not None:
                raise self.failure
            return object()


    @implementer(IPlugin, IPolicyFactory)
    class NothingFactory(Twin):
        name = "nothing"


    knock, hello, one, other = KnockFactory(), HelloFactory(), Twin(), Twin()
    nothing = NothingFactory()
    broken = Twin(ZeroDivisionError("by nothing"))
    halfInstalled = Twin(ImportError("No module named 'elsewhere'"))
"""


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """
    A folder for modules of plugins, on the path of what is started.
    """
    folder = tmp_path / "path" / "twisted" / "plugins"
    folder.mkdir(parents=True)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "path"))
    return folder


@pytest.fixture
def plugins(packages: Path) -> Path:
    (packages / "of_a_test.py").write_text(textwrap.dedent(PLUGINS))
    return packages


def chosen(server: Server, *methods: int) -> bytes:
    with server.connect() as client:
        client.sendall(bytes((5, len(methods), *methods)))
        return readExactly(client, 2)


def test_strongest(start: Callable[..., Server], plugins: Path) -> None:
    """
    Of the methods that a client offers, the strongest is used, in whatever
    order they are named or offered.
    """
    server = start(
        *("--authenticator", "none", "--authenticator", "knock:80"),
        *("--auth", "memory:user:password", "--authenticator", "knock:81:strength=15"),
    )
    assert chosen(server, 0x00, 0x02, 0x80, 0x81) == b"\x05\x81"
    assert chosen(server, 0x00, 0x02, 0x80) == b"\x05\x02"
    assert chosen(server, 0x00, 0x80) == b"\x05\x80"
    assert chosen(server, 0x00) == b"\x05\x00"
    assert chosen(server, 0x82) == b"\x05\xff"


@pytest.mark.parametrize(
    "other", ["--auth=memory:user:password", "--authenticator=knock:80"]
)
def test_noneIsNotThereUnnamed(
    start: Callable[..., Server], plugins: Path, other: str
) -> None:
    assert chosen(start(other), 0x00) == b"\x05\xff"


def test_serviceOfAPlugin(
    start: Callable[..., Server], plugins: Path, listener: socket.socket
) -> None:
    """
    It lives as long as the server.
    """
    server = start("--authenticator", "knock:80")
    assert server.output().count("knock has started") == 1
    with server.connect() as client:
        client.sendall(b"\x05\x01\x80knock" + connectTo(listener.getsockname()[1]))
        assert readExactly(client, 12) == b"\x05\x80come in\x05\x00\x00"
    listener.accept()[0].close()
    server.waitForLog("user=somebody")
    assert "knock has stopped" not in server.output()
    server.process.send_signal(signal.SIGTERM)
    server.process.wait(10)
    assert server.output().count("knock has stopped") == 1


def test_command(start: Callable[..., Server], plugins: Path) -> None:
    """
    A command of a plugin is there once it is named.
    """
    request = GREET + b"\x05\x81" + connectTo(1)[2:]
    with start().connect() as client:
        client.sendall(request)
        assert readAll(client) == b"\x05\x00" + failure(7)
    server = start("--command", "hello")
    with server.connect() as client:
        client.sendall(request)
        assert readAll(client) == b"\x05\x00" + failure(0x42)
    with server.connect() as client:  # ours are there still
        client.sendall(GREET + connectTo(0))
        assert readAll(client) == b"\x05\x00" + failure(1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--authenticator", "knok:80"), "knok: no such plugin; there is"),
        (("--authenticator", "knock"), "'method'"),
        (("--authenticator", "knock:80:90"), "not 80, 90"),
        (("--authenticator", "knock:80:strenght=1"), "'strenght'"),
        (("--authenticator", "knock:80:strength=1:strength=2"), "strength="),
        (("--authenticator", "knock:80:method=81"), "'method'"),
        (("--authenticator", "knock:80:strength=much"), "much"),
        (("--command", "hallo"), "hallo: no such plugin; there is hello"),
        (("--command", "hello:you"), "expected [code=N], not you"),
        (("--policy", "twin"), "several plugins have this name: twisted.plugins.of_"),
        (("--policy", "nothing"), "nothing: it made what is none"),
        (("--policy", "ZeroDivisionError"), "ZeroDivisionError: by nothing"),
        (("--policy", "ImportError"), "No module named 'elsewhere'"),
        (("--auth", "fiel:users"), "fiel: no such plugin; there is"),
        (("--auth", "sshkey"), "--auth sshkey: it checks no passwords"),
        (("--auth", "memory:user"), "--auth memory: "),
    ],
)
def test_refused(plugins: Path, arguments: tuple[str, str], words: str) -> None:
    """
    One line tells what is wrong, and with which argument.
    """
    line = refused("--port", "0", *arguments)
    assert line.startswith(f"socks5: {arguments[0]} ")
    assert words in line


def test_noOctet(plugins: Path) -> None:
    line = refused("--port", "0", "--authenticator", "knock:ff")
    assert "Knock.method is 0xff" in line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--authenticator", "knock:80:strength=text"), "Knock.strength is 'text', no"),
        (("--command", "hello:code=300"), "Hello.code is 0x12c, no octet from 00 to"),
        (("--command", "hello:code=x"), "Hello.code is 'x', no octet from 00 to FF"),
    ],
)
def test_wrongField(plugins: Path, arguments: tuple[str, str], words: str) -> None:
    assert words in refused("--port", "0", *arguments)


@pytest.fixture
def nameless(plugins: Path) -> str:
    """
    One more factory, which has not all that it must have.
    """
    (plugins / "of_somebody.py").write_text(
        "from twisted.plugins.of_a_test import IPolicyFactory, IPlugin, implementer\n"
        "@implementer(IPlugin, IPolicyFactory)\n"
        "class Nameless:\n"
        "    help = ''\n"
        "nameless = Nameless()\n"
    )
    return "twisted.plugins.of_somebody.Nameless has no "


def test_namelessFactory(start: Callable[..., Server], nameless: str) -> None:
    """
    It is told of to who misses something, and is in nobody's way.
    """
    start("--policy", "guard")
    line = refused("--port", "0", "--policy", "missing")
    assert "--policy missing: no such plugin; there is " in line
    assert nameless in line
    told = subprocess.run(
        [sys.executable, "-m", "twisted", "socks5", "--help-policy"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"\n{nameless}" in told.stdout
    assert "\nguard:[local=elsewhere]\n" in told.stdout


def test_noneIsOpen(plugins: Path) -> None:
    """
    Also beside others.
    """
    for others in ([], ["--auth", "memory:user:password"]):
        line = refused("--port", "tcp:0", "--authenticator", "none", *others)
        assert "--open" in line
        assert "--authenticator none" in line


def test_closedNeedsNoOpen(start: Callable[..., Server], plugins: Path) -> None:
    server = start("--port", "tcp:0", "--authenticator", "knock:80")
    assert chosen(server, 0x00) == b"\x05\xff"


@pytest.mark.parametrize("kind", ["authenticator", "policy", "command"])
def test_help(plugins: Path, kind: str) -> None:
    told = subprocess.run(
        [sys.executable, "-m", "twisted", "socks5", f"--help-{kind}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stderr == ""
    assert told.stdout.startswith(f"Usage: --{kind} NAME")
    assert {
        "authenticator": "\nknock:METHOD[:strength=N]\n    Asks to knock.\n",
        "policy": "\nguard:[local=elsewhere]\n",
        "command": "\nhello:[code=N]\n    Says hello.\n",
    }[kind] in told.stdout


# -- modules that cannot be imported --------------------------------------------


@pytest.fixture
def broken(plugins: Path) -> str:
    """
    One more module, whose import fails.
    """
    (plugins / "of_nobody.py").write_text("import nothing_of_this_name\n")
    return "twisted.plugins.of_nobody cannot be imported"


@pytest.mark.parametrize(
    "arguments",
    [
        ("--authenticator", "missing"),
        ("--policy", "missing"),
        ("--command", "missing"),
        ("--auth", "missing"),
    ],
)
def test_askedOfABrokenModule(broken: str, arguments: tuple[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "twisted", "socks5", "--port", "0", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode != 0
    lines = done.stderr.splitlines()  # before ours, Twisted's own program tells of it
    (line,) = [line for line in lines if line.startswith("socks5: ")]
    assert line == lines[-1]
    assert f"{broken}: ModuleNotFoundError: No module named" in line


def test_brokenModuleThatNobodyAsksFor(
    start: Callable[..., Server], broken: str
) -> None:
    """
    It is named once, and the server runs.
    """
    server = start("--authenticator", "knock:80")
    server.waitForLog(broken, 1)
    assert server.output().count(broken) == 1
    assert chosen(server, 0x80) == b"\x05\x80"
    server.defects = 1
    server.ofTwisted = server.output().count("Unhandled")  # before ours is asked


def test_helpNamesABrokenModule(broken: str) -> None:
    told = subprocess.run(
        [sys.executable, "-m", "twisted", "socks5", "--help-policy"],
        env={**os.environ},
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"\n{broken}: ModuleNotFoundError" in told.stdout


# -- arguments ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("name", ("name", [], {})),
        ("name:", ("name", [""], {})),
        ("name:a:b=c:d", ("name", ["a", "d"], {"b": "c"})),
        ("name:a=b=c", ("name", [], {"a": "b=c"})),
        (r"name:a\:b:c\=d:e=\:\\", ("name", ["a:b", "c=d"], {"e": ":\\"})),
        ("name:\\", ("name", ["\\"], {})),
    ],
)
def test_arguments(text: str, parsed: tuple[str, list[str], dict[str, str]]) -> None:
    assert parsePlugin(text) == parsed
