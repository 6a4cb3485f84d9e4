# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The command line of C{twistd socks5}.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from io import StringIO
from typing import Any, NoReturn

from twisted.cred.credentials import IUsernamePassword
from twisted.cred.strcred import AuthOptionMixin
from twisted.plugin import getPlugins
from twisted.plugins.cred_file import theFileCheckerFactory
from twisted.python.usage import Options, UsageError

from twisted_socks5.interfaces import IPluginFactory, IPolicyFactory
from twisted_socks5.service.settings import describeKeys, parseSettings


def fail(problem: object) -> NoReturn:
    """
    End the program with one line on standard error.  (A C{UsageError} would
    have the runner print all of the help.)
    """
    raise SystemExit(f"socks5: {' '.join(str(problem).split())}")


class SOCKS5Options(Options, AuthOptionMixin):
    """
    The options.  What is wrong with them is told in one line.
    """

    synopsis = "[options]"
    longdesc = (
        "Runs a SOCKS5 proxy (RFC 1928). Without options it listens on "
        "127.0.0.1 port 1080 and serves this host. Keys for --set, with their "
        "defaults (seconds; limits of 0 are none): " + describeKeys() + "."
    )
    supportedInterfaces = (IUsernamePassword,)
    authOutput: Any

    optParameters = [
        [
            "interface",
            "i",
            "127.0.0.1",
            "Address to listen on for ports given as numbers.",
        ],
        [
            "policy",
            None,
            "guard",
            "Who may go where: NAME[:ARGUMENTS], see --help-policy.",
        ],
        [
            "access-log",
            None,
            "text",
            "One line for each session: text, json or off.",
        ],
        [
            "relay",
            None,
            "auto",
            "What carries bytes: auto (the fastest for each tunnel) or portable.",
        ],
    ]
    optFlags = [
        [
            "open",
            None,
            "Let anybody in, also from other machines.",
        ],
    ]

    def __init__(self) -> None:
        Options.__init__(self)
        self["port"] = []
        self["set"] = []

    def opt_port(self, value: str) -> None:
        """
        Port number, or endpoint to listen on (tcp6:, unix:, ssl:, systemd:,
        haproxy: ...); may be given several times. [default: 1080]
        """
        self["port"].append(value)

    opt_p = opt_port

    def opt_auth(self, description: str) -> None:
        """
        Ask for a username and password, which must be those of a checker:
        file:PATH and others, see --help-auth; may be given several times.
        """
        # It would tell of a missing file in a line of its own beside ours.
        theFileCheckerFactory.errorOutput = StringIO()
        AuthOptionMixin.opt_auth(self, description)

    def opt_set(self, value: str) -> None:
        """
        KEY=VALUE, a deadline or a limit, see below; may be given several
        times.
        """
        self["set"].append(value)

    def opt_help_policy(self) -> None:
        """
        Show the policies there are.
        """
        print("Usage: --policy NAME[:ARGUMENT:KEY=VALUE...]\n")
        for factory in sorted(getPlugins(IPolicyFactory), key=lambda one: one.name):
            print(f"{factory.name}[:{factory.argumentHelp}]\n    {factory.help}\n")
        raise SystemExit(0)

    def opt_version(self) -> None:
        """
        Show the version.
        """
        from twisted_socks5 import __version__

        print(f"twisted_socks5 {__version__}")
        raise SystemExit(0)

    def parseOptions(self, options: Any = None) -> None:
        """
        Parse the command line.

        @raise SystemExit: It is wrong; the text says what to do.
        """
        try:
            Options.parseOptions(self, options)
        except UsageError as error:
            fail(error)

    def postOptions(self) -> None:
        """
        Check what was given, as far as it can be without listening.
        """
        if self["access-log"] not in ("text", "json", "off"):
            raise UsageError(
                f"--access-log {self['access-log']}: expected text, json or off"
            )
        if self["relay"] not in ("auto", "portable"):
            raise UsageError(f"--relay {self['relay']}: expected auto or portable")
        try:
            self["settings"] = parseSettings(self["set"])
        except ValueError as error:
            raise UsageError(f"--set {error}") from None
        self["port"] = self["port"] or ["1080"]


def parsePlugin(text: str) -> tuple[str, list[str], dict[str, str]]:
    """
    Take C{NAME:ARGUMENT:KEY=VALUE} apart, as Twisted's endpoint strings are: a
    backslash before a colon, an equals sign or a backslash makes it a part of
    the text.

    @return: The name, the positional and the keyword arguments.
    """
    name, *rest = _split(text, ":")
    positional, keyword = [], {}
    for argument in rest:
        key, *value = _split(argument, "=", 1)
        if value:
            keyword[_unescape(key)] = _unescape(value[0])
        else:
            positional.append(_unescape(key))
    return _unescape(name), positional, keyword


def _split(text: str, separator: str, most: int = -1) -> list[str]:
    """
    Split where the separator has no backslash before it.
    """
    pieces = [""]
    for token in re.findall(r"\\.|[^\\]|\\$", text, re.DOTALL):
        if token == separator and most != 0:
            pieces.append("")
            most -= 1
        else:
            pieces[-1] += token
    return pieces


def _unescape(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL)


def makePlugin(
    option: str, interface: type[IPluginFactory], reactor: Any, text: str
) -> Any:
    """
    Make what a plugin option asks for.

    @param option: The option, for errors.
    @raise ValueError: There is no such plugin, or its arguments are wrong.
    """
    name, positional, keyword = parsePlugin(text)
    factories: Iterable[Any] = getPlugins(interface)
    found = {factory.name: factory for factory in factories}
    if name not in found:
        raise ValueError(
            f"{option} {name}: no such plugin; there is {', '.join(sorted(found))}"
        )
    try:
        return found[name].generate(reactor, *positional, **keyword)
    except TypeError as error:
        expected = found[name].argumentHelp or "no arguments"
        raise ValueError(f"{option} {name}: {error}; expected {expected}") from None
    except ValueError as error:
        raise ValueError(f"{option} {name}: {error}") from None
