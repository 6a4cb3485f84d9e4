# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Accounts in a file, with hashes instead of passwords.
"""
