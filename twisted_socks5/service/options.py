# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The command line of C{twistd socks5}.
"""

from __future__ import annotations

import os
from os.path import join
from typing import Any, NoReturn

from twisted.cred.credentials import IUsernamePassword
from twisted.cred.strcred import AuthOptionMixin
from twisted.python.usage import Options, UsageError

from twisted_socks5.policy.rulesfile import loadRules
from twisted_socks5.service.configuration import (
    Access,
    Configuration,
    ListenerSettings,
    Said,
)
from twisted_socks5.service.endpoints import describe
from twisted_socks5.service.plugins import (
    AUTHENTICATOR,
    COMMAND,
    POLICY,
    ROUTE,
    showPlugins,
)
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

    configuration: Configuration

    def __init__(self) -> None:
        Options.__init__(self)
        self["auth"] = []
        self["port"] = []
        self["authenticator"] = []
        self["command"] = []
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
        self._folder = os.getcwd()
        try:
            self.configuration = self.configure()
        except ValueError as error:
            raise UsageError(str(error)) from None

    def configure(self) -> Configuration:
        """
        All that was said, with what the files say now.

        @raise ValueError: Something is wrong with it; the text says what.
        """
        try:
            settings = parseSettings(self["set"])
        except ValueError as error:
            raise ValueError(f"--set {error}") from None
        rules = self["rules"]
        access = Access(
            auth=self._all("auth"),
            authenticator=self._all("authenticator"),
            policy=self._said("policy", self["policy"]),
            rules=None if rules is None else loadRules(join(self._folder, rules)),
            isOpen=bool(self["open"]),
        )
        ports = self._all("port") or (self._said("port", "1080"),)
        return Configuration(
            access,
            tuple(
                ListenerSettings(describe(port, self["interface"]), access)
                for port in ports
            ),
            route=self._said("route", self["route"]) if self["route"] else None,
            command=self._all("command"),
            relay=self["relay"],
            accessLog=self["access-log"],
            settings=settings,
        )

    def _said(self, option: str, text: str) -> Said:
        return Said(text, f"--{option}", self._folder)

    def _all(self, option: str) -> tuple[Said, ...]:
        return tuple(self._said(option, text) for text in self[option])
