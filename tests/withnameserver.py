# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Run as a program: C{twist}, whose SOCKS5 servers look all names up at the name
server on 127.0.0.1 whose port the command line begins with.
"""

from __future__ import annotations

import runpy
import sys
from typing import Any

from twisted_socks5.routes.resolver import NameResolver
from twisted_socks5.server import factory


def main() -> None:
    port = int(sys.argv.pop(1))

    def resolver(reactor: Any) -> NameResolver:
        servers = [("127.0.0.1", port)]
        return NameResolver(reactor, hosts="/dev/null", servers=servers)

    vars(factory)["NameResolver"] = resolver
    sys.argv[1:1] = ["--log-format=text", "socks5"]
    runpy.run_module("twisted", run_name="__main__")


if __name__ == "__main__":
    main()
