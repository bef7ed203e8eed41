from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from typing import cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tidewire.edge import stragglers
from tidewire.edge.conflation import Key
from tidewire.edge.connection import Connection
from tidewire.edge.framing import MAX_JOINED, WEBSOCKET_JSON
from tidewire.edge.outbox import Outbox
from tidewire.edge.stragglers import Missed, Stragglers, Written
from tidewire.kernel.errors import Disconnect

OUTBOX = 4_000


class Socket:
    """A transport whose socket takes so many bytes before it is full; an outbox waits behind it."""

    framing = WEBSOCKET_JSON

    def __init__(self) -> None:
        self.room = 10**9
        self.outbox = Outbox(OUTBOX)
        self.taken = b""

    @property
    def congested(self) -> bool:
        return self.room <= 0

    def send(self, frame: bytes) -> bool:
        payload = frame[{126: 4, 127: 10}.get(frame[1], 2) :] + b"\n"
        if self.congested:
            return self.outbox.put(payload)
        self.taken += payload
        self.room -= len(payload)
        return True

    def drain(self, room: int) -> None:
        """Take so many bytes more; what waits in the outbox goes out as a whole."""
        self.room = room
        waiting = self.outbox.take()
        self.taken += waiting
        self.room -= len(waiting)

    def authenticated(self) -> None:
        """See `ports.Transport`."""

    def close(self, disconnect: Disconnect) -> None:
        """See `ports.Transport`."""

    def items(self) -> list[str]:
        """What was taken so far."""
        return self.taken.decode().split()


class Viewer:
    """A connection as far as it matters here."""

    def __init__(self) -> None:
        self.transport = Socket()


class Board:
    """One audience of a conflating channel."""

    def __init__(self, viewers: int = 1, max_keys: int = 100, limit: int = 10**6) -> None:
        self.everywhere = Stragglers(limit)
        self.missed = Missed(WEBSOCKET_JSON, max_keys, self.everywhere)
        self.viewers = [Viewer() for _ in range(viewers)]
        self.group = cast("list[Connection]", self.viewers)
        self.written = Written()

    def publish(self, *items: str) -> Written:
        """Items `key:number`; without a key `:number`."""
        written = Written()
        self.missed.write(self.group, [(_key(item), item.encode()) for item in items], written)
        return written

    def drain(self, index: int, room: int = 10**9) -> Written | None:
        """Let a viewer's socket take bytes again."""
        self.viewers[index].transport.drain(room)
        if room <= 0:
            return None
        return self.everywhere.catch_up(self.group[index])


def _key(item: str) -> Key | None:
    key = item.split(":", maxsplit=1)[0]
    return ("", key.encode()) if key else None


def test_slow_viewer_gets_the_latest_of_each_key_and_fast_ones_get_everything() -> None:
    """Oldest update first; what has no key waited in the outbox."""
    board = Board(viewers=2)
    slow, fast = (viewer.transport for viewer in board.viewers)
    slow.room = 0
    assert board.publish("a:1", "b:1", ":1").withheld == 2
    board.publish("a:2", ":2")
    board.publish("c:1")
    assert slow.items() == []
    assert len(board.everywhere) == 1
    written = board.drain(0)
    assert written is not None
    assert (written.deliveries, written.slow) == (3, [])
    assert slow.items() == [":1", ":2", "b:1", "a:2", "c:1"]
    assert fast.items() == ["a:1", "b:1", ":1", "a:2", ":2", "c:1"]
    board.publish("a:3")
    assert slow.items()[-1] == fast.items()[-1] == "a:3"
    assert (len(board.everywhere), board.everywhere.kept) == (0, 0)


def test_two_who_fell_behind_at_different_times_share_what_is_kept() -> None:
    """Each gets what it missed itself."""
    board = Board(viewers=2)
    first, second = (viewer.transport for viewer in board.viewers)
    first.room = 0
    board.publish("a:1", "b:1")
    kept = board.everywhere.kept
    second.room = 0
    board.publish("b:2")
    assert board.everywhere.kept == kept
    board.drain(1)
    assert second.items() == ["a:1", "b:1", "b:2"]
    board.drain(0)
    assert first.items() == ["a:1", "b:2"]


def test_key_that_changes_all_the_time_has_its_turn() -> None:
    """A socket that takes one frame at a time is not given the other keys for ever."""
    board = Board()
    slow = board.viewers[0].transport
    slow.room = 0
    wide = "x" * (MAX_JOINED // 2)
    board.publish(f"hot:1{wide}", f"a:1{wide}", f"b:1{wide}")
    turns = []
    for number in range(2, 8):
        board.drain(0, room=1)
        turns.append([item.split(":")[0] for item in slow.items()][-1])
        board.publish(f"hot:{number}{wide}", f"a:{number}{wide}", f"b:{number}{wide}")
    assert turns == ["hot", "a", "b"] * 2


def test_frame_of_a_large_batch_that_fills_the_socket_is_the_last_one() -> None:
    """What comes behind it in the same batch is kept, not put into the outbox."""
    board = Board()
    slow = board.viewers[0].transport
    slow.room = 1
    wide = "x" * MAX_JOINED
    board.publish(f"a:1{wide}", f"b:1{wide}", f"c:1{wide}")
    assert [item[:3] for item in slow.items()] == ["a:1"]
    assert slow.outbox.size == 0
    board.drain(0)
    assert [item[:3] for item in slow.items()] == ["a:1", "b:1", "c:1"]


def test_keys_beyond_the_bound_take_the_ordinary_way() -> None:
    """They are counted, and wait up to the outbox's bound; those that are kept stay conflated."""
    board = Board(max_keys=2)
    slow = board.viewers[0].transport
    slow.room = 0
    written = board.publish("a:1", "b:1", "c:1", "a:2", "c:2")
    assert (written.unkept, written.withheld, written.slow) == (2, 3, [])
    board.drain(0)
    assert slow.items() == ["c:1", "c:2", "b:1", "a:2"]
    slow.room = 0
    board.publish("a:3", "b:3")
    while not (written := board.publish("z:1" + "x" * 100)).slow:
        assert slow.outbox.size <= OUTBOX
    assert written.slow == board.group


def test_who_falls_behind_after_all_had_caught_up_finds_room() -> None:
    """What was kept before takes none of it."""
    board = Board(max_keys=2)
    for names in ("ab", "cd"):
        board.viewers[0].transport.room = 0
        assert board.publish(*(f"{name}:1" for name in names)).unkept == 0
        board.drain(0)
    assert board.viewers[0].transport.items() == ["a:1", "b:1", "c:1", "d:1"]


def test_item_that_has_grown_too_large_to_be_kept_is_not_overtaken_by_the_older_one() -> None:
    """The bound is in bytes, too, over all channels; the older item is not sent any more."""
    board = Board(limit=1_000)
    slow = board.viewers[0].transport
    slow.room = 0
    board.publish("a:1", "b:1")
    assert board.publish("a:2" + "x" * 1_000).unkept == 1
    assert board.everywhere.kept <= 1_000
    board.drain(0)
    assert [item[:3] for item in slow.items()] == ["a:2", "b:1"]
    assert board.everywhere.kept == 0


def test_it_is_too_slow_that_is_owed_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    """The keys that wait for one connection over all channels have a bound."""
    monkeypatch.setattr(stragglers, "MAX_OWED", 3)
    board = Board()
    board.viewers[0].transport.room = 0
    board.publish(*(f"{key}:1{'x' * MAX_JOINED}" for key in "abcde"))
    written = board.drain(0, room=1)
    assert written is not None
    assert written.slow == board.group
    written = board.drain(0, room=1)
    assert written is not None
    assert written.slow == []


def test_channels_take_turns() -> None:
    """One that changes more than the socket takes does not keep the others from it."""
    board = Board()
    other = Missed(WEBSOCKET_JSON, 100, board.everywhere)
    slow = board.viewers[0].transport
    slow.room = 0
    wide = "x" * MAX_JOINED
    board.publish(f"a:1{wide}", f"b:1{wide}")
    other.write(board.group, [(("", b"z"), b"z:1")], Written())
    board.drain(0, room=1)
    board.publish(f"a:2{wide}", f"b:2{wide}")
    board.drain(0, room=1)
    board.drain(0, room=1)
    assert [item[:3] for item in slow.items()] == ["a:1", "z:1", "b:2"]


def test_who_left_is_owed_nothing() -> None:
    """With the last one all is gone that was kept."""
    board = Board(viewers=2)
    for viewer in board.viewers:
        viewer.transport.room = 0
    board.publish("a:1")
    board.missed.forget(board.group[0])
    board.missed.forget(board.group[0])
    assert (len(board.everywhere), board.everywhere.kept > 0) == (1, True)
    assert board.drain(0) is None
    board.missed.forget(board.group[1])
    assert (len(board.everywhere), board.everywhere.kept) == (0, 0)


def test_release_hands_over_what_was_kept() -> None:
    """To the outbox: what comes from now on comes behind it."""
    board = Board(viewers=2)
    for viewer in board.viewers:
        viewer.transport.room = 0
    board.publish("a:1", "a:2", "b:1")
    board.viewers[1].transport.outbox.put(b"x" * (OUTBOX - 70))
    written = Written()
    board.missed.release(written)
    assert written.slow == [board.group[1]]
    assert (len(board.everywhere), board.everywhere.kept) == (0, 0)
    board.drain(0)
    assert board.viewers[0].transport.items() == ["a:2", "b:1"]


def test_memory_of_those_who_do_not_read_is_that_of_the_keys() -> None:
    """However many publications they miss, and however many they are."""
    board = Board(viewers=1_000, limit=10**7)
    for viewer in board.viewers:
        viewer.transport.room = 0
    tracemalloc.start()
    for number in range(200):
        board.publish(*(f"{key}:{number}{'x' * 200}" for key in range(50)))
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(board.everywhere) == 1_000
    assert size < 1_500_000  # 50 items, and 1.2 KB for each of the thousand
    assert all(viewer.transport.outbox.size == 0 for viewer in board.viewers)


class Viewing(RuleBasedStateMachine):
    """Any publications, to any viewers, that read as they like."""

    def __init__(self) -> None:
        super().__init__()
        self.board = Board(viewers=3, max_keys=3, limit=3_000)
        for viewer in self.board.viewers:
            viewer.transport.outbox = Outbox(10**6)
        self.published: list[str] = []

    @rule(keys=st.lists(st.sampled_from(["", "a", "b", "c", "d", "e"]), min_size=1, max_size=6))
    def publish(self, keys: list[str]) -> None:
        """A batch."""
        first = len(self.published)
        items = [f"{key}:{first + index}" for index, key in enumerate(keys)]
        self.published += items
        self.board.publish(*items)

    @rule(index=st.integers(0, 2), room=st.integers(0, 12))
    def read(self, index: int, room: int) -> None:
        """A viewer whose socket is full reads on, or its socket fills."""
        transport = self.board.viewers[index].transport
        if transport.congested:
            self.board.drain(index, room)
        else:
            transport.room = room

    @invariant()
    def what_is_kept_is_bounded(self) -> None:
        """And nothing is kept for nobody."""
        assert self.board.everywhere.kept <= 3_000
        assert len(self.board.everywhere) or not self.board.everywhere.kept

    @invariant()
    def order_of_each_key_is_kept(self) -> None:
        """Nobody gets anything twice, or an older one after a newer one; without a key nothing is left out."""
        for viewer in self.board.viewers:
            for key, numbers in _by_key(viewer.transport.items()).items():
                assert numbers == sorted(set(numbers)), key

    def teardown(self) -> None:
        """When all have read on, each has the latest of each key, and everything without a key."""
        for index, viewer in enumerate(self.board.viewers):
            while viewer.transport.congested:
                self.board.drain(index)
        published = _by_key(self.published)
        for viewer in self.board.viewers:
            seen = _by_key(viewer.transport.items())
            assert seen.pop("", []) == published.get("", [])
            assert {key: numbers[-1] for key, numbers in seen.items()} == {
                key: numbers[-1] for key, numbers in published.items() if key
            }
        assert self.board.everywhere.kept == 0


def _by_key(items: list[str]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for key, number in _split(items):
        found.setdefault(key, []).append(number)
    return found


def _split(items: list[str]) -> Iterator[tuple[str, int]]:
    for item in items:
        key, number = item.split(":")
        yield key, int(number)


TestViewing = Viewing.TestCase
TestViewing.settings = settings(max_examples=200, stateful_step_count=30, deadline=None)
