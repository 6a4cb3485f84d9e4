# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
What C{--metrics} serves: metrics, and whether the server is well.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import ServerFactory
from twisted.logger import Logger
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from twisted_socks5.addresses import addressOf
from twisted_socks5.observe.counts import Snapshot
from twisted_socks5.observe.metrics import CONTENT_TYPE, Metrics

_log = Logger(namespace="twisted_socks5")

_TEXT = "text/plain; charset=utf-8"

_TIMEOUT = 120.0
"""
How long, in seconds, a client of this server may be silent: longer than from one
look to the next, since each connection that is closed for it is logged.
"""

_MAX_CONNECTIONS = 32
"""
How many clients it has at once.
"""

_MAX_BODY = 4096
"""
The largest body of a request, in bytes, though none is of any use.
"""


class StatusPages(Resource):
    """
    C{/metrics}; C{/healthz}, which tells that the reactor runs; and C{/readyz},
    which tells whether clients can come.  What is asked for is never repeated.
    """

    isLeaf = True

    def __init__(
        self,
        snapshot: Callable[[], Snapshot | Awaitable[Snapshot]],
        isReady: Callable[[], bool],
    ) -> None:
        """
        @param snapshot: All numbers, at once or later.
        @param isReady: Whether clients can come.
        """
        Resource.__init__(self)
        self._snapshot = snapshot
        self._isReady = isReady
        self._metrics = Metrics()

    def render(self, request: Request) -> bytes | int:
        """
        Answer one request.
        """
        if request.method not in (b"GET", b"HEAD"):
            request.setHeader("allow", "GET, HEAD")
            return _answer(request, 405, b"method not allowed\n")
        path = request.path
        if path == b"/healthz":
            return _answer(request, 200, b"ok\n")
        if path == b"/readyz":
            if self._isReady():
                return _answer(request, 200, b"ready\n")
            return _answer(request, 503, b"not ready\n")
        if path != b"/metrics":
            return _answer(request, 404, b"not found\n")
        self._collect(request)
        return NOT_DONE_YET

    def _collect(self, request: Request) -> None:
        collect: Callable[[], Any] = self._snapshot
        collecting: Deferred[Snapshot] = maybeDeferred(collect)
        gone = request.notifyFinish()
        gone.addErrback(lambda _: collecting.cancel())

        def collected(snapshot: Snapshot) -> None:
            text = self._metrics.render(snapshot)
            request.write(_answer(request, 200, text, CONTENT_TYPE))
            request.finish()

        def failed(failure: Failure) -> None:
            if request.channel is None:  # nobody waits any more
                return
            _log.failure("metrics cannot be collected", failure)
            request.write(_answer(request, 500, b"failed\n"))
            request.finish()

        collecting.addCallback(collected).addErrback(failed)


def _answer(
    request: Request, status: int, text: bytes, contentType: str = _TEXT
) -> bytes:
    request.setResponseCode(status)
    request.setHeader("content-type", contentType)
    request.setHeader("content-length", str(len(text)))
    return b"" if request.method == b"HEAD" else text


class _SmallRequest(Request):
    """
    A request that has hardly any body.
    """

    def gotLength(self, length: int | None) -> None:
        """
        It is known how long the body is, or that nobody knows.
        """
        Request.gotLength(self, min(length or 0, _MAX_BODY))
        if length is None or length > _MAX_BODY:
            channel: Any = self.channel
            channel.transport.abortConnection()


class _QuietSite(Site):
    """
    Logs no requests.
    """

    noisy = False
    requestFactory = _SmallRequest

    def log(self, request: Any) -> None:
        """
        There is nothing to be told of it.
        """


class _Few(ProtocolWrapper):
    """
    A connection that is closed at once if there are too many.
    """

    def makeConnection(self, transport: Any) -> None:
        """
        A client has connected.
        """
        ProtocolWrapper.makeConnection(self, transport)
        if len(self.factory.protocols) > _MAX_CONNECTIONS:
            transport.abortConnection()


def statusFactory(pages: StatusPages) -> ServerFactory:
    """
    Serves pages to a few at a time.
    """
    factory: Any = WrappingFactory(_QuietSite(pages, timeout=_TIMEOUT))
    factory.noisy = False
    factory.protocol = _Few
    serving: ServerFactory = factory
    return serving


class StatusService(Service):
    """
    Pages that are listened for already.

    @ivar address: Where they are.
    """

    def __init__(self, port: IListeningPort) -> None:
        self._port = port
        self.address = addressOf(port.getHost())

    def startService(self) -> None:
        """
        Say where the pages are.
        """
        Service.startService(self)
        _log.info("metrics at {address}", address=str(self.address))

    def stopService(self) -> Deferred[Any]:
        """
        Serve them no more.
        """
        Service.stopService(self)
        return maybeDeferred(self._port.stopListening)
