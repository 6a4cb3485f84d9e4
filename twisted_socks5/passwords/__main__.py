# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
C{python -m twisted_socks5.passwords} is C{socks5-passwd}.
"""

from twisted_socks5.passwords.command import main

if __name__ == "__main__":
    main()
