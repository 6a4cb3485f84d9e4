# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
C{python -m twisted_socks5 explain} tells what rules say of a request.
"""

import sys

from twisted_socks5.service.explain import main

if __name__ == "__main__":
    main(sys.argv[1:])
