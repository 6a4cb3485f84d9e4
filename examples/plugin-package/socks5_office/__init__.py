# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
A method and a policy for a SOCKS5 proxy.
"""
