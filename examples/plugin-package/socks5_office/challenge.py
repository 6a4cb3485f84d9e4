# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Method 80: the client proves to know a secret without sending it.

The server sends 32 random bytes.  The client answers with its name, after an octet
that tells its length, and with HMAC-SHA256 (RFC 2104) of those bytes, keyed
with its secret.  The server sends 00, or 01 and closes.
"""

from __future__ import annotations

import hmac
import os

from zope.interface import implementer

from twisted_socks5 import Authenticated, Identity
from twisted_socks5.errors import AuthenticationFailed
from twisted_socks5.interfaces import IAuthenticator, IExchange


@implementer(IAuthenticator)
class ChallengeResponse:
    name = "challenge"
    method = 0x80
    strength = 20
    failureReply = b"\x01"

    def __init__(self, secrets: dict[bytes, bytes]) -> None:
        self._secrets = secrets

    def isAvailable(self, exchange: IExchange) -> bool:
        return True

    async def authenticate(self, exchange: IExchange) -> Authenticated:
        challenge = os.urandom(32)
        exchange.write(challenge)
        (length,) = await exchange.readExactly(1)
        name = await exchange.readExactly(length)
        response = await exchange.readExactly(32)
        await exchange.claim(name)
        secret = self._secrets.get(name) or os.urandom(32)
        expected = hmac.digest(secret, challenge, "sha256")
        if not hmac.compare_digest(response, expected):
            raise AuthenticationFailed("wrong response")
        exchange.write(b"\x00")
        return Authenticated(Identity(name.decode(), name, method=self.method))


def readSecrets(path: str) -> dict[bytes, bytes]:
    """
    Read a file with a line C{name:secret} for each client, the secret in
    hexadecimal.

    @raise ValueError: The file cannot be read, or a line is wrong.
    """
    secrets: dict[bytes, bytes] = {}
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read().splitlines()
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    for number, line in enumerate(lines, 1):
        name, _, digits = line.partition(":")
        try:
            secret = bytes.fromhex(digits)
        except ValueError:
            secret = b""
        if not name or len(secret) < 16 or name.encode() in secrets:
            raise ValueError(
                f"{path}: line {number} is no new name and 16 bytes or more"
            )
        secrets[name.encode()] = secret
    return secrets
