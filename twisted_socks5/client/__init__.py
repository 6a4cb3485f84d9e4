# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The client's side: going out through SOCKS5 proxies.
"""

from twisted_socks5.client.authenticators import Anonymous, Login
from twisted_socks5.client.bind import SOCKS5ListeningPort, SOCKS5ServerEndpoint
from twisted_socks5.client.datagrams import SOCKS5DatagramEndpoint, SOCKS5DatagramPort
from twisted_socks5.client.endpoint import SOCKS5ClientEndpoint

__all__ = [
    "Anonymous",
    "Login",
    "SOCKS5ClientEndpoint",
    "SOCKS5DatagramEndpoint",
    "SOCKS5DatagramPort",
    "SOCKS5ListeningPort",
    "SOCKS5ServerEndpoint",
]
