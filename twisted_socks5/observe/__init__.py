# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
What an operator sees of the server.
"""
