# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The server: a client's bytes, phase by phase.
"""
