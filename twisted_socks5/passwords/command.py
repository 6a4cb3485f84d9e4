# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
The command that adds, changes and removes accounts: C{socks5-passwd}.
"""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser
from getpass import getpass

from twisted_socks5.passwords.accountfile import changeAccount
from twisted_socks5.passwords.hashes import ARGON2ID, BCRYPT, newHash

_LONGEST = 255  # RFC 1929, section 2


def main() -> None:
    """
    Do what the command line says.

    @raise SystemExit: It cannot be done; the text says why.
    """
    parser = ArgumentParser(
        prog="socks5-passwd",
        description="Adds an account to a file, or changes its password, which is "
        "asked for; or removes it.",
    )
    parser.add_argument("file", help="the file; it is made if there is none")
    parser.add_argument("name", help="the name of the account")
    parser.add_argument("--delete", action="store_true", help="remove the account")
    parser.add_argument(
        "--kind",
        choices=(ARGON2ID, BCRYPT),
        default=ARGON2ID,
        help="how to hash the password (default: %(default)s)",
    )
    parser.add_argument(
        "--stdin",
        action="store_true",
        help="read the password, one line, from standard input",
    )
    options = parser.parse_args()
    name = os.fsencode(options.name)
    try:
        _checkName(name)
        if options.delete:
            if not changeAccount(options.file, name, None):
                raise ValueError("there is no account of this name")
            print(f"{options.name} was removed")
            return
        password = _read(options.name, options.stdin)
        _checkPassword(password)
        existed = changeAccount(options.file, name, newHash(password, options.kind))
    except OSError as error:
        parser.exit(1, f"socks5-passwd: {options.file}: {error.strerror}\n")
    except (ValueError, EOFError, KeyboardInterrupt) as error:
        parser.exit(1, f"socks5-passwd: {error or 'nothing was changed'}\n")
    print(f"{options.name} {'has a new password' if existed else 'was added'}")


def _checkName(name: bytes) -> None:
    if (
        not 0 < len(name) <= _LONGEST
        or b":" in name
        or name.startswith(b"#")
        or name != name.strip()
        or min(name) < 0x20
    ):
        raise ValueError(
            f"a name has 1 to {_LONGEST} bytes, no colon and no control character, "
            "and neither a # at its beginning nor blanks around it"
        )


def _checkPassword(password: bytes) -> None:
    if not 0 < len(password) <= _LONGEST:
        raise ValueError(f"a password has 1 to {_LONGEST} bytes")


def _read(name: str, fromInput: bool) -> bytes:
    if fromInput:
        return sys.stdin.buffer.readline().rstrip(b"\r\n")
    password = getpass(f"Password for {name}: ")
    if getpass("The same again: ") != password:
        raise ValueError("these were not the same; nothing was changed")
    return password.encode("utf-8", "surrogateescape")
