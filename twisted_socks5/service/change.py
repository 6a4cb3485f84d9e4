# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
What a server that runs does when its configuration has changed.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakSet

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from twisted_socks5.server.factory import SOCKS5ServerFactory
from twisted_socks5.service.configuration import Configuration, ListenerSettings
from twisted_socks5.service.endpoints import ExchangeableTLS, readTLS
from twisted_socks5.service.listeners import Listener
from twisted_socks5.service.prepared import Prepared, prepare
from twisted_socks5.service.reload import Commit
from twisted_socks5.service.settings import KEYS

_log = Logger(namespace="twisted_socks5")


_AT_START = ("access-log", "workers", "metrics")
_SETTINGS_AT_START = ("log", "count", "quota")
"""
What is read at the start only.
"""


class ServerChange:
    """
    Takes part in a L{Reload<twisted_socks5.service.reload.Reload>}.
    """

    def __init__(
        self,
        reactor: Any,
        prepared: Prepared,
        listeners: list[Listener],
        parent: MultiService,
        listening: Any,
        isWorker: bool = False,
    ) -> None:
        """
        @param prepared: What is in force.
        @param listeners: Those that listen; it will be changed.
        @param parent: Of the services of plugins.
        @param listening: What listens: the reactor, or something in its stead.
        @param isWorker: Whether another process tells of what changes.
        """
        self._reactor = reactor
        self._prepared = prepared
        self._started = prepared.configuration
        self._factory = prepared.factory
        self._listeners = listeners
        self._parent = parent
        self._listening = listening
        self._isWorker = isWorker
        # Sessions may outlive the listener that they came to.
        self._factories = WeakSet(listener.factory for listener in listeners)

    def prepare(self, configuration: Configuration) -> Commit:
        """
        Make what the configuration asks for, and listen where nobody did.

        @raise ValueError: It cannot be done; nothing has changed.
        """
        prepared = prepare(self._reactor, configuration, self._prepared)
        change = _Change(prepared)
        left = list(self._listeners)
        try:
            for settings, factory in prepared.served:
                same = [
                    one for one in left if one.settings.endpoint == settings.endpoint
                ]
                if same:
                    left.remove(same[0])
                    change.keep(self._reactor, same[0], settings, factory)
                else:
                    change.open(
                        self._listening,
                        settings,
                        factory,
                        self._factory.sibling(
                            factory.authenticators, factory.judge.policy
                        ),
                    )
        except BaseException:
            for listener in change.opened:
                listener.port.stopListening()
            raise

        def commit() -> Deferred[None]:
            self._commit(change, left)
            return self._factory.reviseSessions()

        return commit

    def _commit(self, change: _Change, left: list[Listener]) -> None:
        self._factory.become(change.prepared.factory)
        self._factory.admission.replace(change.prepared.configuration.settings.limit)
        for each in self._factories:
            each.become(change.prepared.factory)
        for listener, settings, factory, tls in change.listeners:
            listener.settings = settings
            listener.factory.become(factory)
            listener.factory.admission = settings.admissionOf(self._factory.admission)
            if listener.tls is not None and tls is not None:
                listener.tls.become(tls)
        for listener in left:
            if not self._isWorker:
                _log.info(
                    "SOCKS5 no more at {address} ({endpoint})",
                    address=str(listener.address),
                    endpoint=listener.description,
                )
            self._factory.ownListeners.remove(listener.address)
            self._factory.accepting.forget(listener.port)
            listener.port.stopListening()
        for listener in change.opened:
            self._factory.ownListeners.add(listener.address)
            self._factory.accepting.watch(listener.port)
            self._factories.add(listener.factory)
            if not self._isWorker:
                listener.tell()
        self._listeners[:] = [listener for listener, *_ in change.listeners]
        before, self._prepared = self._prepared, change.prepared
        if not self._isWorker:
            _tellWhatStays(self._started, change.prepared.configuration)
        for service in before.services:
            if service not in change.prepared.services:
                service.disownServiceParent()
        for service in change.prepared.services:
            if service not in before.services:
                service.setServiceParent(self._parent)


class _Change:
    """
    What will be.

    @ivar prepared: What was made for it.
    @ivar listeners: All of them, with what each will be, and its certificates.
    @ivar opened: Those of them that are new.
    """

    def __init__(self, prepared: Prepared) -> None:
        self.prepared = prepared
        self.opened: list[Listener] = []
        self.listeners: list[
            tuple[
                Listener, ListenerSettings, SOCKS5ServerFactory, ExchangeableTLS | None
            ]
        ] = []

    def keep(
        self,
        reactor: Any,
        listener: Listener,
        settings: ListenerSettings,
        factory: SOCKS5ServerFactory,
    ) -> None:
        """
        One goes on to listen.

        @param factory: What its own will become.
        @raise ValueError: Its certificates cannot be used, or anybody could come.
        """
        listener.refuseToBeOpen(settings, factory)
        tls = None if listener.tls is None else readTLS(reactor, settings.endpoint)
        self.listeners.append((listener, settings, factory, tls))

    def open(
        self,
        reactor: Any,
        settings: ListenerSettings,
        factory: SOCKS5ServerFactory,
        own: SOCKS5ServerFactory,
    ) -> None:
        """
        One begins to listen.

        @param own: What serves its clients.
        @raise ValueError: It cannot, or anybody could come.
        """
        listener = Listener.open(reactor, settings, own)
        self.opened.append(listener)
        self.listeners.append((listener, settings, factory, None))


def _tellWhatStays(started: Configuration, now: Configuration) -> None:
    """
    Tell of all that is still as it was at the start.
    """
    different = [
        key for key in _AT_START if started.texts.get(key) != now.texts.get(key)
    ]
    different += [
        key
        for key, (section, field) in KEYS.items()
        if section in _SETTINGS_AT_START
        and getattr(getattr(started.settings, section), field.name)
        != getattr(getattr(now.settings, section), field.name)
    ]
    if different:
        _log.warn(
            "changed since the start, which takes hold at the next start: {keys}",
            keys=", ".join(different),
        )
