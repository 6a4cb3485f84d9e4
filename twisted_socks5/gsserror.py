# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
GSSAPI's errors in words, for both the client's and the server's side.
"""

from __future__ import annotations

from gssapi.raw.misc import GSSError


def explain(error: GSSError) -> str:
    """
    What GSSAPI says of an error: the mechanism's reason where there is one.  The
    library keeps the text for the thread only in which the error was raised.
    """
    if error.min_code:
        texts = error.get_all_statuses(error.min_code, False)
    else:
        texts = error.get_all_statuses(error.maj_code, True)
    return "; ".join(texts)
