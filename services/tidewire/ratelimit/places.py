"""How many connections there are of whom, over all edges: what edges say that they hold, and what they may hold. Pure.

Nothing is kept beyond a replica's life, and edges do not know of each other. So who begins, or takes over keys of a replica
that is gone, learns first: edges tell what they hold, and until LEARNING is over no connection is promised to be within the
limit. An edge that is silent for EDGE_LEASE is gone, and its connections with it.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

HEARTBEAT: Final = 1.0
"""Seconds after which an edge says at the latest that it is there."""
EDGE_LEASE: Final = 6.0
LEARNING: Final = 7.0
"""Seconds in which every edge that reaches us has noticed that we are there (gRPC tries again every 5 s at the latest), and
has said what it holds."""
TAKE_OVER: Final = 3.0
"""Seconds in which every edge has noticed that another replica is gone."""
FROZEN: Final = 2.0
"""Seconds between two looks at the clock, after which we were not there ourselves: edges have gone elsewhere meanwhile."""
MOST_EDGES: Final = 10_000
"""Lives of edges that are known at once; further ones are refused."""
MOVED_AGAIN: Final = 30.0
"""Seconds without keys of another replica, after which its next ones are of a new failure."""


class Holding(msgspec.Struct, frozen=True, gc=False):
    """What an edge holds of a key, and wants to; `moved`: it belongs to a replica that does not answer the edge."""

    rule: str
    key: bytes
    held: int
    wanted: int
    moved: bool = False


class Place(msgspec.Struct, frozen=True, gc=False):
    """What it may hold; `learning`: that was not judged. `known`: we have the rule. `over`: more is held than it allows."""

    granted: int
    learning: bool = False
    known: bool = True
    over: bool = False


class _Edge:
    """One life of an edge: when it last spoke, and what it holds by rule and key."""

    __slots__ = ("heard", "holds", "name", "sequence")

    def __init__(self, name: str) -> None:
        self.name = name
        self.heard = 0.0
        self.sequence = 0
        self.holds: dict[str, dict[bytes, int]] = {}


class Places:
    """The counts of one replica. `limits` are those of the rules by name; `name` makes names of lives.

    Of each rule `most` entries are kept, of a key and an edge that has connections of it; what is more is not judged.
    """

    def __init__(self, limits: Mapping[str, int], most: int, name: Callable[[], str], now: float) -> None:
        self.limits = dict(limits)
        self.most = most
        self.refused = 0
        """Places that were asked for and not given."""
        self.unjudged = 0
        """Questions for which there was no room."""
        self._name = name
        self._begin(now)

    def _begin(self, now: float) -> None:
        self._edges: dict[str, _Edge] = {}
        self._totals: dict[str, dict[bytes, int]] = {}
        self._entries: Counter[str] = Counter()
        self._looked = now
        self._learning_until = now + LEARNING
        self._moved_at = -MOVED_AGAIN
        self._moved_until = 0.0

    @property
    def edges(self) -> int:
        """How many edges there are."""
        return len(self._edges)

    def held(self) -> dict[str, int]:
        """Return the connections of each rule."""
        return {rule: sum(totals.values()) for rule, totals in self._totals.items()}

    def takes(self, edge: str) -> bool:
        """Return whether an edge is known, or there is room for it."""
        return edge in self._edges or len(self._edges) < MOST_EDGES

    def is_learning(self, now: float) -> bool:
        """Return whether it is too early to judge."""
        return now < self._learning_until

    def hold(
        self, edge: str, sequence: int, holdings: Iterable[Holding], now: float, *, anew: bool
    ) -> tuple[str, list[Place]] | None:
        """Take what an edge says; return the name of the life in which it is known, and what it may hold.

        None: it was said before something that we know already.
        """
        self.look(now)
        known = self._edges.get(edge)
        if known is not None and sequence <= known.sequence:
            return None
        if known is None:
            known = self._edges[edge] = _Edge(self._name())
        elif anew:
            self._drop(known)
        known.heard, known.sequence = now, sequence
        return known.name, [self._judge(known, each, now) for each in holdings]

    def configure(self, limits: Mapping[str, int], most: int) -> None:
        """Follow other rules. Of those that come or go nothing is known: edges see another life, and say what they hold."""
        changed = self.limits.keys() ^ limits.keys()
        self.limits, self.most = dict(limits), most
        if not changed:
            return
        for edge in self._edges.values():
            edge.name = self._name()
            for rule in changed:
                self._forget(rule, edge.holds.pop(rule, {}))

    def look(self, now: float) -> None:
        """Drop edges that have gone; begin anew where we were gone ourselves."""
        if now - self._looked > FROZEN:
            self._begin(now)
            return
        self._looked = now
        for edge in [each for each, known in self._edges.items() if now - known.heard > EDGE_LEASE]:
            self._drop(self._edges.pop(edge))

    def _judge(self, edge: _Edge, wish: Holding, now: float) -> Place:
        limit = self.limits.get(wish.rule)
        if limit is None:
            return Place(wish.held, known=False)
        before = edge.holds.get(wish.rule, {}).get(wish.key, 0)
        if not before and wish.wanted and self._entries[wish.rule] >= self.most:
            self.unjudged += 1
            return Place(wish.held, learning=True)
        others = self._totals.get(wish.rule, {}).get(wish.key, 0) - before
        learning = self.is_learning(now) or (wish.moved and self._takes_over(now))
        granted = wish.held if learning else max(wish.held, min(wish.wanted, limit - others))
        self.refused += 0 if learning else max(0, wish.wanted - granted)
        self._set(edge, wish, before, granted)
        return Place(granted, learning, over=others + wish.held > limit)

    def _takes_over(self, now: float) -> bool:
        """Return whether keys of another replica come only now: edges notice that it is gone one after the other."""
        if now - self._moved_at >= MOVED_AGAIN:
            self._moved_until = now + TAKE_OVER
        self._moved_at = now
        return now < self._moved_until

    def _set(self, edge: _Edge, wish: Holding, before: int, count: int) -> None:
        if count == before:
            return
        holds = edge.holds.setdefault(wish.rule, {})
        self._entries[wish.rule] += bool(count) - bool(before)
        if count:
            holds[wish.key] = count
        else:
            holds.pop(wish.key, None)
        self._add(wish.rule, wish.key, count - before)

    def _add(self, rule: str, key: bytes, count: int) -> None:
        totals = self._totals.setdefault(rule, {})
        total = totals.get(key, 0) + count
        if total:
            totals[key] = total
        else:
            totals.pop(key, None)

    def _drop(self, edge: _Edge) -> None:
        for rule, holds in edge.holds.items():
            self._forget(rule, holds)
        edge.holds = {}

    def _forget(self, rule: str, holds: Mapping[bytes, int]) -> None:
        self._entries[rule] -= len(holds)
        for key, count in holds.items():
            self._add(rule, key, -count)
