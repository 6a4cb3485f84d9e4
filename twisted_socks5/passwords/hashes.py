# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Hashes of passwords: argon2id (RFC 9106) and bcrypt.  Making one and comparing
one takes long, on purpose, and holds up whoever does it.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.util import find_spec

ARGON2ID = "argon2id"
BCRYPT = "bcrypt"

BCRYPT_MOST = 72
"""
How many bytes of a password bcrypt takes into account.
"""

_FORMS = {
    ARGON2ID: re.compile(
        r"\$argon2id\$v=(?:16|19)\$m=(\d{1,7}),t=(\d{1,7}),p=(\d{1,7})"
        r"\$[A-Za-z0-9+/]{11,}\$[A-Za-z0-9+/]{6,}"
    ),
    BCRYPT: re.compile(r"\$2[aby]\$(?:0[4-9]|[12]\d|3[01])\$[A-Za-z0-9./]{53}"),
}
_LIBRARIES = {ARGON2ID: ("argon2", "argon2-cffi"), BCRYPT: ("bcrypt", "bcrypt")}


def kindOf(text: str) -> str:
    """
    The kind of a hash: L{ARGON2ID} or L{BCRYPT}.

    @raise ValueError: It is of neither kind, or what it takes is not installed.
    """
    for kind, form in _FORMS.items():
        found = form.fullmatch(text)
        if found is not None:
            _checkParameters(*map(int, found.groups()))
            _require(kind)
            return kind
    raise ValueError("neither an argon2id nor a bcrypt hash")


def _checkParameters(memory: int = 8, passes: int = 1, lanes: int = 1) -> None:
    """
    Whether argon2 works with its parameters (RFC 9106, section 3.1).

    @param memory: In KiB.
    @raise ValueError: It does not.
    """
    if not (passes >= 1 and lanes >= 1 and 8 * lanes <= memory):
        raise ValueError("argon2id with parameters that are not allowed")


def _require(kind: str) -> None:
    module, package = _LIBRARIES[kind]
    if not _isInstalled(module):
        raise ValueError(
            f"{kind} needs {package}, which is not installed "
            "(it comes with twisted-socks5[hashed])"
        )


@cache
def _isInstalled(module: str) -> bool:
    return find_spec(module) is not None


def isRight(stored: str, password: bytes) -> bool:
    """
    Whether a password has a hash.  Like Apache's C{htpasswd}, only the first 72
    bytes count for bcrypt.
    """
    if kindOf(stored) == BCRYPT:
        import bcrypt

        return bcrypt.checkpw(password[:BCRYPT_MOST], stored.encode())
    from argon2 import PasswordHasher
    from argon2.exceptions import VerifyMismatchError

    try:
        return PasswordHasher().verify(stored, password)
    except VerifyMismatchError:
        return False


def newHash(password: bytes, kind: str = ARGON2ID) -> str:
    """
    A hash for a password, with a salt of its own and the library's parameters.

    @raise ValueError: The password is too long for bcrypt, or what it takes is
        not installed.
    """
    _require(kind)
    if kind == ARGON2ID:
        from argon2 import PasswordHasher

        return PasswordHasher().hash(password)
    if len(password) > BCRYPT_MOST:
        raise ValueError(f"bcrypt takes at most {BCRYPT_MOST} bytes")
    import bcrypt

    return bcrypt.hashpw(password, bcrypt.gensalt()).decode()
