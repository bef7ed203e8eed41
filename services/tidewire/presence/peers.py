"""The other replicas: who lives, who speaks for a partition, and whose leaves are published already. Pure.

There is no leader. Whatever all replicas see and one is to tell, the live replica with the lowest id tells at once, the
next one a lease later if it heard nothing, and so on; who receives it takes it twice as once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from tidewire.kernel.presence_wire import LEASE, ReplicaBeat

MOST_PEERS: Final = 1_000
MOST_SWEPT: Final = 2_000
SWEPT_KEPT: Final = 30.0
"""Seconds for which a replica goes on saying whose leaves it has published, so that who was away learns it."""

Swept = tuple[str, int, int]
"""(edge, incarnation, partition) whose leaves are published."""


class Peers:
    """What other replicas say; times are monotonic seconds."""

    def __init__(self, own: str) -> None:
        self.own = own
        self.live: dict[str, tuple[float, frozenset[int]]] = {}
        """When each was heard, and its partitions; none: all."""
        self._swept: OrderedDict[Swept, float] = OrderedDict()

    def beat(self, beat: ReplicaBeat, now: float) -> None:
        """Hear of another replica, which counts as long as it has a say."""
        if not beat.speaks:
            self.live.pop(beat.replica, None)
        elif beat.replica != self.own and (beat.replica in self.live or len(self.live) < MOST_PEERS):
            self.live[beat.replica] = (now, frozenset(beat.partitions))

    def expire(self, now: float) -> None:
        """Forget those that were not heard of for LEASE, and what has been said for long enough."""
        for peer in [peer for peer, (heard, _) in self.live.items() if now - heard > LEASE]:
            del self.live[peer]
        while self._swept and next(iter(self._swept.values())) + SWEPT_KEPT < now:
            self._swept.popitem(last=False)

    def renew(self, now: float) -> None:
        """Begin all leases anew: nothing was heard because nothing could be."""
        self.live = {peer: (now, partitions) for peer, (_, partitions) in self.live.items()}

    def rank(self, partition: int, *, begun: bool) -> int:
        """Return how many are to speak before this replica; one that has not `begun` speaks last."""

        def is_before(peer: str, partitions: frozenset[int]) -> bool:
            return (not begun or peer < self.own) and (not partitions or partition in partitions)

        return sum(is_before(peer, partitions) for peer, (_, partitions) in self.live.items())

    def sweep(self, swept: Swept, now: float) -> None:
        """Note that this replica has published leaves."""
        self._swept[swept] = now
        if len(self._swept) > MOST_SWEPT:
            self._swept.popitem(last=False)

    def unsweep(self, edge: str, incarnation: int) -> None:
        """Say no more that leaves of a life are published: it goes on."""
        for swept in [each for each in self._swept if each[:2] == (edge, incarnation)]:
            del self._swept[swept]

    @property
    def swept(self) -> tuple[Swept, ...]:
        """What to say of it."""
        return tuple(self._swept)


Rank = Callable[[int], int]
"""How many replicas are to speak before this one, in a partition."""
