# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The command line of C{twistd socks5}.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from os.path import join
from typing import Any, NoReturn

from twisted.cred.credentials import IUsernamePassword
from twisted.cred.strcred import AuthOptionMixin
from twisted.logger import (
    ILogObserver,
    LogEvent,
    LogLevel,
    formatEvent,
    globalLogPublisher,
)
from twisted.python.usage import Options, UsageError
from zope.interface import provider

from twisted_socks5.observe.escape import onOneLine
from twisted_socks5.policy.rulesfile import loadRules
from twisted_socks5.service.configfile import ConfigurationFile
from twisted_socks5.service.configuration import Configuration, Said
from twisted_socks5.service.plugins import (
    AUTHENTICATOR,
    COMMAND,
    POLICY,
    ROUTE,
    showPlugins,
)
from twisted_socks5.service.sample import sample
from twisted_socks5.service.sayings import OptionKinds, Sayings, configurationOf
from twisted_socks5.service.settings import describeKeys, parseSettings, placesOf

LISTS = ("port", "auth", "authenticator", "command")
"""
The options that may be given several times.
"""


def fail(problem: object) -> NoReturn:
    """
    End the program with one line on standard error.  (A C{UsageError} would
    have the runner print all of the help.)
    """
    raise SystemExit(f"socks5: {onOneLine(' '.join(str(problem).split()))}")


@contextmanager
def showingWarnings() -> Iterator[None]:
    """
    Print what the log is warned of meanwhile.
    """
    told: set[str] = set()

    @provider(ILogObserver)
    def show(event: LogEvent) -> None:
        line = onOneLine(formatEvent(event))
        if event.get("log_level") is LogLevel.warn and line not in told:
            told.add(line)
            print(f"warning: {line}")

    globalLogPublisher.addObserver(show)
    try:
        yield
    finally:
        globalLogPublisher.removeObserver(show)


class SOCKS5Options(Options, AuthOptionMixin):
    """
    The options.  What is wrong with them is told in one line.

    @ivar arguments: What they were parsed from.
    """

    synopsis = "[options]"
    longdesc = (
        "Runs a SOCKS5 proxy (RFC 1928). Without options it listens on "
        "127.0.0.1 port 1080 and serves this host. Keys for --set, with their "
        "defaults (seconds; limits of 0 are none): " + describeKeys() + "."
    )
    supportedInterfaces = (IUsernamePassword,)
    authOutput: Any
    arguments: list[str]

    optParameters: list[list[Any]] = [
        [
            "config",
            "c",
            None,
            "File (TOML) with all of this; the command line wins over it.",
        ],
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
            "route",
            None,
            None,
            "Way out, else straight from this host: NAME[:ARGUMENTS], see "
            "--help-route.",
        ],
        [
            "rules",
            None,
            None,
            "File of rules (TOML), with the guard in front: who may go where.",
        ],
        [
            "access-log",
            None,
            "text",
            "One line for each session: text, json or off.",
        ],
        [
            "metrics",
            None,
            None,
            "Port on 127.0.0.1, or endpoint, to serve metrics and health at (HTTP).",
        ],
        [
            "relay",
            None,
            "auto",
            "What carries bytes: auto (the fastest for each tunnel) or portable.",
        ],
        [
            "workers",
            None,
            "1",
            "Processes that serve clients: how many, or auto, one for each CPU.",
        ],
    ]
    optFlags: list[list[Any]] = [
        [
            "open",
            None,
            "Let anybody in, also from other machines.",
        ],
        [
            "check",
            None,
            "Only see whether the configuration is right; nothing listens.",
        ],
    ]

    configuration: Configuration

    def __init__(self) -> None:
        self._given: set[str] = set()
        Options.__init__(self)
        self["auth"] = []
        self["port"] = []
        self["authenticator"] = []
        self["command"] = []
        self["set"] = []

    def __setitem__(self, name: str, value: Any) -> None:
        """
        An option is given, which may be with its default.
        """
        self._given.add(name)
        Options.__setitem__(self, name, value)

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
        self["auth"].append(description)

    def opt_authenticator(self, value: str) -> None:
        """
        Another method to let clients in by: NAME[:ARGUMENTS], see
        --help-authenticator; may be given several times, and beside --auth.
        The strongest that a client offers is used.
        """
        self["authenticator"].append(value)

    def opt_command(self, value: str) -> None:
        """
        A command of a plugin that clients may ask for besides ours:
        NAME[:ARGUMENTS], see --help-command; may be given several times.
        """
        self["command"].append(value)

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
        showPlugins(POLICY)
        raise SystemExit(0)

    def opt_help_authenticator(self) -> None:
        """
        Show the authentication methods there are, besides --auth's.
        """
        showPlugins(AUTHENTICATOR)
        raise SystemExit(0)

    def opt_help_command(self) -> None:
        """
        Show the commands of plugins.
        """
        showPlugins(COMMAND)
        raise SystemExit(0)

    def opt_help_route(self) -> None:
        """
        Show the ways out there are.
        """
        showPlugins(ROUTE)
        raise SystemExit(0)

    def opt_sample_config(self) -> None:
        """
        Show a configuration file to begin with.
        """
        print(sample(type(self)), end="")
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
        self.arguments = sys.argv[1:] if options is None else list(options)
        try:
            Options.parseOptions(self, options)
        except UsageError as error:
            fail(error)

    def postOptions(self) -> None:
        """
        Look at what was given, and at the files that it names.
        """
        self._folder = os.getcwd()
        try:
            with showingWarnings() if self["check"] else nullcontext():
                self.configuration = self.configure()
                if self["check"]:
                    self._check()
        except ValueError as error:
            raise UsageError(str(error)) from None

    def _check(self) -> None:
        """
        Tell whether what was asked for can be started.

        @raise ValueError: It cannot be done.
        @raise SystemExit: It can.
        """
        from twisted.internet import reactor

        from twisted_socks5.service.looking import lookAt

        prepared = lookAt(reactor, self.configuration, self.parent)
        for module, problem in prepared.plugins.broken.items():
            print(f"{module} cannot be imported, and nothing of it is there: {problem}")
        print("the configuration is right")
        raise SystemExit(0)

    def configure(self) -> Configuration:
        """
        All that was said, with what the files say now.

        @raise ValueError: Something is wrong with it; the text says what.
        """
        file = ConfigurationFile()
        if self["config"] is not None:
            path = join(self._folder, self["config"])
            file = ConfigurationFile.load(path, self.kinds())
        said = self._sayings()
        try:
            settings = parseSettings(self["set"], file.settings)
        except ValueError as error:
            raise ValueError(f"--set {error}") from None
        return configurationOf(
            said.over(file.server).over(self._defaults()),
            () if "port" in said.lists else file.listeners,
            settings,
            file.places | placesOf(self["set"], self._folder),
        )

    @classmethod
    def kinds(cls) -> OptionKinds:
        """
        The options that a file has keys for too.
        """
        return OptionKinds(
            tuple(str(row[0]) for row in cls.optParameters if row[0] != "config"),
            LISTS,
            tuple(str(row[0]) for row in cls.optFlags if row[0] != "check"),
        )

    def _sayings(self) -> Sayings:
        """
        What the command line says.
        """
        kinds, rules = self.kinds(), self["rules"]
        return Sayings(
            {
                one: self._said(one, self[one])
                for one in kinds.texts
                if one in self._given
            },
            {
                one: tuple(self._said(one, text) for text in self[one])
                for one in kinds.lists
                if self[one]
            },
            {one: True for one in kinds.flags if self[one]},
            None if rules is None else loadRules(join(self._folder, rules)),
        )

    def _defaults(self) -> Sayings:
        return Sayings(
            {
                one: self._said(one, self.defaults[one])
                for one in self.kinds().texts
                if self.defaults[one] is not None
            }
        )

    def _said(self, option: str, text: str) -> Said:
        return Said(text, f"--{option}", self._folder)
