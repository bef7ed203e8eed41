"""NATS goes away and comes back: edges keep their clients, publishers are told, delivery resumes by itself.

Core NATS delivers at most once, and an acknowledgement says that nats-server has a publication, not that subscribers
have it. A server that is killed may have answered a publisher and not yet written to another edge, and when it is back
one edge may find it before the other. So only what was acknowledged while both edges were connected, and not in the
last moment before the kill, must have been delivered; the rest must not come twice, late or altered.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable

import msgspec
import pytest

from tests.support.checker import Checker, Record, payload, record
from tests.support.edges import EdgeProcess, Mesh, token
from tests.support.http import request, upgrade
from tests.support.node import Node
from tests.support.protocol import protocol
from tests.support.raw_client import Clients, RawClient, joined, publication
from tests.support.sdk import (
    FORMATS,
    SdkClient,
    connected,
    error_of,
    event,
    events_of,
    subscribed,
)
from tests.support.sdk_python import PythonClient
from tests.support.wait import PATIENCE, eventually

CHANNEL = "live:steady"
RAW = 20
"""Raw subscribers of each edge, beside one SDK client of each kind."""
LAST_MOMENT = 0.5
SDK_GIVES_UP = 5.0
"""Seconds after which the SDKs themselves give up on a command."""
ANSWERED = 4.0
"""Seconds within which an edge answers, whatever NATS does (docs/configuration.md: nats.publish_timeout)."""
ALLOWANCE = 2.0
"""Seconds more for a machine that stands still meanwhile."""
RESUME_WITHIN = 20.0


class Outcome(msgspec.Struct, frozen=True):
    """What became of one publication, with the times of the publish and of the answer."""

    sent: Record
    began: float
    ended: float
    code: int
    temporary: bool


class Publisher:
    """Publishes one after the other on one edge until it is stopped."""

    def __init__(self, name: str, client: RawClient) -> None:
        self._name = name
        self._client = client
        self._going = True
        self.outcomes: list[Outcome] = []
        self.task = asyncio.create_task(self._run())

    @property
    def refused(self) -> int:
        """How many publications got an error so far."""
        return sum(1 for outcome in self.outcomes if outcome.code)

    async def stop(self) -> None:
        """Stop after the publication that is under way."""
        self._going = False
        await self.task

    async def _run(self) -> None:
        sequence = 0
        while self._going:
            sequence += 1
            data = payload(self._name, sequence)
            began = time.monotonic()
            reply = await self._client.command(publish={"channel": CHANNEL, "data": data})
            error = reply.get("error", {})
            self.outcomes.append(
                Outcome(
                    record(CHANNEL, data),
                    began,
                    time.monotonic(),
                    error.get("code", 0),
                    error.get("temporary", False),
                )
            )
            await asyncio.sleep(0.005)  # the pace of a publisher, nothing waits for it


class Arrivals:
    """Feeds the checker from raw subscribers, and notes when each edge delivered last."""

    def __init__(self, checker: Checker) -> None:
        self._checker = checker
        self.first_after: dict[str, float] = {}
        self.mark = float("inf")
        """From this time on the first arrival on each edge is noted."""

    def listener(self, edge: EdgeProcess, name: str) -> Callable[[bytes], None]:
        """Return the listener of one raw subscriber."""
        self._checker.subscribed(name, [CHANNEL])

        def on_push(line: bytes) -> None:
            found = publication(line)
            if found is None or found[0] != CHANNEL:
                return
            self._checker.received(name, record(found[0], found[1]["data"]))
            now = time.monotonic()
            if now >= self.mark:
                self.first_after.setdefault(edge.name, now)

        return on_push


@contextlib.asynccontextmanager
async def crowd(
    mesh: Mesh, node: Node, arrivals: Arrivals
) -> AsyncIterator[tuple[list[RawClient], list[SdkClient]]]:
    """Subscribe raw clients and one SDK client of each kind on each edge."""
    raws: list[RawClient] = []
    sdks: list[SdkClient] = []
    try:
        for edge in mesh.edges:
            for number in range(RAW):
                name = f"{edge.name} raw-{number}"
                raws.append(
                    await joined(edge.ws_url, token(name), CHANNEL, on_push=arrivals.listener(edge, name))
                )
            for wire in FORMATS:
                sdks.append(await node.create(edge.ws_url, wire=wire, token=token("js")))
                sdks.append(PythonClient(edge.ws_url, wire=wire, token=token("py")))
        for sdk in sdks:
            await connected(sdk)
            await subscribed(sdk, CHANNEL)
        yield raws, sdks
    finally:
        for raw in raws:
            raw.abort()
        for sdk in sdks:
            await sdk.close()


@protocol("handshake.broker_away", "error.100")
async def test_a_restart_of_nats_costs_clients_nothing_but_a_pause(
    mesh: Mesh, node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    """Killed and started again: no client is closed, publishers get an ack or error 100, subscribers get the rest.

    While it is away the edges are ready but refuse new handshakes with 503, and a subscription to a new channel gets a
    temporary error that the SDKs repeat until it succeeds.
    """
    checker = Checker()
    arrivals = Arrivals(checker)
    async with crowd(mesh, node, arrivals) as (raws, sdks):
        publishers = [Publisher("p1", raws[0]), Publisher("p2", raws[-1])]
        await eventually(lambda: all(len(each.outcomes) > 50 for each in publishers))
        gone = time.monotonic()
        mesh.nats.kill()
        await eventually(lambda: all(each.outcomes[-1].code for each in publishers))
        await check_while_away(mesh, raws, sdks)
        await eventually(
            lambda: all(each.refused > 150 for each in publishers), message="an outage of some length"
        )

        arrivals.mark = time.monotonic()
        mesh.nats.start()
        started = time.monotonic()
        await eventually(lambda: len(arrivals.first_after) == len(mesh.edges), RESUME_WITHIN, "delivery")
        resumed = {name: when - started for name, when in arrivals.first_after.items()}
        await eventually(lambda: accepts(mesh), RESUME_WITHIN, "handshakes")
        back = time.monotonic()
        for sdk in sdks:
            await event(sdk, "subscribed", channel="live:new", timeout=2 * PATIENCE)
        subscribed_after = time.monotonic() - started
        counts = [len(each.outcomes) for each in publishers]
        await eventually(
            lambda: all(len(each.outcomes) > n + 50 for each, n in zip(publishers, counts, strict=True))
        )
        for each in publishers:
            await each.stop()
        outcomes = [outcome for each in publishers for outcome in each.outcomes]
        classify(checker, outcomes, gone - LAST_MOMENT, back)
        await raws[0].command(publish={"channel": "live:new", "data": "new"})
        for sdk in sdks:
            await event(sdk, "publication", channel="live:new")
        await checker.check_when_complete(PATIENCE)

        for raw in raws:
            assert not raw.told_to_go.is_set()
            assert not raw.gone.is_set()
        for sdk in sdks:
            assert [each.code for each in events_of(sdk, "connecting")] == [0]
            assert events_of(sdk, "error") == events_of(sdk, "disconnected") == []
    with capsys.disabled():
        codes = dict(Counter(outcome.code for outcome in outcomes))
        times = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in sorted(resumed.items()))
        print(
            f"\noutage of {started - gone:.1f} s: {checker.counts}; publishes by code {codes}; delivery again after "
            f"NATS was back: {times}; the SDKs' waiting subscriptions after {subscribed_after:.1f} s"
        )


async def check_while_away(mesh: Mesh, raws: list[RawClient], sdks: list[SdkClient]) -> None:
    """Look at everything an edge says while NATS is away."""
    for edge in mesh.edges:
        answer = await upgrade(edge.websocket_url)
        assert answer.status == 503
        assert int(answer.headers["retry-after"]) >= 1
        assert (await edge.ready()).status == 200
        assert (await request(f"{edge.internal_url}/live")).status == 200
        metrics = await edge.metrics()
        assert metrics.value("tidewire_nats_connected") == 0
        assert metrics.value("tidewire_handshakes_total", outcome="broker_away") >= 1
        assert metrics.value("tidewire_connections") == RAW + 2 * len(FORMATS)
    for raw in (raws[1], raws[-2]):
        error = (await raw.command(subscribe={"channel": "live:raw"}))["error"]
        assert (error["code"], error["temporary"]) == (100, True)
    for sdk in sdks:
        refused = await error_of(sdk.publish(CHANNEL, payload("refused", 1)))
        assert (refused.code, refused.temporary) == (100, True)
        await sdk.subscribe("live:new")
        failed = await event(sdk, "subscription_error", channel="live:new")
        assert failed.code == 100


def classify(checker: Checker, outcomes: list[Outcome], away: float, back: float) -> None:
    """Tell the checker what must be delivered and what may be; see the module's text."""
    for each in outcomes:
        assert each.code == 0 or (each.code == 100 and each.temporary), each
        assert each.ended - each.began < SDK_GIVES_UP, each
        if each.code == 0 and (each.ended < away or each.began > back):
            checker.acknowledged(each.sent)
        else:
            checker.unknown(each.sent)


async def accepts(mesh: Mesh) -> bool:
    """Return whether all edges upgrade again."""
    answers = await asyncio.gather(*(upgrade(edge.websocket_url) for edge in mesh.edges))
    return all(answer.status == 101 for answer in answers)


@protocol("error.100")
async def test_a_nats_that_hangs_is_a_temporary_error_before_the_sdk_gives_up(
    mesh: Mesh, clients: Clients
) -> None:
    """Its sockets stay open and nothing is answered: 100 within 4 s, and the message says what that means."""
    client = await clients.join(mesh.edges[0].ws_url, token(), CHANNEL)
    mesh.nats.pause()
    try:
        began = time.monotonic()
        number = client.begin(publish={"channel": CHANNEL, "data": 1})
        subscribing = client.begin(subscribe={"channel": "live:other"})
        for reply in (await client.reply(number), await client.reply(subscribing)):
            assert (reply["error"]["code"], reply["error"]["temporary"]) == (100, True)
        assert time.monotonic() - began < ANSWERED + ALLOWANCE
    finally:
        mesh.nats.resume()

    async def published() -> bool:
        return "publish" in await client.command(publish={"channel": CHANNEL, "data": 2})

    await eventually(published)
    assert "subscribe" in await client.command(subscribe={"channel": "live:other"})
