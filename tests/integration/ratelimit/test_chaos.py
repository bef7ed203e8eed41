"""Replicas frozen and edges killed under load: what all clients get together stays within the rule plus its bound."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.ratelimit.test_edges import Load, mesh
from tests.support.edges import mapping, token
from tests.support.nats_server import NatsServer
from tests.support.ratelimit import RateLimitProcess
from tests.support.raw_client import RawClient, joined
from tests.support.wait import eventually
from tidewire.kernel.config import decode
from tidewire.kernel.rate_bound import excess
from tidewire.options.rate_limit_rules import RateLimitRule

RULE: dict[str, Any] = {
    "name": "r",
    "command": "publish",
    "key": ["user"],
    "limit": 40,
    "period": "2s",
    "close_after": 0,
    "when_down": "deny",
}
TERMS = decode(RateLimitRule, RULE).terms


@pytest.fixture(scope="module")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A nats-server with the mapping."""
    with NatsServer(tmp_path_factory.mktemp("nats"), config=mapping()) as server:
        yield server


async def asked(replicas: list[RateLimitProcess]) -> RateLimitProcess:
    """Return the replica that is asked now; that another is frozen is seen by keepalive only, and changes nothing."""

    async def decisions() -> list[float]:
        return [(await each.metrics()).value("tidewire_ratelimit_decisions_total") for each in replicas]

    before = await decisions()

    async def grown() -> list[float]:
        growth = [now - was for now, was in zip(await decisions(), before, strict=True)]
        return growth if max(growth) >= 3 else []

    growth = await eventually(grown)
    return replicas[growth.index(max(growth))]


async def test_a_replica_that_is_frozen_and_thaws_adds_two_bursts_at_most(
    nats: NatsServer, tmp_path: Path
) -> None:
    """One for each move of the key; commands that were on their way wait, and none gets another error than 111 or 100."""
    async with mesh(nats, tmp_path, edges=2, replicas=2, rules=[RULE]) as run:
        await eventually(run.all_up)
        load = Load([await joined(edge.ws_url, token("alice")) for edge in run.edges])
        await eventually(lambda: len(load.taken) > 20)
        moved = 0
        for _ in range(2):
            replica = await asked(run.replicas)
            replica.send_signal(signal.SIGSTOP)
            await eventually(run.one_is_away)
            before = len(load.taken)
            await eventually(lambda before=before: len(load.taken) > before + 20)
            replica.send_signal(signal.SIGCONT)
            await eventually(run.all_up)
            moved += 2
        before = len(load.taken)
        await eventually(lambda: len(load.taken) > before + 20)
        await load.end()
        most = load.most_over(TERMS.allowance)
        print(f"taken {len(load.taken)}, at most {most:.1f} over the rule, B = {excess(TERMS, 2, moved)}")
        assert load.failed <= {100}
        assert most <= excess(TERMS, edges=2, anew=moved)


async def test_an_edge_that_is_killed_takes_its_tokens_with_it(nats: NatsServer, tmp_path: Path) -> None:
    """Nobody spends them; others go on, and the bound is that of leases alone."""
    async with mesh(nats, tmp_path, edges=2, rules=[RULE]) as run:
        await eventually(run.all_up)
        dying = Load([await joined(run.edges[1].ws_url, token("alice"))])
        load = Load([await joined(run.edges[0].ws_url, token("alice"))])
        await eventually(lambda: len(load.taken) > 5 and len(dying.taken) > 5)
        run.edges[1].kill()
        before = len(load.taken)
        await eventually(lambda: len(load.taken) > before + 60)
        await load.end()
        with pytest.raises((ConnectionError, RuntimeError)):  # the latter: it was about to write
            await dying.end()
        load.taken += dying.taken
        most = load.most_over(TERMS.allowance)
        print(f"taken {len(load.taken)}, at most {most:.1f} over the rule, B = {excess(TERMS, 2)}")
        assert most <= excess(TERMS, edges=2)
        assert load.failed == set()


async def test_counts_of_connections_are_exact_after_a_storm(nats: NatsServer, tmp_path: Path) -> None:
    """Clients come and go on two edges while one of two replicas is killed and comes back; then nobody is left, anywhere."""
    places: list[dict[str, Any]] = [{"name": "p", "key": "user", "limit": 1000}]
    async with mesh(nats, tmp_path, edges=2, replicas=2, connections=places) as run:
        await eventually(run.all_up)
        held: list[RawClient] = []

        async def comes_and_goes(number: int, *, stays: bool) -> None:
            client = await joined(run.edges[number % 2].ws_url, token(f"user-{number % 7}"))
            if stays:
                held.append(client)
            else:
                await client.close()

        async def storm() -> None:
            await asyncio.gather(*(comes_and_goes(number, stays=number % 5 == 0) for number in range(60)))

        await storm()
        run.replicas[0].kill()
        await storm()
        await asyncio.to_thread(run.replicas[0].start)
        await storm()
        await eventually(run.all_up)

        async def counted() -> float:
            metrics = [await replica.metrics() for replica in run.replicas]
            return sum(each.value("tidewire_ratelimit_connections", rule="p") for each in metrics)

        async def all_are_counted() -> bool:
            return await counted() == len(held) == 36

        await eventually(all_are_counted, 30)
        for client in held:
            await client.close()

        async def none_is_left() -> bool:
            keys = [(await edge.metrics()).value("tidewire_rate_limit_connection_keys") for edge in run.edges]
            return await counted() == 0 and keys == [0, 0]

        await eventually(none_is_left, 30)
