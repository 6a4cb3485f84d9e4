# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The server as C{twistd socks5} runs it.
"""
