"""The rows about rate limits: decisions of an edge from its leases, and answers of the service over gRPC."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import msgspec

from bench.load.machine import bind, cpu_seconds
from tests.fakes.limits import Limited
from tests.support.ratelimit import RateLimitClient, RateLimitProcess, client_of, gateway_of
from tidewire.edge.party import Party

PLENTY = {"limit": 1_000_000_000, "burst": 1_000_000_000, "lease_size": 1_000}
"""A rule that refuses nothing: each decision finds a token, one in a thousand asks for more."""
TURN: Final = 256
"""Decisions between two turns of the loop, in which answers come."""
AT_ONCE = 16
BATCH = 500
"""Keys that an edge asks for in one call at most."""


class Row(msgspec.Struct, frozen=True):
    """What one run did: `count` decisions in `cpu` seconds of processor time, and in `seconds`."""

    count: int
    cpu: float
    seconds: float


class Sizes(msgspec.Struct, frozen=True):
    """How much each run does."""

    decisions: int = 500_000
    batches: int = 200
    singles: int = 3_000


# The edge.


def at_the_edge(users: int, rules: int, count: int) -> Row:
    """Judge publications of so many users, in turn, by so many rules; as the edge does, without its socket."""
    limited = Limited(
        rules=[
            {"name": f"rule-{number}", "command": "publish", "key": ["user"], **PLENTY}
            for number in range(rules)
        ]
    )
    parties = [limited.party(f"user-{number}") for number in range(users)]
    for party in parties:
        limited.limits.judge("publish", party, "live:x")
        limited.service.grant()
    return _judged(limited, parties, count)


def _judged(limited: Limited, parties: list[Party], count: int) -> Row:
    judge, answer, turn = limited.limits.judge, limited.service.grant, parties * max(1, TURN // len(parties))
    rounds = count // len(turn)
    used, began = time.process_time(), time.monotonic()
    for _ in range(rounds):
        for party in turn:
            judge("publish", party, "live:x")
        answer()
    row = Row(rounds * len(turn), time.process_time() - used, time.monotonic() - began)
    decided = sum(limit.leases.allowed for limit in limited.limits.all())
    if decided < row.count:
        raise RuntimeError(f"{decided} of {row.count} found a token")
    return row


# The service.


class Service:
    """One process, and what asks it."""

    def __init__(self, folder: Path, stack: ExitStack, cpu: int | None) -> None:
        rules = [{"name": "r", "command": "publish", "key": ["user"], "limit": 1000, "burst": 1_000_000}]
        envoy = [{"name": "e", "domain": "web", "entries": ["user"], "limit": 1000, "burst": 1_000_000}]
        limits = {"rules": rules, "connections": [], "envoy": envoy}
        config = {"rate_limits": limits, "rate_limit_service": {"max_keys": 10_000_000}}
        self._process = stack.enter_context(RateLimitProcess(folder, config))
        bind(self._process.pid, cpu)

    def run(self, work: Callable[[RateLimitProcess], Awaitable[int]]) -> Row:
        """Return what the service needed for it."""
        used, began = cpu_seconds(self._process.pid), time.monotonic()
        count = asyncio.run(self._timed(work))
        return Row(count, cpu_seconds(self._process.pid) - used, time.monotonic() - began)

    async def _timed(self, work: Callable[[RateLimitProcess], Awaitable[int]]) -> int:
        return await work(self._process)


async def batched(process: RateLimitProcess, calls: int) -> int:
    """Ask for tokens of 500 keys in each call, two calls at a time, of 50,000 keys in turn."""
    async with client_of(process, timeout="30s") as client:
        numbers = iter(range(calls))

        async def ask() -> None:
            for number in numbers:
                await client.lease("r", *_keys(number % 100))

        await asyncio.gather(ask(), ask())
    return calls * BATCH


def _keys(batch: int) -> list[tuple[bytes, int]]:
    return [(b"%016d" % number, 10) for number in range(batch * BATCH, (batch + 1) * BATCH)]


async def single(process: RateLimitProcess, calls: int) -> int:
    """Ask for tokens of one key in each call, many calls at a time."""
    async with client_of(process, timeout="30s") as client:
        await _many(calls, lambda number: _one(client, number))
    return calls


async def _one(client: RateLimitClient, number: int) -> None:
    await client.lease("r", (b"%016d" % (number % 50_000), 10))


async def envoy(process: RateLimitProcess, calls: int) -> int:
    """Ask as a gateway does, many calls at a time."""
    async with gateway_of(process) as gateway:

        async def ask(number: int) -> None:
            await gateway.ask({"user": f"user-{number % 50_000}"}, timeout=30)

        await _many(calls, ask)
    return calls


async def _many(calls: int, ask: Callable[[int], Awaitable[None]]) -> None:
    numbers = iter(range(calls))

    async def worker() -> None:
        for number in numbers:
            await ask(number)

    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
