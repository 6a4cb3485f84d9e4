# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Several processes that serve the same listeners (C{--workers}).

The I{supervisor} is the process that was started.  It holds the sockets that clients
connect to, and accepts nobody.  The I{workers} are its children: they inherit those
sockets, accept clients from them, and do everything else as a server in one process
does.  They talk with the supervisor over a socket of their own
(L{twisted_socks5.service.workers.messages}).
"""
