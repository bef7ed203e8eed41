"""The keys of issuers that publish them, and what is known of each issuer. Time comes in, nothing is fetched here.

A cache outlives the configuration: where the same URL is configured again its keys stay.
"""

from __future__ import annotations

import enum
import random
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from tidewire.edge.policies.jwks import KeySet, SetKey

if TYPE_CHECKING:
    from tidewire.edge.config import JwksConfig

MOST_WAITING = 10_000
"""Tokens, and kids, that may wait for one fetch."""
EARLIER = 0.1
"""Part of the refresh interval by which a refresh may come earlier, so that edges do not all ask at once."""
MOST_DOUBLINGS = 10


class Standing(enum.Enum):
    """What may be said of a kid that is not held."""

    WANTED = "wanted"  # a fetch may bring it
    ABSENT = "absent"  # the issuer was asked for it and does not have it
    UNKNOWN = "unknown"  # the issuer cannot be asked now


class KeySource:
    """The key set of one URL. Times are monotonic seconds.

    The one who fetches says so by `begin`, and then `took` or `failed`.
    """

    __slots__ = (
        "_answered",
        "_asked",
        "_early",
        "_ended_at",
        "_failures",
        "fetched_at",
        "fetching",
        "held",
        "problem",
        "retired",
        "settings",
        "waiting",
    )

    def __init__(self, settings: JwksConfig, early: float) -> None:
        self.settings = settings
        self.held = KeySet()
        self.fetched_at: float | None = None
        self.problem = ""
        """Why the last fetch went wrong; "" when it did not."""
        self.fetching = False
        self.retired = False
        """Whether the configuration has it no more: nobody fetches it again."""
        self.waiting = 0
        """Tokens that wait for the fetch under way."""
        self._early = early * EARLIER
        self._ended_at: float | None = None
        self._failures = 0
        self._asked: set[str] = set()
        self._answered: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """The URL as logs and metrics may show it: a query can hold a key of its own."""
        return self.settings.url.partition("?")[0]

    def usable(self, now: float) -> int:
        """Return the number of keys that are used."""
        return 0 if self.stale(now) else len(self.held.keys)

    def key(self, kid: str, now: float) -> SetKey | None:
        """Return the key of this name, if it is held and not too old."""
        return None if self.stale(now) else self.held.keys.get(kid)

    def stale(self, now: float) -> bool:
        """Return whether what is held may not be used any more, or nothing ever was."""
        return self.fetched_at is None or now - self.fetched_at > self.settings.max_stale

    def ask(self, kid: str, now: float) -> Standing:
        """Judge a kid that is not held. After WANTED and a fetch the answer is another."""
        if not self.fetching and not self._may_fetch(now):
            return Standing.ABSENT if kid in self._answered else Standing.UNKNOWN
        if max(self.waiting, len(self._asked)) >= MOST_WAITING:
            return Standing.UNKNOWN
        self._asked.add(kid)
        return Standing.WANTED

    def wants_refresh(self, now: float) -> bool:
        """Return whether it is time to fetch in the background: ahead of the interval, or after a failure's pause."""
        if self.fetching or not self._may_fetch(now):
            return False
        if self.problem:
            return now - (self._ended_at or 0.0) >= self._pause()
        return self.fetched_at is None or now - self.fetched_at >= self.settings.refresh_interval * (
            1 - self._early
        )

    def begin(self, now: float) -> bool:
        """Take the right to fetch, which one has at a time and not more often than the least interval."""
        if self.fetching or not self._may_fetch(now):
            return False
        self.fetching = True
        return True

    def took(self, keys: KeySet, now: float) -> None:
        """End a fetch that went well: the new keys are the only ones."""
        self.held = keys
        self.fetched_at = now
        self.problem = ""
        self._failures = 0
        self._answered = frozenset(self._asked)
        self._end(now)

    def failed(self, problem: str, now: float) -> None:
        """End a fetch that went wrong: what is held stays."""
        self.problem = problem
        self._failures += 1
        self._answered = frozenset()
        self._end(now)

    def _end(self, now: float) -> None:
        self.fetching = False
        self._ended_at = now
        self._asked.clear()

    def _may_fetch(self, now: float) -> bool:
        if self.retired:
            return False
        return self._ended_at is None or now - self._ended_at >= self.settings.min_refetch_interval

    def _pause(self) -> float:
        doubled: int = 2 ** min(self._failures - 1, MOST_DOUBLINGS)
        return min(self.settings.refresh_interval, self.settings.min_refetch_interval * doubled)


class KeyCache:
    """The sources of a configuration, by URL."""

    def __init__(self, draw: Callable[[], float] = random.random) -> None:
        self.sources: dict[str, KeySource] = {}
        self._draw = draw

    def use(self, settings: Iterable[JwksConfig]) -> None:
        """Have exactly these sources; one whose URL was there keeps its keys and takes the new settings."""
        wanted = {jwks.url: jwks for jwks in settings}
        for url, jwks in wanted.items():
            if url in self.sources:
                self.sources[url].settings = jwks
        for url in self.sources.keys() - wanted.keys():
            self.sources[url].retired = True
        self.sources = {
            url: self.sources.get(url) or KeySource(jwks, self._draw()) for url, jwks in wanted.items()
        }
