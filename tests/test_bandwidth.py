# Copyright (c) twisted_socks5 contributors.
# See LICENSE for details.

"""
Bytes a second: who gets how many, and that none is lost.
"""

from __future__ import annotations

import hashlib
import re
import select
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.ssl import optionsForClientTLS
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from zope.interface import implementer

from tests.association import MOST, Association, datagramSocket
from tests.certificates import forLocalhost
from tests.conversation import (
    GREET,
    connectTo,
    pattern,
    readAll,
    readExactly,
    sending,
    tunnel,
)
from tests.loopback import HalfClosingPeer, Place, factoryOf, inReactor
from twisted_socks5 import Decision, Guard, Limits, SOCKS5ClientEndpoint, Timeouts
from twisted_socks5.interfaces import ILedger
from twisted_socks5.limits import Admission, LocalLedger
from twisted_socks5.limits.bandwidth import Bandwidths, Meter
from twisted_socks5.limits.claims import Claim
from twisted_socks5.relay import AutomaticRelay, PortableRelay

if TYPE_CHECKING:
    from tests.conftest import Server

PAYLOAD = pattern("bandwidth", 300_000)


def digest(data: bytes | bytearray) -> str:
    return hashlib.sha256(data).hexdigest()


# -- the meters, by a clock ----------------------------------------------------------


class Flow:
    """
    A direction that always has something to carry, while it is wanted.
    """

    def __init__(self, meter: Meter, size: int = 65536) -> None:
        self.meter = meter
        self.size = size
        self.carried = 0
        self.isWanted = True
        meter.resume = self.go

    def go(self) -> None:
        while self.isWanted and self.meter.refill():
            count = min(self.meter.credit, self.size)
            self.meter.credit -= count
            self.carried += count


class Line:
    """
    Sessions, bounded together and each on its own.
    """

    def __init__(self, ledger: ILedger | None = None) -> None:
        self.clock = Clock()
        own = LocalLedger(self.clock.seconds)
        self.bandwidths = Bandwidths(self.clock, ledger or own, own)

    def flow(self, *shared: Claim, own: int = 0, size: int = 65536) -> Flow:
        mine = [Claim("", "bandwidth-per-session", "", own)] if own else []
        return Flow(self.bandwidths.meters(list(shared), mine).up, size)

    def run(self, seconds: float) -> None:
        self.clock.pump([0.01] * round(seconds * 100))


def of(who: str, rate: int) -> Claim:
    return Claim("", "bandwidth-per-user", who, rate)


@settings(deadline=None)
@given(st.integers(1, 10**9), st.integers(1, 65536))
def test_oneAlone(rate: int, size: int) -> None:
    """
    It gets what there is, at no time more, and with nothing lost.
    """
    line = Line()
    flow = line.flow(own=rate, size=max(size, rate // 5000))
    flow.go()
    most = max(1, rate / 4)
    assert flow.carried <= most
    for step in range(1, 101):
        line.run(0.05)
        # Half a second's worth, since little by little takes the clock's steps.
        assert most + rate * step / 20 >= flow.carried
    assert flow.carried >= rate * 4.5 - 1


def test_itIsSmooth() -> None:
    line = Line()
    flow = line.flow(own=1_000_000)
    flow.go()
    line.run(1)
    for _ in range(20):
        before = flow.carried
        line.run(0.1)
        assert 30_000 <= flow.carried - before <= 170_000


def test_sharesAreEqual() -> None:
    """
    However much each takes at once.
    """
    line = Line()
    flows = [line.flow(of("a", 1_000_000), size=100 * 4**n) for n in range(5)]
    for flow in flows:
        flow.go()
    line.run(20)
    assert sum(flow.carried for flow in flows) >= 19_500_000
    for flow in flows:
        assert abs(flow.carried - 4_000_000) < 200_000


@pytest.mark.parametrize("rate", [10_000, 4_000_000])
def test_changedRate(rate: int) -> None:
    """
    It is at once that of all who share it, those who wait too; nobody has what was
    saved at the other.
    """
    line = Line()
    claims, own = of("a", 400_000), Claim("", "bandwidth-per-session", "", 10**9)
    meters = [line.bandwidths.meters([claims], [own]) for _ in range(3)]
    flows = [Flow(each.up) for each in meters]
    for flow in flows:
        flow.go()
    line.run(2)
    before = [flow.carried for flow in flows]
    meters[0].goBy([of("a", rate)], [own])  # one that is the first to hear of it
    line.run(0.1)
    for each in meters[1:]:
        each.goBy([of("a", rate)], [own])
    line.run(9.9)
    carried = [flow.carried - had for flow, had in zip(flows, before, strict=True)]
    assert 9.5 * rate <= sum(carried) <= 10.5 * rate + 3 * 40_000
    assert max(carried) <= 1.2 * min(carried) + 40_000
    for flow in flows:
        flow.isWanted = False
    for each in meters:
        each.goBy([], [])
        assert each.up.refill()
        each.stop()
        each.goBy([of("a", rate)], [])
    assert line.bandwidths._used == {}
    assert line.clock.getDelayedCalls() == []


def test_inTurn() -> None:
    """
    Who comes later and wants less does not overtake.
    """
    line = Line()
    shared = of("a", 1_000_000)
    first, second = line.flow(shared), line.flow(shared, own=1000)
    first.go()
    second.go()
    assert first.carried > 100_000
    assert second.carried == 0
    line.run(0.2)
    assert second.carried > 0


def test_whatIsNotUsedIsForTheOthers() -> None:
    line = Line()
    quiet, busy = (line.flow(of("a", 1_000_000)) for _ in range(2))
    quiet.go()
    busy.go()
    line.run(2)
    quiet.isWanted = False
    before = busy.carried
    line.run(10)
    assert busy.carried - before > 9_500_000


def test_theNarrowestCounts() -> None:
    """
    One that is bounded by more does not keep others from what it cannot use.
    """
    line = Line()
    both, wide = of("user", 1_000_000), Claim("", "bandwidth", "", 3_000_000)
    narrow = [line.flow(wide, both, own=200_000), line.flow(wide, both)]
    other = line.flow(wide, of("another", 10_000_000))
    for flow in (*narrow, other):
        flow.go()
    line.run(10)
    assert narrow[0].carried <= 2_050_000
    assert sum(flow.carried for flow in narrow) <= 10_250_000
    total = sum(flow.carried for flow in (*narrow, other))
    assert 28_500_000 <= total <= 30_750_000
    assert narrow[0].carried >= 1_500_000


def test_oneThatGoesWhileItWaits() -> None:
    """
    The others do not wait for it, and nothing is left of it.
    """
    line = Line()
    meters = [line.bandwidths.meters([of("a", 1000)], []) for _ in range(3)]
    flows = [Flow(each.up) for each in meters]
    for flow in flows:
        flow.go()
    meters[0].stop()
    before = flows[0].carried
    line.run(10)
    assert flows[0].carried == before
    assert flows[1].carried + flows[2].carried >= 9_500
    meters[1].stop()
    meters[2].stop()
    assert line.clock.getDelayedCalls() == []


def test_debtsAreMadeGood() -> None:
    """
    What could not be bounded beforehand is not given twice.
    """
    line = Line()
    flow = line.flow(own=1000)
    assert not flow.meter.spend(5000)
    line.run(4.5)
    assert flow.carried == 0
    line.run(10)
    assert 9_000 <= flow.carried <= 10_000


def test_datagrams() -> None:
    line = Line()
    meter = line.flow(own=1000).meter
    meter.resume = None
    carried = 0
    for _ in range(1000):
        carried += 300 if meter.carry(300) else 0
        line.run(0.01)
    assert 9_400 <= carried <= 10_600


@implementer(ILedger)
class Elsewhere:
    """
    Answers a while later.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.ledger = LocalLedger(clock.seconds)
        self.asked = 0
        self.isBroken = False

    def admit(self, claims: Sequence[Claim]) -> None:
        raise AssertionError

    def release(self, claims: Sequence[Claim]) -> None:
        raise AssertionError

    def spend(self, amounts: Mapping[Claim, int]) -> list[Claim]:
        raise AssertionError

    def buy(self, claim: Claim, amount: int) -> Deferred[int]:
        self.asked += 1
        answer: Deferred[int] = Deferred()

        def tell() -> None:
            if self.isBroken:
                answer.errback(OSError())
            else:
                answer.callback(self.ledger.buy(claim, amount))

        self.clock.callLater(0.005, tell)
        return answer


def test_ledgerElsewhere() -> None:
    """
    It is asked for lumps, now and then.
    """
    line = Line()
    ledger = Elsewhere(line.clock)
    line.bandwidths = Bandwidths(line.clock, ledger, ledger)
    flows = [line.flow(of("a", 1_000_000)) for _ in range(3)]
    for flow in flows:
        flow.go()
    line.run(10)
    total = sum(flow.carried for flow in flows)
    assert 9_500_000 <= total <= 10_250_000
    for flow in flows:
        assert abs(flow.carried - total / 3) < 200_000
    assert ledger.asked < 500


def test_ledgerElsewhereThatFails() -> None:
    """
    Nothing is carried, until it answers again.
    """
    line = Line()
    ledger = Elsewhere(line.clock)
    line.bandwidths = Bandwidths(line.clock, ledger, ledger)
    ledger.isBroken = True
    flow = line.flow(of("a", 1_000_000))
    with capturedLogs() as events:
        flow.go()
        line.run(0.1)
    assert flow.carried == 0
    assert events
    ledger.isBroken = False
    line.run(1)
    assert flow.carried >= 900_000


# -- tunnels --------------------------------------------------------------------------

RELAYS: dict[str, Any] = {"auto": AutomaticRelay, "portable": PortableRelay}


@pytest.mark.parametrize("relay", RELAYS)
@pytest.mark.parametrize("toClient", [True, False])
@pytest.mark.parametrize("isTLS", [True, False])
@inReactor
async def test_noMoreThanThereIs(
    place: Place, relay: str, toClient: bool, isTLS: bool
) -> None:
    """
    While the clock stands still no more comes than was saved up, and one read where
    that cannot be bounded; in the end all has come.
    """
    clock = Clock()
    proxy = await place.proxy(
        relay=RELAYS[relay](place.reactor, Timeouts()),
        admission=Admission(clock, Limits(bandwidthPerSession=100_000)),
    )
    port: int = proxy.port  # type: ignore[attr-defined]  # Place.proxy has added it
    if isTLS:
        port = await place.listen(proxy, isTLS=True)
    target = await place.serve(HalfClosingPeer)
    endpoint: Any = place.to(port)
    if isTLS:
        options = optionsForClientTLS("localhost", trustRoot=forLocalhost())
        endpoint = wrapClientTLS(options, endpoint)
    client = await endpoint.connect(factoryOf(HalfClosingPeer))
    client.transport.write(GREET + connectTo(target))
    await place.until(lambda: len(client.received) == 12)
    client.received = b""
    await place.until(lambda: place.protocols)
    destination = place.protocols[0]
    one, other = (destination, client) if toClient else (client, destination)
    one.transport.write(PAYLOAD)
    one.transport.loseConnection()
    saved, portion = 25_000, 10_000
    ahead = 16384 if isTLS else portion  # a record of TLS's is read as a whole
    await place.until(lambda: len(other.received) >= saved - portion)
    for step in range(1, 30):
        for _ in range(10):
            await place.pause(0)
        assert len(other.received) <= saved + ahead + portion * (step - 1)
        clock.advance(0.1)
    clock.pump([0.1] * 10)
    for _ in range(100):
        await place.pause(0.01)
        clock.advance(0.1)
        if other.reason:
            break
    assert digest(other.received) == digest(PAYLOAD)
    for each in (client, destination):
        if each.reason is None:
            each.transport.abortConnection()
    await place.until(lambda: not len(proxy.registry))
    assert clock.getDelayedCalls() == []


@pytest.mark.parametrize(
    "limit", ["bandwidth", "bandwidth-per-client", "bandwidth-per-session"]
)
def test_nothingIsLost(
    startEach: Callable[..., Server], listener: socket.socket, limit: str
) -> None:
    """
    Neither of several tunnels at once, in both directions, which are closed when all
    was sent.
    """
    server = startEach("--set", f"limit.{limit}=2M")
    pairs = [tunnel(server, listener) for _ in range(2)]
    for client, destination in pairs:
        for one in (client, destination):
            one.settimeout(60)
    (client, destination), (another, its) = pairs
    with (
        sending(client, PAYLOAD, thenEnd=True),
        sending(destination, PAYLOAD[::-1], thenEnd=True),
        sending(another, PAYLOAD, thenEnd=True),
    ):
        assert digest(readAll(destination)) == digest(PAYLOAD)
        assert digest(readAll(client)) == digest(PAYLOAD[::-1])
        assert digest(readAll(its)) == digest(PAYLOAD)
    for client, destination in pairs:
        client.close()
        destination.close()
    server.waitForDescriptors(0)
    server.waitForLog("up=300000 down=300000 ")


def test_readerThatDoesNotRead(
    startEach: Callable[..., Server], listener: socket.socket
) -> None:
    """
    A limit, and a side that takes nothing for a while, at once.
    """
    server = startEach("--set", "limit.bandwidth-per-user=30M")
    client, destination = tunnel(server, listener)
    payload = PAYLOAD * 60
    with client, destination:
        destination.settimeout(60)
        client.settimeout(60)
        with sending(client, payload, thenEnd=True):
            server.waitForDescriptors(2)
            assert readExactly(destination, 1_000_000) == payload[:1_000_000]
            assert digest(readAll(destination)) == digest(payload[1_000_000:])


@pytest.mark.parametrize("relay", [AutomaticRelay, PortableRelay])
@pytest.mark.parametrize("before", [0, 1_000_000_000])
@inReactor
async def test_changedMeanwhile(place: Place, relay: Any, before: int) -> None:
    """
    A tunnel that lives is bounded by what bounds it now, also if it was not before,
    and no more when nothing does; no byte is lost by that.
    """
    admission = Admission(place.reactor, Limits(bandwidth=before))
    factory: Any = await place.proxy(
        relay=relay(place.reactor, Timeouts()), admission=admission, policy=Anything()
    )
    port = await place.serve(HalfClosingPeer)
    client: Any = await SOCKS5ClientEndpoint(
        place.to(factory.port), "127.0.0.1", port
    ).connect(factoryOf(HalfClosingPeer))
    (destination,) = place.protocols
    for one, other in ((client, destination), (destination, client)):
        one.transport.write(3 * PAYLOAD)
        await place.until(lambda: len(other.received) == 3 * len(PAYLOAD))  # noqa: B023  # awaited at once
        other.received = b""
    admission.replace(Limits(bandwidth=10_000))
    await factory.reviseSessions()
    began = place.reactor.seconds()
    for one in (client, destination):
        one.transport.write(30 * PAYLOAD)
    await place.until(lambda: client.received and destination.received)
    await place.pause(0.3)
    passed = place.reactor.seconds() - began
    for one in (client, destination):
        # A burst, what comes in one read, and what was credited before.
        assert len(one.received) <= 10_000 * (passed + 0.25) + 3 * 65536
    admission.replace(Limits())
    await factory.reviseSessions()
    for one in (client, destination):
        await place.until(lambda: len(one.received) == 30 * len(PAYLOAD))  # noqa: B023  # awaited at once
        assert digest(one.received) == digest(30 * PAYLOAD)
    client.transport.loseConnection()
    destination.transport.loseConnection()
    await place.until(lambda: not len(factory.registry))
    assert factory.admission._bandwidths._used == {}


class Anything(Guard):
    def checkAddress(self, request: Any, address: Any) -> Decision:
        return Decision.allow()


@pytest.mark.parametrize("relay", RELAYS)
@inReactor
async def test_sentWithTheRequest(place: Place, relay: str) -> None:
    """
    It has come already, and is made good before there is more.
    """
    clock = Clock()
    proxy = await place.proxy(
        relay=RELAYS[relay](place.reactor, Timeouts()),
        admission=Admission(clock, Limits(bandwidthPerSession=100_000)),
    )
    target = await place.serve(HalfClosingPeer)
    port: int = proxy.port  # type: ignore[attr-defined]  # Place.proxy has added it
    client: Any = await place.to(port).connect(factoryOf(HalfClosingPeer))
    client.transport.write(GREET + connectTo(target) + PAYLOAD[:50_000])
    await place.until(lambda: place.protocols)
    destination = place.protocols[0]
    await place.until(lambda: len(destination.received) == 50_000)
    client.transport.write(PAYLOAD[50_000:51_000])
    for _ in range(20):
        clock.advance(0.01)  # with what was saved up, 45 KB
        await place.pause(0)
    assert len(destination.received) == 50_000
    clock.pump([0.01] * 20)
    await place.until(lambda: len(destination.received) == 51_000)
    assert destination.received == PAYLOAD[:51_000]
    client.transport.abortConnection()
    await place.until(lambda: not len(proxy.registry))


# -- datagrams --------------------------------------------------------------------------


def test_datagramsOverIt(start: Callable[..., Server]) -> None:
    """
    They are dropped, each way, and counted; later others get through.
    """
    server = start("--set", "limit.bandwidth-per-session=4K")
    with datagramSocket() as target, Association(server) as client:
        client.assertServed(target)
        for _ in range(20):
            client.send(bytes(1000), target.getsockname())
        source = isThrough(
            server, target, lambda: client.send(b"up", target.getsockname())
        )
        for _ in range(20):
            target.sendto(bytes(1000), source)
        isThrough(server, client.socket, lambda: target.sendto(b"down", source))
        client.control.close()
        server.waitForLog("dropped=bandwidth:")
        found = re.search(
            "datagramsUp=([0-9]+) datagramsDown=([0-9]+)", server.output()
        )
        assert found is not None
        assert max(map(int, found.groups())) < 15


def isThrough(
    server: Server, receiver: socket.socket, send: Callable[[], object]
) -> tuple[str, int]:
    """
    Send small ones until one gets through.

    @return: Where it came from.
    """
    sources: list[tuple[str, int]] = []

    def tryOne() -> bool:
        send()
        while select.select([receiver], [], [], 0.02)[0]:
            payload, source = receiver.recvfrom(MOST)
            if len(payload) < 100:
                sources.append(source)
                return True
        return False

    server.waitUntil(tryOne)
    return sources[0]
