# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Programs that speak SOCKS5, through a started server.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.conftest import Server
    from tests.interop.conftest import SSHD, Web

    Start = Callable[..., Server]
    Run = Callable[..., CompletedProcess[bytes]]
    Program = Callable[..., str]
    Sessions = Callable[..., list[dict[str, Any]]]

CURL_PROXY_REFUSED = 97
PAYLOAD = random.Random(1928).randbytes(1 << 20)


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


def test_curlIPv6(
    start: Start, program: Program, run: Run, web6: Web, sessions: Sessions
) -> None:
    server = start()
    done = run(
        *(program("curl"), "-q", "-sS", "-x", f"socks5h://127.0.0.1:{server.port}"),
        f"http://[::1]:{web6.port}/page",
    )
    assert done.returncode == 0, done.stderr
    assert web6.paths == ["/page"]
    (session,) = sessions(server)
    assert facts(session) == (None, "CONNECT", f"[::1]:{web6.port}", "00")


def test_curlPosts(start: Start, program: Program, run: Run, web: Web) -> None:
    server = start()
    done = run(
        *(program("curl"), "-q", "-sS", "-x", f"socks5h://127.0.0.1:{server.port}"),
        *("--data-binary", "@-", f"http://127.0.0.1:{web.port}/"),
        given=PAYLOAD,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == PAYLOAD


def test_curlUNIXSocket(
    start: Start,
    program: Program,
    run: Run,
    web: Web,
    sessions: Sessions,
    tmp_path: Path,
) -> None:
    server = start("--port", f"unix:{tmp_path}/socks")
    done = run(
        *(program("curl"), "-q", "-sS", "-x", f"socks5h://localhost{tmp_path}/socks"),
        f"http://127.0.0.1:{web.port}/page",
    )
    assert done.returncode == 0, done.stderr
    assert web.paths == ["/page"]
    (session,) = sessions(server)
    assert session["client"] == "unix:0"


def test_curlPassword(
    start: Start,
    program: Program,
    run: Run,
    web: Web,
    sessions: Sessions,
    accounts: tuple[str, str],
) -> None:
    server = start(*accounts)
    done = run(
        *(program("curl"), "-q", "-sS", "-x"),
        f"socks5h://alice:wonderland@127.0.0.1:{server.port}",
        f"http://127.0.0.1:{web.port}/page",
    )
    assert done.returncode == 0, done.stderr
    assert web.paths == ["/page"]
    (session,) = sessions(server)
    assert facts(session) == ("alice", "CONNECT", f"127.0.0.1:{web.port}", "00")


@pytest.mark.parametrize("who", ["alice:through@", "bob:wonderland@", ""])
def test_curlWrongPassword(
    start: Start,
    program: Program,
    run: Run,
    web: Web,
    sessions: Sessions,
    accounts: tuple[str, str],
    who: str,
) -> None:
    server = start(*accounts)
    done = run(
        *(
            program("curl"),
            "-q",
            "-sS",
            "-x",
            f"socks5h://{who}127.0.0.1:{server.port}",
        ),
        f"http://127.0.0.1:{web.port}/page",
    )
    assert done.returncode == CURL_PROXY_REFUSED, done.stderr
    assert web.paths == []
    (session,) = sessions(server)
    assert facts(session)[1:] == (None, None, None)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_ncat(
    start: Start, program: Program, run: Run, echo: int, sessions: Sessions, host: str
) -> None:
    server = start()
    done = run(
        *(program("ncat"), "--proxy", f"127.0.0.1:{server.port}"),
        *("--proxy-type", "socks5", "--proxy-dns", "remote", host, str(echo)),
        given=PAYLOAD,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == PAYLOAD
    (session,) = sessions(server)
    assert facts(session) == (None, "CONNECT", f"{host}:{echo}", "00")
    assert (session["up"], session["down"]) == (len(PAYLOAD), len(PAYLOAD))


@pytest.mark.parametrize("password", ["wonderland", "through"])
def test_ncatPassword(
    start: Start,
    program: Program,
    run: Run,
    echo: int,
    sessions: Sessions,
    accounts: tuple[str, str],
    password: str,
) -> None:
    server = start(*accounts)
    done = run(
        *(program("ncat"), "--proxy", f"127.0.0.1:{server.port}"),
        *("--proxy-type", "socks5", "--proxy-auth", f"alice:{password}"),
        *("127.0.0.1", str(echo)),
        given=PAYLOAD,
    )
    (session,) = sessions(server)
    if password == "wonderland":
        assert done.returncode == 0, done.stderr
        assert done.stdout == PAYLOAD
        assert facts(session) == ("alice", "CONNECT", f"127.0.0.1:{echo}", "00")
    else:
        assert done.returncode != 0
        assert done.stdout == b""
        assert facts(session)[1:] == (None, None, None)


def test_ssh(
    start: Start, program: Program, run: Run, sshd: SSHD, sessions: Sessions
) -> None:
    server = start()
    # Others are called nc, too, and have other options.
    nc = program("nc.openbsd", "nc")
    done = run(
        program("ssh"),
        *("-o", f"ProxyCommand={nc} -X 5 -x 127.0.0.1:{server.port} %h %p"),
        *sshd.arguments,
        "cat",
        given=PAYLOAD,
    )
    assert done.returncode == 0, (done.stderr, sshd.output())
    assert done.stdout == PAYLOAD
    (session,) = sessions(server)
    assert facts(session) == (None, "CONNECT", f"127.0.0.1:{sshd.port}", "00")
    assert min(session["up"], session["down"]) > len(PAYLOAD)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_chromium(
    start: Start,
    program: Program,
    run: Run,
    web: Web,
    sessions: Sessions,
    tmp_path: Path,
    host: str,
) -> None:
    server = start()
    done = run(
        program("chromium", "chromium-browser", "google-chrome"),
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"),
        *("--no-first-run", "--disable-background-networking"),
        *("--disable-component-update", "--disable-sync"),
        *(f"--user-data-dir={tmp_path}/profile", "--dump-dom"),
        f"--proxy-server=socks5://127.0.0.1:{server.port}",
        # It would go to this host without a proxy.  Where it goes by itself, on
        # the contrary, is not for the proxy, and is nowhere.
        "--proxy-bypass-list=<-loopback>;*.com;*.net;*.org",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        f"http://{host}:{web.port}/page",
        patience=90,
    )
    assert done.returncode == 0, done.stderr
    assert b"run by the browser" in done.stdout, done.stderr
    assert {"/page", "/script.js"} <= set(web.paths)
    # The web server speaks HTTP/1.0: page and script have a connection each.  The
    # browser may have opened others in advance, and not used them.
    found = sessions(server, 2, used=True)
    used = {facts(session) for session in found if session["down"]}
    assert used == {(None, "CONNECT", f"{host}:{web.port}", "00")}
    assert {each.get("target") for each in found} <= {f"{host}:{web.port}", None}
