# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Programs that speak SOCKS5, through a started server.
"""

from __future__ import annotations

from collections.abc import Callable
from subprocess import CompletedProcess
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.conftest import Server
    from tests.interop.conftest import Web

    Start = Callable[..., Server]
    Run = Callable[..., CompletedProcess[bytes]]
    Program = Callable[..., str]
    Sessions = Callable[..., list[dict[str, Any]]]
    Accounts = tuple[str, str]

CURL_PROXY_REFUSED = 97


def facts(session: dict[str, Any]) -> tuple[object, ...]:
    """
    Who went where, and how it went.
    """
    names = ("user", "command", "target", "reply")
    return tuple(session.get(name) for name in names)


@pytest.mark.parametrize("scheme", ["socks5h", "socks5"])
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_curl(
    start: Start,
    program: Program,
    run: Run,
    web: Web,
    sessions: Sessions,
    scheme: str,
    host: str,
) -> None:
    server = start()
    done = run(
        *(program("curl"), "-q", "-sS4", "-x", f"{scheme}://127.0.0.1:{server.port}"),
        f"http://{host}:{web.port}/page",
    )
    assert done.returncode == 0, done.stderr
    assert b"<title>A page</title>" in done.stdout
    assert web.paths == ["/page"]
    asked = host if scheme == "socks5h" else "127.0.0.1"
    (session,) = sessions(server)
    assert facts(session) == (None, "CONNECT", f"{asked}:{web.port}", "00")
    assert session["down"] > len(done.stdout)
