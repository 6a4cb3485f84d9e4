# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Where a worker begins.  What it is to do comes as JSON on standard input.
"""

import json
import os
import sys
from importlib import import_module


def main() -> None:
    """
    Have the reactor that the supervisor has, and serve.
    """
    start = json.load(sys.stdin)
    if "LISTEN_FDS" in os.environ:
        os.environ["LISTEN_PID"] = str(os.getpid())
    import_module(start["reactor"]).install()
    from twisted.internet import reactor

    from twisted_socks5.service.workers.worker import serve

    serve(start, reactor)


if __name__ == "__main__":
    main()
