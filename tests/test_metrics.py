# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
What C{--metrics} serves.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread

from tests.association import Association, datagramSocket, frame
from tests.conversation import (
    GREET,
    LOGIN,
    connectTo,
    connectToName,
    failure,
    readAll,
    readExactly,
    request,
    tunnel,
)
from tests.loopback import Place, inReactor, passwords
from tests.test_start import refused
from twisted_socks5.authenticators import Identity
from twisted_socks5.observe.counts import (
    MAX_USERS,
    SECONDS,
    Counts,
    Histogram,
    total,
)
from twisted_socks5.observe.lag import EVERY, ReactorLag
from twisted_socks5.observe.metrics import Metrics
from twisted_socks5.service.status import StatusPages, statusFactory

if TYPE_CHECKING:
    from tests.conftest import Server

    Start = Callable[..., Server]

ROOT = Path(__file__).resolve().parent.parent

Samples = dict[str, float]


def asked(
    server: Server, path: str = "/metrics", method: str = "GET"
) -> tuple[int, str]:
    """
    A page's status and text.
    """
    found = re.search(r"metrics at 127\.0\.0\.1:(\d+)", server.output())
    assert found, server.output()
    connection = http.client.HTTPConnection("127.0.0.1", int(found[1]), timeout=10)
    connection.request(method, path)
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    return response.status, text


def samplesOf(text: str) -> Samples:
    """
    Numbers, by name and labels as they are written.
    """
    samples: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(
                f'{key}="{value}"' for key, value in sample.labels.items()
            )
            samples[sample.name + (f"{{{labels}}}" if labels else "")] = sample.value
    return samples


def samples(server: Server) -> Samples:
    status, text = asked(server)
    assert status == 200
    return samplesOf(text)


# -- what is counted --------------------------------------------------------------


def test_tunnels(start: Start, listener: socket.socket) -> None:
    """
    What a tunnel carries is seen while it lives, and stays when it has ended.
    """
    server = start("--metrics", "0")
    client, destination = tunnel(server, listener)
    with client, destination:
        client.sendall(b"four")
        assert readExactly(destination, 4) == b"four"
        destination.sendall(b"sixsix")
        assert readExactly(client, 6) == b"sixsix"
        now = samples(server)
        assert now['socks5_sessions{state="relaying"}'] == 1
        assert now['socks5_bytes_total{direction="up"}'] == 4
        assert now['socks5_bytes_total{direction="down"}'] == 6
        assert 'socks5_sessions_ended_total{command="CONNECT",reply="00"}' not in now
    server.waitForLog("session=2 ")
    now = samples(server)
    assert now['socks5_sessions{state="relaying"}'] == 0
    assert now['socks5_bytes_total{direction="up"}'] == 4
    assert now['socks5_bytes_total{direction="down"}'] == 6
    assert now['socks5_sessions_ended_total{command="CONNECT",reply="00"}'] == 1
    assert now['socks5_connect_seconds_count{outcome="succeeded"}'] == 1
    assert now['socks5_authentications_total{method="00",outcome="succeeded"}'] == 1
    assert now["socks5_workers"] == 1


def test_datagrams(start: Start) -> None:
    server = start("--metrics", "0")
    with datagramSocket() as target, Association(server) as client:
        client.socket.sendto(b"nonsense"[:2], client.relay)
        for payload in (b"one", b"three"):
            client.socket.sendto(frame(payload, target.getsockname()), client.relay)
            received, source = target.recvfrom(100)
            assert received == payload
        target.sendto(b"back", source)
        client.socket.recvfrom(100)
        for _ in range(2):  # while it lives, and when it has ended
            now = samples(server)
            assert now['socks5_datagrams_total{direction="up"}'] == 2
            assert now['socks5_datagrams_total{direction="down"}'] == 1
            assert now['socks5_bytes_total{direction="up"}'] == 8
            assert now['socks5_datagrams_dropped_total{reason="malformed"}'] == 1
            client.control.close()
            server.waitForLog("session=2 ")


def test_outcomes(start: Start) -> None:
    """
    Whatever clients make up, there are no more numbers than there are kinds.
    """
    server = start("--auth", "memory:user:password", "--metrics", "0")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    for sent, answer in [
        (LOGIN + connectTo(port), b"\x05\x02\x01\x00" + failure(5)),
        (LOGIN + connectToName(b"a.invalid", 1), b"\x05\x02\x01\x00" + failure(4)),
        (LOGIN + request(9, "127.0.0.1"), b"\x05\x02\x01\x00" + failure(7)),
        (LOGIN + request(77, "127.0.0.1"), b"\x05\x02\x01\x00" + failure(7)),
        (LOGIN[:-1] + b"?", b"\x05\x02\x01\x01"),
        (GREET, b"\x05\xff"),
    ]:
        with server.connect() as client:
            client.sendall(sent)
            assert readAll(client) == answer
    server.waitForLog("session=7 ")
    now = samples(server)
    assert {name: count for name, count in now.items() if "_ended_" in name} == {
        'socks5_sessions_ended_total{command="none",reply="none"}': 3,
        'socks5_sessions_ended_total{command="CONNECT",reply="05"}': 1,
        'socks5_sessions_ended_total{command="CONNECT",reply="04"}': 1,
        'socks5_sessions_ended_total{command="other",reply="07"}': 2,
    }
    assert {name: count for name, count in now.items() if "_authent" in name} == {
        'socks5_authentications_total{method="02",outcome="succeeded"}': 4,
        'socks5_authentications_total{method="02",outcome="failed"}': 1,
        'socks5_authentications_total{method="ff",outcome="failed"}': 1,
    }
    assert now['socks5_connect_seconds_count{outcome="failed"}'] == 2
    assert now['socks5_resolve_seconds_count{outcome="failed"}'] == 1
    text = asked(server)[1]
    assert "user" not in text.replace("Total user", "")
    assert "password" not in text
    assert "127.0.0.1" not in text


def test_users(start: Start, listener: socket.socket) -> None:
    """
    They are counted one by one if that is asked for.
    """
    server = start(
        *("--auth", "memory:user:password", "--metrics", "0"),
        *("--set", "count.per-user=yes"),
    )
    with server.connect() as client:
        client.sendall(LOGIN + connectTo(listener.getsockname()[1]) + b"data")
        destination, _ = listener.accept()
        with destination:
            assert readExactly(destination, 4) == b"data"
            name = 'socks5_user_bytes_total{direction="up",user="user"}'
            assert samples(server)[name] == 4
    server.waitForLog("session=2 ")
    assert samples(server)[name] == 4


@inReactor
async def test_manyUsers(place: Place) -> None:
    """
    Whom an authenticator makes up does not fill the memory.
    """
    proxy = await place.proxy(passwords(user="password"))
    proxy.counts.countUsers()
    session = proxy.registry.open(None, None, None)  # type: ignore[arg-type]  # nothing of them is looked at
    for number in range(MAX_USERS + 5):
        session.identity = Identity(f"user{number}")
        proxy.counts.sessionEnded(session)
    proxy.registry.close(session)
    assert len(proxy.counts.snapshot()["users"]) == MAX_USERS + 1


def test_lag() -> None:
    clock, lag = Clock(), Histogram()
    measuring = ReactorLag(clock, lag)
    measuring.startService()
    clock.advance(EVERY)
    clock.advance(EVERY + 0.2)
    clock.advance(EVERY)
    measuring.stopService()
    assert not clock.getDelayedCalls()
    counts = dict(zip([*SECONDS, 0], lag.snapshot()["counts"], strict=True))
    assert {bound: count for bound, count in counts.items() if count} == {
        SECONDS[0]: 2,
        0.25: 1,
    }


@given(st.lists(st.lists(st.floats(0, 100), max_size=20), max_size=4))
def test_sum(durations: list[list[float]]) -> None:
    """
    The numbers of several processes, each sent as JSON, are those that one would
    have.
    """
    every = Counts([], ["greeting"], lambda: {1})
    snapshots = []
    for some in durations:
        counts = Counts([], ["greeting"], lambda: {1})
        for one in (counts, every):
            for number, seconds in enumerate(some):
                one.connected("failed" if number % 2 else "succeeded", seconds)
                one.authenticated(number % 3, "succeeded")
        snapshots.append(json.loads(json.dumps(counts.snapshot())))
    summed, expected = total(snapshots), every.snapshot()
    if not durations:
        assert summed == {}
        return
    assert summed.pop("workers") == len(durations)
    for outcome, histogram in expected.pop("connecting").items():
        found = summed["connecting"].pop(outcome)
        assert found["counts"] == histogram["counts"]
        assert found["sum"] == pytest.approx(histogram["sum"])
    assert summed.pop("connecting") == {}
    del expected["workers"]
    assert summed == expected


# -- how it is served -------------------------------------------------------------


def test_pages(start: Start) -> None:
    server = start("--metrics", "0")
    assert asked(server, "/healthz") == (200, "ok\n")
    assert asked(server, "/readyz") == (200, "ready\n")
    assert asked(server, "/metrics", "HEAD") == (200, "")
    for path in ("/", "/metrics/", "/metricsx", "/<script>", "/..", "//metrics"):
        assert asked(server, path) == (404, "not found\n")
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "SCRIPT"):
        assert asked(server, "/metrics", method) == (405, "method not allowed\n")
    assert asked(server, "/metrics?x=1")[0] == 200


def portOf(server: Server) -> int:
    return int(server.output().partition("metrics at 127.0.0.1:")[2].split()[0])


@pytest.mark.parametrize(
    "fields", ["Content-Length: 5000", "Transfer-Encoding: chunked"]
)
def test_bodies(start: Start, fields: str) -> None:
    """
    Those of any size are not taken.
    """
    server = start("--metrics", "0")
    with socket.create_connection(("127.0.0.1", portOf(server)), 10) as client:
        client.sendall(
            f"POST /metrics HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n".encode()
        )
        try:
            assert client.recv(1) == b""
        except ConnectionResetError:
            pass


def test_tooManyConnections(start: Start) -> None:
    server = start("--metrics", "0")
    port = portOf(server)
    many = [socket.create_connection(("127.0.0.1", port), 10) for _ in range(32)]
    assert not isServed(port)
    many.pop(0).close()
    server.waitUntil(lambda: isServed(port), 10)
    for one in many:
        one.close()


def isServed(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 10) as client:
            client.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
            return b" 200 " in readAll(client)
    except ConnectionResetError:
        return False


def test_notThroughTheProxy(start: Start) -> None:
    server = start("--metrics", "0")
    with server.connect() as client:
        client.sendall(GREET + connectTo(portOf(server)))
        assert readAll(client) == b"\x05\x00" + failure(2)


def test_UNIX(start: Start, tmp_path: Path) -> None:
    """
    Any endpoint will do.
    """
    start("--metrics", f"unix:{tmp_path / 'metrics'}")
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(tmp_path / "metrics"))
        client.sendall(b"GET /readyz HTTP/1.0\r\n\r\n")
        assert readAll(client).endswith(b"\r\n\r\nready\n")


@inReactor
async def test_notReady(place: Place) -> None:
    """
    Not before it listens, nor once it is told to stop.
    """
    proxy = await place.proxy()
    pages = StatusPages(proxy.counts.snapshot, lambda: proxy.accepting.isOpen)
    port = await place.listen(statusFactory(pages))
    assert (await fetched(place, port, "/readyz"))[0] == b"503"
    proxy.accepting.watch(place.ports[0])
    assert (await fetched(place, port, "/readyz"))[0] == b"200"
    proxy.accepting.stop()
    assert (await fetched(place, port, "/readyz"))[0] == b"503"
    assert (await fetched(place, port, "/healthz"))[0] == b"200"


@inReactor
async def test_snapshotsOfOthers(place: Place) -> None:
    """
    Numbers may come later, or not at all.
    """
    waiting: list[Deferred[object]] = []

    def snapshot() -> Deferred[object]:
        waiting.append(Deferred())
        return waiting[-1]

    pages = StatusPages(snapshot, lambda: True)  # type: ignore[arg-type]  # a plain function will do
    port = await place.listen(statusFactory(pages))
    answer = fetched(place, port, "/metrics")
    await place.until(lambda: waiting)
    waiting[0].callback({"workers": 3})
    status, text = await answer
    assert (status, samplesOf(text)["socks5_workers"]) == (b"200", 3)


def fetched(place: Place, port: int, path: str) -> Deferred[tuple[bytes, str]]:
    """
    A page's status and text.
    """

    def fetch() -> tuple[bytes, str]:
        with socket.create_connection(("127.0.0.1", port), 10) as client:
            client.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
            head, _, body = readAll(client).partition(b"\r\n\r\n")
        return head.split()[1], body.decode()

    fetching: Deferred[tuple[bytes, str]] = deferToThread(fetch)
    return fetching


def test_reload(start: Start, listener: socket.socket, tmp_path: Path) -> None:
    """
    What was counted stays counted, and what is counted is counted in the same place,
    when another configuration is in force.
    """
    file = tmp_path / "socks5.toml"
    file.write_text("metrics = 0\n[timeout]\nconnect = 20\n")
    server = start("--config", str(file))
    for times in range(1, 4):
        client, destination = tunnel(server, listener)
        with client, destination:
            client.sendall(b"data")
            assert readExactly(destination, 4) == b"data"
        with server.connect() as client:
            client.sendall(GREET + connectToName(b"a.invalid", 1))
            assert readAll(client) == b"\x05\x00" + failure(4)
        server.waitForLog(" session=", 1 + 2 * times)
        now = samples(server)
        assert now['socks5_bytes_total{direction="up"}'] == 4 * times
        assert now['socks5_sessions_ended_total{command="CONNECT",reply="00"}'] == times
        assert now['socks5_connect_seconds_count{outcome="succeeded"}'] == times
        assert now['socks5_resolve_seconds_count{outcome="failed"}'] == times
        file.write_text(f"metrics = 0\n[timeout]\nconnect = {20 + times}\n")
        server.process.send_signal(signal.SIGHUP)
        server.waitForLog("the configuration was loaded", times)


def test_limits(start: Start) -> None:
    server = start("--metrics", "0", "--set", "limit.sessions=1")
    with server.connect() as one:
        one.sendall(GREET)
        assert readExactly(one, 2) == b"\x05\x00"
        try:  # it may be refused before it has connected
            with server.connect() as another:
                assert another.recv(1) == b""
        except ConnectionResetError:
            pass
        assert samples(server)['socks5_limits_hit_total{limit="sessions"}'] == 1


def test_workers(start: Start, listener: socket.socket) -> None:
    """
    Their numbers are summed up, and what one has counted stays when it has ended.
    """
    server = start("--workers", "2", "--metrics", "0")
    server.waitForLog(" serves, as process", 2)
    assert asked(server, "/readyz") == (200, "ready\n")
    name = 'socks5_bytes_total{direction="up"}'
    pairs = [tunnel(server, listener) for _ in range(20)]
    for client, destination in pairs:
        client.sendall(b"data")
        assert readExactly(destination, 4) == b"data"
    now = samples(server)
    assert now["socks5_workers"] == 2
    assert now['socks5_sessions{state="relaying"}'] == 20
    assert now[name] == 80
    with server.connect() as client:  # no way there through any worker
        client.sendall(GREET + connectTo(portOf(server)))
        assert readAll(client) == b"\x05\x00" + failure(2)
    pid = int(server.output().partition(" serves, as process ")[2].split()[0])
    os.kill(pid, signal.SIGKILL)
    server.waitForLog(" serves, as process", 3)
    server.defects = 1
    now = samples(server)
    assert now["socks5_workers"] == 2
    assert now['socks5_sessions{state="relaying"}'] < 20
    assert now[name] == 80
    for pair in pairs:
        for one in pair:
            one.close()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_stopping(start: Start, listener: socket.socket, workers: str) -> None:
    """
    While sessions have time to finish, the server is well, but takes no clients.
    """
    server = start(
        *("--workers", workers, "--metrics", "0", "--set", "timeout.grace=30")
    )
    client, destination = tunnel(server, listener)
    with client, destination:
        client.sendall(b"data")
        assert readExactly(destination, 4) == b"data"
        server.process.send_signal(signal.SIGTERM)
        server.waitUntil(lambda: asked(server, "/readyz") == (503, "not ready\n"), 10)
        assert asked(server, "/healthz") == (200, "ok\n")
        now = samples(server)
        assert now['socks5_sessions{state="relaying"}'] == 1
        assert now['socks5_bytes_total{direction="up"}'] == 4
    server.process.wait(10)


# -- starts that are refused ---------------------------------------------------------


def test_wrongEndpoint() -> None:
    assert "--metrics abc: expected a number" in refused(
        "--port", "0", "--metrics", "abc"
    )
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"--metrics tcp:{port}" in refused("--port", "0", "--metrics", str(port))
    assert "expected no or yes" in refused("--set", "count.per-user=maybe")


def test_withoutTheExtra() -> None:
    hidden = (
        "import sys; sys.modules['prometheus_client'] = None; "
        "sys.argv = ['twist', 'socks5', '--port', '0', '--metrics', '0']; "
        "from twisted.application.twist._twist import Twist; Twist.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", hidden], capture_output=True, text=True, timeout=30
    )
    assert done.returncode != 0
    (line,) = done.stderr.strip().splitlines()
    assert "pip install 'twisted-socks5[metrics]'" in line


# -- what is read by others ------------------------------------------------------------


def everything() -> str:
    """
    A page on which each metric has a sample.
    """
    counts = Counts([], ["greeting"], lambda: {1})
    counts.countUsers()
    counts.connected("succeeded", 0.5)
    counts.resolved("failed", 0.5)
    counts.authenticated(2, "failed")
    counts.read("limitsHit", lambda: {"sessions": 1})
    snapshot = counts.snapshot() | {
        "ended": {"CONNECT": {"00": 1}},
        "dropped": {"size": 1},
        "users": {'us"er\n\\': {"up": 1, "down": 2}},
    }
    return Metrics().render(snapshot).decode()


def test_promtool() -> None:
    """
    Prometheus' own tool has nothing to say against it.
    """
    program = shutil.which("promtool")
    if program is None:
        assert os.environ.get("CI") != "true", "promtool is missing"
        pytest.skip("promtool is missing (Debian: prometheus)")
    done = subprocess.run(
        [program, "check", "metrics"],
        input=everything(),
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_reference() -> None:
    """
    The table in the documentation has all metrics, with their labels, and no other.
    """
    page = (ROOT / "docs" / "reference" / "metrics.rst").read_text()
    documented = {
        (found[1], found[2] or "")
        for found in re.finditer(
            r"^   \* - ``(socks5_\w+)(?:\{(.*?)\})?``", page, re.MULTILINE
        )
    }
    served = set()
    for family in text_string_to_metric_families(everything()):
        labels = [label for label in family.samples[0].labels if label != "le"]
        name = family.name + ("_total" if family.type == "counter" else "")
        served.add((name, ",".join(sorted(labels))))
    assert documented == {one for one in served if one[0].startswith("socks5_")}
