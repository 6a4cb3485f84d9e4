# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Relative paths in what an operator says of plugins and endpoints.
"""

from __future__ import annotations

import re
from os.path import join

_FIRST = re.compile(r"(?:haproxy:)?(file|hashed|unix):(?![/:]|\w+=)(?=.)")
_NAMED = re.compile(
    r"(?<=:)(?:address|privateKey|certKey|clientCA|passwordFile|keytab|tickets"
    r"|extraCertChain|dhParameters)=(?=[^/:])"
)
"""
Behind what there is a path, in our plugins and in Twisted's.
"""


def absolute(text: str, folder: str) -> str:
    """
    The text with its relative paths made absolute.

    @param folder: Where they begin.
    """
    start = join(folder, "")
    quoted = re.sub(r"[\\:=]", r"\\\g<0>", start)
    first = _FIRST.match(text)
    if first is not None:
        isQuoted = first[1] != "file"  # which takes its argument as it is
        begun = first[0] + (quoted if isQuoted else start)
        return begun + _NAMED.sub(lambda found: found[0] + quoted, text[first.end() :])
    return _NAMED.sub(lambda found: found[0] + quoted, text)
