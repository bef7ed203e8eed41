from __future__ import annotations

from tidewire.kernel.presence_wire import LEASE, ReplicaBeat
from tidewire.presence.peers import MOST_PEERS, MOST_SWEPT, SWEPT_KEPT, Peers


def peers(*others: str, partitions: tuple[int, ...] = ()) -> Peers:
    """Replica `m` that knows others."""
    known = Peers("m")
    for other in others:
        known.beat(ReplicaBeat(1, other, partitions), 0.0)
    return known


def test_the_lowest_speaks_first() -> None:
    """And one that is still learning speaks last."""
    known = peers("a", "b", "z", "m")
    assert known.rank(0, begun=True) == 2
    assert known.rank(0, begun=False) == 3
    assert peers("z").rank(0, begun=True) == 0


def test_who_does_not_serve_a_partition_is_not_waited_for() -> None:
    """Shares are told with the signs of life."""
    known = peers("a", partitions=(1, 2))
    assert known.rank(0, begun=True) == 0
    assert known.rank(1, begun=True) == 1


def test_a_silent_one_is_forgotten() -> None:
    """Unless nothing could be heard."""
    known = peers("a")
    known.expire(LEASE)
    assert known.rank(0, begun=True) == 1
    known.renew(LEASE)
    known.expire(2 * LEASE)
    assert known.rank(0, begun=True) == 1
    known.expire(2 * LEASE + 0.1)
    assert known.rank(0, begun=True) == 0


def test_what_was_published_is_said_for_a_while_and_within_bounds() -> None:
    """Both ends of what a forger or a large mesh may bring."""
    known = peers(*map(str, range(MOST_PEERS + 5)))
    assert len(known.live) == MOST_PEERS
    for number in range(MOST_SWEPT + 3):
        known.sweep(("e", number, 0), 0.0)
    assert len(known.swept) == MOST_SWEPT
    assert known.swept[0] == ("e", 3, 0)
    known.expire(SWEPT_KEPT + 0.1)
    assert known.swept == ()
