from __future__ import annotations

from typing import Any

import pytest

from tests.fakes.presence import Bench
from tidewire.kernel.call_errors import CallError
from tidewire.kernel.presence_wire import Connected, Delta, Joined, user_partition
from tidewire.kernel.subjects import encode_channel, partition_of
from tidewire.presence import answers as module
from tidewire.presence.answers import MOST_CONNECTIONS, Answers, Counts, Members, Status
from tidewire.presence.servicer import MOST_ITEMS, PresenceServicer
from tidewire.rpc.presence.v1 import presence_pb2 as pb


class Scene:
    """A replica with two edges in one partition, and what it answers."""

    def __init__(self, partitions: int = 1, served: tuple[int, ...] = (0,)) -> None:
        self.bench = Bench(partitions=served)
        self.partitions = partitions
        self.said: dict[tuple[str, int], int] = {}
        for edge in ("e1", "e2"):
            self.bench.beat(edge)
        self.answers = Answers(
            self.bench.replica, partitions, lambda: self.bench.now, lambda: self.bench.now_ms / 1000
        )

    def join(self, edge: str, channel: str, client: str, user: str, info: bytes = b"") -> None:
        """A connection subscribes."""
        self._say(
            edge, partition_of(encode_channel(channel), self.partitions), Joined(channel, client, user, info)
        )

    def connect(self, edge: str, user: str, client: str) -> None:
        """A user connects."""
        self._say(edge, user_partition(user, self.partitions), Connected(user, client, 7))

    def _say(self, edge: str, partition: int, change: Any) -> None:
        first = self.said[edge, partition] = self.said.get((edge, partition), 0) + 1
        self.bench.replica.delta(edge, partition, Delta(1, 1, first, (change,)), self.bench.now)


def test_edges_are_put_together() -> None:
    """A connection that two edges know is one, a user with several is one, and those without an id are many."""
    scene = Scene()
    scene.join("e1", "a", "c1", "bob")
    scene.join("e1", "a", "both", "bob")
    scene.join("e2", "a", "both", "bob")
    scene.join("e2", "a", "c2", "eve", b"{}")
    scene.join("e2", "a", "c3", "")
    scene.join("e2", "a", "c4", "")
    assert scene.answers.counts(["a", "none"]) == [Counts(5, 4), Counts(0, 0)]
    (found,) = scene.answers.members(["a"], 100)
    assert isinstance(found, Members)
    assert (len(found.shown), found.clients) == (5, 5)


def test_lists_are_cut_off_by_their_limit_and_by_what_a_reply_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """And say how many there are."""
    scene = Scene()
    for number in range(10):
        scene.join("e1", "a", f"c{number}", "bob", b"x" * 100)
        scene.join("e1", "b", f"c{number}", "bob", b"x" * 100)

    def sizes(limit: int) -> list[tuple[int, int]]:
        found = scene.answers.members(["a", "b"], limit)
        return [(len(each.shown), each.clients) for each in found if isinstance(each, Members)]

    assert sizes(7) == [(7, 10), (7, 10)]
    monkeypatch.setattr(module, "MOST_MEMBERS", 12)
    assert sizes(100) == [(10, 10), (2, 10)]
    monkeypatch.setattr(module, "MOST_BYTES", 500)
    assert sizes(100) == [(4, 10), (0, 10)]


def test_counts_of_large_channels_are_not_made_for_everybody_who_asks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What took long is given again for ten times as long, and no longer; a small channel's is always new, however long it took."""
    scene, made, size = Scene(), 0, module.LARGE - 1

    def slowly(edges: list[Any]) -> Counts:
        nonlocal made
        made += 1
        scene.bench.now += 0.1
        return Counts(size + len(edges), made)

    scene.join("e1", "a", "c1", "bob")
    with monkeypatch.context() as patched:
        patched.setattr(module, "_counts", slowly)
        assert [scene.answers.counts(["a"]) for _ in range(3)] == [[Counts(module.LARGE, 1)]] * 3
        scene.bench.now += 0.99
        assert scene.answers.counts(["a"]) == [Counts(module.LARGE, 1)]
        scene.bench.now += 0.02
        assert scene.answers.counts(["a"]) == [Counts(module.LARGE, 2)]
        assert [scene.answers.counts(["none"]) for _ in range(2)] == [
            [Counts(size, 3)],
            [Counts(size, 4)],
        ]
        patched.setattr(module, "MOST_KEPT", 2)
        size += 1
        scene.answers.counts(["b", "c", "d"])
        assert len(scene.answers._kept) == 2
    assert scene.answers.counts(["e"]) == [Counts(0, 0)]
    scene.join("e1", "e", "c1", "bob")
    assert scene.answers.counts(["e"]) == [Counts(1, 1)]


def test_list_of_more_than_any_reply_holds_is_not_put_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """A beginning of it, and how many there are, at the cost of the beginning."""
    monkeypatch.setattr(module, "MOST_MEMBERS", 2)
    monkeypatch.delattr(module, "_together")
    scene = Scene()
    for number in range(5):
        scene.join(f"e{1 + number % 2}", "a", f"c{number}", "bob")
    (found,) = scene.answers.members(["a"], 2)
    assert isinstance(found, Members)
    assert (len(found.shown), found.clients) == (2, 5)
    scene.join("e2", "a", "nobody", "")
    scene.join("e1", "a", "nobody either", "")
    assert scene.answers.counts(["a"]) == [Counts(7, 3)]


def test_users_have_connections_everywhere() -> None:
    """As many as an answer holds, and a count of all."""
    scene = Scene()
    for number in range(MOST_CONNECTIONS + 5):
        scene.connect("e1" if number % 2 else "e2", "bob", f"c{number}")
    (found,) = scene.answers.statuses(["bob"])
    assert isinstance(found, Status)
    assert (len(found.connections), found.online) == (MOST_CONNECTIONS, MOST_CONNECTIONS + 5)
    assert {each.edge for each in found.connections} == {"e1", "e2"}


async def test_problems_are_each_items_own_and_the_calls_where_all_have_one() -> None:
    """So that another replica is asked at once, or the rest is used."""
    scene = Scene(2, (0,))
    by_partition: dict[int, str] = {}
    for number in range(20):
        by_partition.setdefault(partition_of(encode_channel(f"c{number}"), 2), f"c{number}")
    here, there = by_partition[0], by_partition[1]
    counted: dict[tuple[str, str], int] = {}
    servicer = PresenceServicer(
        scene.answers, lambda method, outcome, count: counted.update({(method, outcome): count})
    )
    reply = await servicer.Stats(pb.StatsRequest(channels=[here, there, "bad:"]), None)
    assert [each.problem for each in reply.channels] == ["", "elsewhere", "bad_request"]
    members = pb.MembersReply.FromString(
        await servicer.Members(pb.MembersRequest(channels=[there, here]), None)
    )
    assert [each.problem for each in members.channels] == ["elsewhere", ""]
    assert counted["stats", "ok"] == counted["stats", "elsewhere"] == 1
    for channels, reason in (
        ([there], "elsewhere"),
        (["bad:"], "bad_request"),
        ([there, "bad:"], "elsewhere"),
    ):
        with pytest.raises(CallError) as caught:
            await servicer.Stats(pb.StatsRequest(channels=channels), None)
        assert caught.value.reason.name == reason
    scene.bench.replica.link_down()
    with pytest.raises(CallError) as caught:
        await servicer.Stats(pb.StatsRequest(channels=[here]), None)
    assert caught.value.reason.name == "unavailable"
    scene.bench.replica.link_up(scene.bench.now)
    with pytest.raises(CallError) as caught:
        await servicer.UserStatus(pb.UserStatusRequest(users=[str(n) for n in range(5)]), None)
    assert caught.value.reason.name in {"not_synced", "elsewhere"}
    assert await servicer.Stats(pb.StatsRequest(), None) == pb.StatsReply()
    with pytest.raises(CallError, match="more than 1000"):
        await servicer.Members(pb.MembersRequest(channels=["a"] * (MOST_ITEMS + 1)), None)
