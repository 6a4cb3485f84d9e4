# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Python's other SOCKS5 clients, through a started server.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
import requests
import socks
from python_socks import ProxyError
from python_socks.async_.asyncio import Proxy

if TYPE_CHECKING:
    from tests.conftest import Server
    from tests.interop.conftest import Web

    Start = Callable[..., Server]
    Sessions = Callable[..., list[dict[str, Any]]]

PATIENCE = 30
PAYLOAD = random.Random(1929).randbytes(1 << 20)


def pysocks(server: Server, **options: object) -> Any:
    """
    A socket of PySocks's that goes through the server.
    """
    client = socks.socksocket()
    client.settimeout(PATIENCE)
    client.set_proxy(socks.SOCKS5, "127.0.0.1", server.port, **options)
    return client


@pytest.mark.parametrize("remotely", [True, False])
def test_PySocks(start: Start, echo: int, sessions: Sessions, remotely: bool) -> None:
    server = start()
    with pysocks(server, rdns=remotely) as client:
        client.connect(("localhost", echo))
        client.sendall(PAYLOAD)
        client.shutdown(socket.SHUT_WR)
        with client.makefile("rb") as answer:
            assert answer.read() == PAYLOAD
    (session,) = sessions(server)
    host = "localhost" if remotely else "127.0.0.1"
    assert session["target"] == f"{host}:{echo}"
    assert (session["up"], session["down"]) == (len(PAYLOAD), len(PAYLOAD))


def test_PySocksPassword(
    start: Start, echo: int, sessions: Sessions, accounts: tuple[str, str]
) -> None:
    server = start(*accounts)
    with pysocks(server, username="alice", password="wonderland") as client:
        client.connect(("127.0.0.1", echo))
    with pysocks(server, username="alice", password="through") as client:
        with pytest.raises(socks.GeneralProxyError, match="authentication failed"):
            client.connect(("127.0.0.1", echo))
    with pysocks(server) as client:
        with pytest.raises(socks.GeneralProxyError, match="methods were rejected"):
            client.connect(("127.0.0.1", echo))
    found = sessions(server, 3)
    assert [each.get("reply") for each in found] == ["00", None, None]
    assert found[0]["user"] == "alice"


def test_PySocksRefused(start: Start, closedPort: int) -> None:
    with pysocks(start()) as client:
        with pytest.raises(socks.GeneralProxyError, match="0x05: Connection refused"):
            client.connect(("127.0.0.1", closedPort))


async def throughPythonSocks(url: str, port: int) -> bytes:
    """
    What a destination answers, by python-socks and asyncio.
    """
    proxy = Proxy.from_url(url, rdns=True)
    connected = await proxy.connect("localhost", port, timeout=PATIENCE)
    reader, writer = await asyncio.open_connection(sock=connected)
    writer.write(PAYLOAD)
    writer.write_eof()
    try:
        return await asyncio.wait_for(reader.read(), PATIENCE)
    finally:
        writer.close()
        await writer.wait_closed()


def test_pythonSocks(start: Start, echo: int, sessions: Sessions) -> None:
    server = start()
    url = f"socks5://127.0.0.1:{server.port}"
    assert asyncio.run(throughPythonSocks(url, echo)) == PAYLOAD
    (session,) = sessions(server)
    assert session["target"] == f"localhost:{echo}"


def test_pythonSocksAtOnce(start: Start, echo: int, sessions: Sessions) -> None:
    server = start()
    url = f"socks5://127.0.0.1:{server.port}"

    async def several() -> list[bytes]:
        return await asyncio.gather(*(throughPythonSocks(url, echo) for _ in range(10)))

    assert asyncio.run(several()) == [PAYLOAD] * 10
    assert len(sessions(server, 10)) == 10


def test_pythonSocksPassword(
    start: Start, echo: int, sessions: Sessions, accounts: tuple[str, str]
) -> None:
    server = start(*accounts)
    url = f"socks5://alice:wonderland@127.0.0.1:{server.port}"
    assert asyncio.run(throughPythonSocks(url, echo)) == PAYLOAD
    (session,) = sessions(server)
    assert session["user"] == "alice"
    for who in ("alice:through@", ""):
        url = f"socks5://{who}127.0.0.1:{server.port}"
        with pytest.raises(ProxyError):
            asyncio.run(throughPythonSocks(url, echo))
    assert [each.get("reply") for each in sessions(server, 3)] == ["00", None, None]


def test_pythonSocksRefused(start: Start, closedPort: int) -> None:
    url = f"socks5://127.0.0.1:{start().port}"
    with pytest.raises(ProxyError) as caught:
        asyncio.run(throughPythonSocks(url, closedPort))
    assert caught.value.error_code == 5


@pytest.fixture
def browse() -> Iterator[Callable[[str, str], requests.Response]]:
    """
    Gets a URL with requests, through a proxy.
    """
    with requests.Session() as session:
        session.trust_env = False

        def browsing(proxy: str, url: str) -> requests.Response:
            return session.get(url, proxies={"http": proxy}, timeout=PATIENCE)

        yield browsing


@pytest.mark.parametrize("scheme", ["socks5h", "socks5"])
def test_requests(
    start: Start,
    browse: Callable[[str, str], requests.Response],
    web: Web,
    sessions: Sessions,
    scheme: str,
) -> None:
    server = start()
    proxy = f"{scheme}://127.0.0.1:{server.port}"
    response = browse(proxy, f"http://localhost:{web.port}/page")
    assert response.status_code == 200
    assert "<title>A page</title>" in response.text
    assert web.paths == ["/page"]
    (session,) = sessions(server)
    host = "localhost" if scheme == "socks5h" else "127.0.0.1"
    assert session["target"] == f"{host}:{web.port}"


def test_requestsPassword(
    start: Start,
    browse: Callable[[str, str], requests.Response],
    web: Web,
    sessions: Sessions,
    accounts: tuple[str, str],
) -> None:
    server = start(*accounts)
    page = f"http://127.0.0.1:{web.port}/page"
    for who in ("alice:through@", ""):
        with pytest.raises(requests.ConnectionError):
            browse(f"socks5h://{who}127.0.0.1:{server.port}", page)
    assert web.paths == []
    proxy = f"socks5h://alice:wonderland@127.0.0.1:{server.port}"
    assert browse(proxy, page).status_code == 200
    assert web.paths == ["/page"]
    assert [each.get("user") for each in sessions(server, 3)][-1] == "alice"
