# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
A SOCKS5 proxy as a part of an application.
"""

from twisted.internet import reactor
from twisted.internet.endpoints import serverFromString

from twisted_socks5 import NoAuthentication, SOCKS5ServerFactory

factory = SOCKS5ServerFactory(reactor, [NoAuthentication()])
serverFromString(reactor, "tcp:1080:interface=127.0.0.1").listen(factory)
reactor.run()
