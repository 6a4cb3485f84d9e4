# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Plugins that the command line names: finding them, and making what they make.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from inspect import signature
from io import StringIO
from types import ModuleType
from typing import Any

import attrs
from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernamePassword
from twisted.cred.strcred import ICheckerFactory, StrcredException
from twisted.logger import Logger
from twisted.plugin import IPlugin
from twisted.plugins.cred_file import theFileCheckerFactory
from twisted.python.modules import getModule
from zope.interface import Interface
from zope.interface.exceptions import Invalid
from zope.interface.interface import Method
from zope.interface.verify import verifyObject

from twisted_socks5.interfaces import (
    IAuthenticator,
    IAuthenticatorFactory,
    ICommand,
    ICommandFactory,
    IConnectPolicy,
    IPolicyFactory,
    IRoute,
    IRouteFactory,
)
from twisted_socks5.observe.escape import escape
from twisted_socks5.service.configuration import Said

_log = Logger(namespace="twisted_socks5")


@attrs.frozen
class PluginKind:
    """
    What an option asks plugins for.

    @ivar option: The option, as it is written.
    @ivar factory: What a plugin provides.
    @ivar product: What it makes.
    @ivar nameField: The field of a factory that has its name.
    """

    option: str
    factory: type[Interface]
    product: type[Interface]
    nameField: str = "name"

    def factories(self, plugins: Plugins) -> dict[str, list[Any]]:
        """
        Those that can be asked for, by their names.
        """
        named: dict[str, list[Any]] = {}
        for factory in plugins.providing(self.factory):
            if not self._isLacking(factory):
                name = str(getattr(factory, self.nameField))
                named.setdefault(name, []).append(factory)
        return named

    def lacking(self, plugins: Plugins) -> list[str]:
        """
        What is wrong with factories that cannot be asked for.
        """
        return [
            f"{type(factory).__module__}.{type(factory).__name__} has no "
            f"{' and no '.join(self._isLacking(factory))}"
            for factory in plugins.providing(self.factory)
            if self._isLacking(factory)
        ]

    def _isLacking(self, factory: object) -> list[str]:
        """
        The fields that it should have, and has not.
        """
        return [
            field
            for field, what in self.factory.namesAndDescriptions(all=True)
            if not isinstance(what, Method) and not hasattr(factory, field)
        ]

    def named(self, plugins: Plugins, name: str) -> Any:
        """
        The one factory that has a name.

        @raise ValueError: There is none, or there are several.
        """
        factories = self.factories(plugins)
        found = factories.get(name, [])
        if len(found) == 1:
            return found[0]
        if found:
            modules = ", ".join(type(factory).__module__ for factory in found)
            raise ValueError(f"several plugins have this name: {modules}")
        problem = "no such plugin"
        if factories:
            problem += f"; there is {', '.join(sorted(factories))}"
        for lacking in self.lacking(plugins):
            problem += f"; {lacking}"
        for module, why in plugins.broken.items():
            problem += f"; {module} cannot be imported: {why}"
        raise ValueError(problem)


AUTHENTICATOR = PluginKind("--authenticator", IAuthenticatorFactory, IAuthenticator)
POLICY = PluginKind("--policy", IPolicyFactory, IConnectPolicy)
ROUTE = PluginKind("--route", IRouteFactory, IRoute)
COMMAND = PluginKind("--command", ICommandFactory, ICommand)
CHECKER = PluginKind("--auth", ICheckerFactory, ICredentialsChecker, "authType")


@attrs.frozen
class Plugins:
    """
    The plugins that are installed.

    @ivar objects: What provides L{IPlugin<twisted.plugin.IPlugin>}.
    @ivar broken: What is wrong with modules that cannot be imported, by their
        names.
    """

    objects: list[Any]
    broken: dict[str, str]

    def providing(self, interface: type[Interface]) -> list[Any]:
        """
        Those that provide an interface.
        """
        return [one for one in self.objects if interface.providedBy(one)]

    def warn(self) -> None:
        """
        Log the modules that cannot be imported.
        """
        for module, problem in self.broken.items():
            _log.error(
                "{module} cannot be imported, and nothing of it is there: {problem}",
                module=module,
                problem=problem,
            )


def findPlugins() -> Plugins:
    """
    Find what C{twisted.plugin.getPlugins} finds.  That one logs a traceback for
    a broken module each time it is asked, and does not tell its caller; here
    the caller can name the module to whoever misses something.
    """
    objects: dict[int, Any] = {}
    broken = {}
    package = getModule("twisted.plugins")
    package.load()  # which extends its path to all folders of plugins
    for module in package.iterModules():
        try:
            loaded: ModuleType = module.load()
        except (Exception, SystemExit) as error:
            broken[module.name] = escape(_described(error))
            continue
        objects |= {
            id(each): each for each in vars(loaded).values() if IPlugin.providedBy(each)
        }
    return Plugins(list(objects.values()), broken)


def showPlugins(kind: PluginKind) -> None:
    """
    Print the plugins there are for an option, with their help.
    """
    print(f"Usage: {kind.option} NAME[:ARGUMENT:KEY=VALUE...]\n")
    plugins = findPlugins()
    named = kind.factories(plugins)
    for name in sorted(named):
        for factory in named[name]:
            usage = f"{name}:{factory.argumentHelp}".rstrip(":")
            print(f"{usage}\n    {factory.help}\n")
    if not named:
        print("There are none.\n")
    for lacking in kind.lacking(plugins):
        print(f"{lacking}\n")
    for module, problem in plugins.broken.items():
        print(f"{module} cannot be imported: {problem}\n")


def parsePlugin(text: str) -> tuple[str, list[str], dict[str, str]]:
    """
    Take C{NAME:ARGUMENT:KEY=VALUE} apart, as Twisted's endpoint strings are: a
    backslash before a colon, an equals sign or a backslash makes it a part of
    the text.

    @return: The name, the positional and the keyword arguments.
    @raise ValueError: A key is given twice.
    """
    plugin, *rest = _split(text, ":")
    positional, keyword = [], {}
    for argument in rest:
        key, *value = _split(argument, "=", 1)
        name = _unescape(key)
        if not value:
            positional.append(name)
        elif name in keyword:
            raise ValueError(f"{name}= is given twice")
        else:
            keyword[name] = _unescape(value[0])
    return _unescape(plugin), positional, keyword


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


def makePlugin(kind: PluginKind, plugins: Plugins, reactor: Any, said: Said) -> Any:
    """
    Make what an operator asks for.

    @raise ValueError: There is no such plugin, its arguments are wrong, or it
        does not work; the text says which.
    """
    try:
        name, positional, keyword = parsePlugin(said.resolved)
        factory = kind.named(plugins, name)
        checkArguments(factory.generate, factory.argumentHelp, positional, keyword)
        made = factory.generate(reactor, *positional, **keyword)
        verifyObject(kind.product, made)
    except ValueError as error:
        raise said.fail(error) from None
    except Invalid as error:
        raise said.fail(f"it made what is none: {error}") from None
    except Exception as error:
        raise said.fail(f"it does not work: {_described(error)}") from None
    return made


def makeChecker(plugins: Plugins, said: Said) -> ICredentialsChecker:
    """
    Make a checker of what C{--auth} asks for, as C{twisted.cred.strcred} does.

    @raise ValueError: There is no such plugin, its argument is wrong, or it checks
        no passwords.
    """
    name, _, argument = said.resolved.partition(":")
    # It would tell of a missing file in a line of its own beside ours.
    theFileCheckerFactory.errorOutput = StringIO()
    try:
        factory = CHECKER.named(plugins, name)
        checker: ICredentialsChecker = factory.generateChecker(argument)
    except (ValueError, StrcredException) as error:
        raise said.fail(error) from None
    except Exception as error:
        raise said.fail(f"it does not work: {_described(error)}") from None
    if IUsernamePassword not in checker.credentialInterfaces:
        raise said.fail("it checks no passwords")
    return checker


def checkArguments(
    function: Callable[..., object],
    argumentHelp: str,
    positional: list[str],
    keyword: dict[str, str],
) -> None:
    """
    Find an argument that is missing, unknown or too many, before the function
    could raise the same exception for another reason.

    @param function: Its first parameter is the reactor.
    @param argumentHelp: What was expected, in one line.
    @raise ValueError: There is one; the text says which.
    """
    try:
        signature(function).bind(None, *positional, **keyword)
    except TypeError as error:
        given = ", ".join([*positional, *(f"{key}=" for key in keyword)])
        raise ValueError(
            f"{error}; expected {argumentHelp or 'no arguments'}, "
            f"not {given or 'nothing'}"
        ) from None


def _described(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ")
