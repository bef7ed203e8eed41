"""Keeps a connection to NATS: finds a server, sends subscriptions again, watches, and starts over when it is lost."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from tidewire.platform.nats_addresses import Server, ServerList
from tidewire.platform.nats_calls import WaitingCalls
from tidewire.platform.nats_client import ClientHooks, LinkClient
from tidewire.platform.nats_files import tls_context
from tidewire.platform.nats_outgoing import Outgoing
from tidewire.platform.nats_types import LinkError, LinkOptions, RawSubscription, Traffic
from tidewire.platform.tasks import ended

SUBS_PER_TURN = 2_000
"""SUB lines that are sent again in one turn of the loop, so that a reconnect does not stop everything else."""

REPLAY_TIMEOUT = 10.0
"""Seconds for the server to take one slice of subscriptions, and to process them all."""

RETRY_WAIT = 0.1
RETRY_WAIT_MOST = 2.0
"""Seconds between attempts, give or take a half: where nothing answers, and the most where a server says no or
connections do not last."""

STEADY_AFTER = 5.0
"""Seconds after which a connection counts as good: its loss is followed by an attempt at once."""

MISSES_WHILE_BUSY = 3
"""Watchdog rounds that may fail while the server keeps sending, since then it is we who are slow."""

_random = random.SystemRandom()


class KeeperHooks(NamedTuple):
    """What the keeper reports; none of these raises."""

    up: Callable[[], None]
    down: Callable[[Exception], None]
    failed: Callable[[Exception], None]
    error: Callable[[str, Exception], None]
    chunk_end: Callable[[], None]


class Keeper:
    """Owns the one client and the two tasks that keep it alive."""

    def __init__(
        self,
        options: LinkOptions,
        subscriptions: Mapping[bytes, RawSubscription],
        traffic: Traffic,
        outgoing: Outgoing,
        calls: WaitingCalls,
        hooks: KeeperHooks,
    ) -> None:
        """Prepare; nothing is connected before `start`. LinkError: a URL or TLS file cannot be used."""
        self._options = options
        self._subscriptions = subscriptions
        self._traffic = traffic
        self._outgoing = outgoing
        self._calls = calls
        self._hooks = hooks
        self._servers = ServerList(options.urls)
        self._tls = tls_context(options)
        self._client_hooks = ClientHooks(self.lost, hooks.error, self._servers.discover, hooks.chunk_end)
        self._gone = asyncio.Event()
        self._gone.set()
        self._tasks: list[asyncio.Task[None]] = []
        self.client = LinkClient(self._client_hooks, subscriptions, traffic)

    async def start(self) -> None:
        """Connect, then keep connected until `stop`.

        Raises:
            LinkError: No server could be used within three times `connect_timeout`, or trying on is pointless.
        """
        window = 3 * self._options.connect_timeout
        failure = LinkError("NATS did not answer")
        try:
            async with asyncio.timeout(window):
                while self._gone.is_set():
                    try:
                        await self._connect()
                    except LinkError as error:
                        if error.final:
                            raise
                        failure = error
                        await asyncio.sleep(_retry_wait(0))
        except TimeoutError:
            raise LinkError(f"{failure}; tried for {window:g} s") from failure
        self._tasks = [asyncio.create_task(self._supervise()), asyncio.create_task(self._watch())]

    async def stop(self) -> None:
        """End the tasks and the connection."""
        await ended(self._tasks)
        self._tasks.clear()
        self._outgoing.detach()
        await self.client.dispose()

    def lost(self, client: LinkClient, error: Exception) -> None:
        """Drop this client, if it is still the one in use, and have a new one made."""
        if client is not self.client or client.dropped:
            return
        client.drop()
        self._outgoing.detach()
        self._gone.set()
        self._hooks.down(error)

    async def passes(self, timeout: float) -> bool:
        """Return whether the server processed all that was written so far, within `timeout` seconds.

        What it refused is reported as an error and changes nothing here: the connection is good.
        """
        verdict: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def decide(passed: bool) -> None:
            if not verdict.done():
                verdict.set_result(passed)

        self._outgoing.ping(self._calls.add_barrier(decide, timeout, own=True))
        return await verdict

    # ------------------------------------------------------------------ connecting
    async def _connect(self) -> None:
        """Try each server once.

        Raises:
            LinkError: None could be used; the last one that is `final`, if any, else the last.
        """
        failure = LinkError("there is no NATS server to try")
        for server in self._servers.candidates():
            try:
                await self._use(server)
            except LinkError as error:
                failure = error if error.final or not failure.final else failure
            else:
                return
        raise failure

    async def _use(self, server: Server) -> None:
        """Make `server` the one in use, or leave everything as it was without a connection."""
        await self.client.dispose()
        client = LinkClient(self._client_hooks, self._subscriptions, self._traffic, self.client.last_sid)
        self.client = client
        self._servers.used(server)
        try:
            await client.open(server, self._options, self._tls)
            self._outgoing.attach(client)
            await self._replay(client, server)
        except BaseException:
            client.drop()
            self._outgoing.detach()
            self._calls.fail_all()
            raise
        self._gone.clear()
        self._hooks.up()

    async def _replay(self, client: LinkClient, server: Server) -> None:
        """Send all subscriptions and wait until the server has processed them."""
        for lines in newest_first(self._subscriptions):
            self._outgoing.bulk(lines)
            await client.drained(REPLAY_TIMEOUT)
            await asyncio.sleep(0)
        if not await self.passes(REPLAY_TIMEOUT) or client.dropped:
            raise LinkError(f"NATS at {server.shown} did not take the subscriptions")

    # ------------------------------------------------------------------ staying alive
    async def _supervise(self) -> None:
        """Make a new connection whenever one is lost, for as long as it takes."""
        loop = asyncio.get_running_loop()
        failures, since = 0, loop.time()
        while True:
            await self._gone.wait()
            failures = 0 if loop.time() - since > STEADY_AFTER else failures + 1
            slow = failures
            while self._gone.is_set():
                if failures:
                    await asyncio.sleep(_retry_wait(slow))
                try:
                    await self._connect()
                except Exception as error:  # noqa: BLE001 - reported; giving up would be a silent death
                    failures += 1
                    slow = slow + 1 if isinstance(error, LinkError) and error.final else 0
                    self._hooks.failed(error)
            since = loop.time()

    async def _watch(self) -> None:
        """Ask for a sign of life now and then: a server may hang while its sockets stay open."""
        misses = 0
        while True:
            await asyncio.sleep(self._options.watchdog_interval)
            client, chunks = self.client, self._traffic.chunks
            if self._gone.is_set() or await self.passes(self._options.watchdog_timeout):
                misses = 0
                continue
            misses += 1
            if self._traffic.chunks == chunks or misses >= MISSES_WHILE_BUSY:
                self.lost(
                    client, LinkError(f"NATS gave no sign of life for {self._options.watchdog_timeout:g} s")
                )
                misses = 0


def newest_first(subscriptions: Mapping[bytes, RawSubscription]) -> Iterator[bytes]:
    """Yield the SUB lines in slices, newest first: clients that just came wait for theirs.

    What is unsubscribed between two slices is left out.
    """
    sids = list(subscriptions)[::-1]
    for start in range(0, len(sids), SUBS_PER_TURN):
        found = map(subscriptions.get, sids[start : start + SUBS_PER_TURN])
        yield b"".join([subscription.line for subscription in found if subscription is not None])


def _retry_wait(refusals: int) -> float:
    """Seconds before the next attempt, after so many in a row that a server answered with no."""
    wait: float = min(RETRY_WAIT_MOST, RETRY_WAIT * 2 ** min(refusals, 10))
    return wait * _random.uniform(0.5, 1.5)
