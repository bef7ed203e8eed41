"""Brings the key sets of issuers into the cache: in the background ahead of time, and early when a token wants a key."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from tidewire.edge.policies.jwks import LARGEST_SET, UnusableSet, read_set
from tidewire.edge.policies.keys import BETWEEN_URLS
from tidewire.platform.download import DownloadFailed, download
from tidewire.platform.tasks import ended

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from tidewire.edge.policies.jwks import KeySet
    from tidewire.edge.policies.key_cache import KeyCache, KeySource
    from tidewire.edge.ports import KeyFetcher, KeyMetrics
    from tidewire.kernel.clock import Clock

MALFORMED = "malformed"
INTERRUPTED = "interrupted"
TOLD_AT_ONCE = 50
"""Of those who waited for a fetch: a token is judged in some 0.2 ms, and thousands may wait."""


class JwksFetcher:
    """Implements ports.KeyFetcher. Each URL has at most one fetch under way, and the pause between two is the cache's."""

    def __init__(self, cache: KeyCache, clock: Clock, metrics: KeyMetrics, log: FilteringBoundLogger) -> None:
        self._cache = cache
        self._clock = clock
        self._metrics = metrics
        self._log = log
        self._fetches: dict[KeySource, asyncio.Task[None]] = {}
        self._over: deque[Callable[[], None]] = deque()
        """Who is yet to be told that a fetch is over."""

    def fetch(self, source: str, done: Callable[[], None]) -> None:
        """See ports.KeyFetcher."""
        wanted = [self._cache.sources.get(url) for url in source.split(BETWEEN_URLS)]
        fetches = [
            (one, task) for one in wanted if one is not None and (task := self._fetch(one)) is not None
        ]
        left = len(fetches)
        if not left:  # too early for one, or the configuration has changed since
            asyncio.get_running_loop().call_soon(done)

        def ended(waited_for: KeySource, _: asyncio.Task[None]) -> None:
            nonlocal left
            left -= 1
            waited_for.waiting -= 1
            if not left:
                self._tell(done)

        for waited_for, task in fetches:
            waited_for.waiting += 1
            task.add_done_callback(partial(ended, waited_for))

    def tick(self) -> None:
        """Begin the fetches that are due. Called once a second or more often."""
        now = self._clock.monotonic()
        for source in self._cache.sources.values():
            if source.wants_refresh(now):
                self._fetch(source)

    async def close(self) -> None:
        """End every fetch; who waits for one is told."""
        await ended(self._fetches.values())

    def _tell(self, done: Callable[[], None]) -> None:
        if not self._over:
            asyncio.get_running_loop().call_soon(self._tell_some)
        self._over.append(done)

    def _tell_some(self) -> None:
        """Let the loop serve others between two portions."""
        loop = asyncio.get_running_loop()
        for _ in range(min(TOLD_AT_ONCE, len(self._over))):
            loop.call_soon(self._over.popleft())
        if self._over:
            loop.call_soon(self._tell_some)

    def _fetch(self, source: KeySource) -> asyncio.Task[None] | None:
        """Return the fetch under way, or begin one; None when it is too early for one."""
        if source not in self._fetches and source.begin(self._clock.monotonic()):
            task = asyncio.get_running_loop().create_task(self._run(source))
            self._fetches[source] = task
            task.add_done_callback(lambda _: self._fetches.pop(source))
        return self._fetches.get(source)

    async def _run(self, source: KeySource) -> None:
        settings = source.settings
        began = self._clock.monotonic()
        outcome = problem = INTERRUPTED
        try:
            body = await download(
                settings.url, timeout=settings.timeout, most_bytes=LARGEST_SET, ca_file=settings.ca_file
            )
            keys = read_set(body)
        except DownloadFailed as error:
            outcome, problem = error.kind, str(error)
        except UnusableSet as error:
            outcome, problem = MALFORMED, str(error)
        else:
            outcome, problem = "ok", ""
            self._took(source, keys)
        finally:
            if problem:
                self._failed(source, problem)
            self._metrics.keys_fetched(source.name, outcome, self._clock.monotonic() - began)

    def _took(self, source: KeySource, keys: KeySet) -> None:
        changed, back = keys != source.held, bool(source.problem)
        source.took(keys, self._clock.monotonic())
        if changed or back:
            log = self._log.warning if keys.ignored or not keys.keys else self._log.info
            log("jwks.fetched", url=source.name, keys=len(keys.keys), ignored=list(keys.ignored), back=back)

    def _failed(self, source: KeySource, problem: str) -> None:
        now = self._clock.monotonic()
        source.failed(problem, now)
        self._log.warning(
            "jwks.fetch_failed",
            url=source.name,
            problem=problem,
            keys=source.usable(now),
            age=None if source.fetched_at is None else round(now - source.fetched_at, 1),
        )


if TYPE_CHECKING:
    _: type[KeyFetcher] = JwksFetcher
