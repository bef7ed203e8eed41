"""Clients that would have an edge hold, read or tell what it should not, by positions and history: on fakes, in JSON."""

from __future__ import annotations

import itertools
import sys
from typing import Any

import msgspec
import pytest

from tests.fakes.core import Client, Core
from tests.fakes.edge import OPEN, token
from tests.unit.edge.test_recovery import KEPT, recover, shown, subscribe
from tidewire.edge import timeline
from tidewire.edge.admission import MAX_EPOCH
from tidewire.edge.ports import Publication
from tidewire.edge.timeline import Kept, Room, weight

GREATEST = 2**63 - 1
"""The greatest offset that a command may hold."""
CONFIG: dict[str, Any] = {
    "channel": {
        "namespaces": [
            {"name": "log", **OPEN, **KEPT, "force_recovery": True, "allow_history_for_client": True},
            {"name": "shut", **KEPT, "allow_recovery": True, "allow_history_for_subscriber": True},
        ]
    },
    "history": {"target": "ipv4:127.0.0.1:1"},
}


@pytest.fixture
def core() -> Core:
    """An edge with a history service."""
    return Core(**CONFIG)


class TestPositions:
    @pytest.mark.parametrize("epoch", ["life1", "life1" + "x" * 60_000, "\x00", "é" * 1000])
    @pytest.mark.parametrize("offset", [1, GREATEST])
    def test_absurd_ones_recover_nothing_and_read_nothing_more(
        self, core: Core, epoch: str, offset: int
    ) -> None:
        core.history.publish("log:a", 0)
        answer = recover(core.client(), offset, epoch)
        if (offset, epoch) == (1, "life1"):
            assert answer["recovered"]
        else:
            assert "recovered" not in answer
            assert shown(answer) == []
        assert len(core.history.queries) <= 2
        assert all(query.at_least <= 1 for query in core.history.queries)

    @pytest.mark.parametrize("offset", [-1, GREATEST + 1, 2**64, 1.5, "1"])
    def test_what_is_no_offset_ends_the_connection(self, core: Core, offset: object) -> None:
        client = core.client()
        client.say({"id": 2, "subscribe": {"channel": "log:a", "recover": True, "offset": offset}})
        assert client.closed == 3501
        reader = core.client()
        reader.say({"id": 2, "history": {"channel": "log:a", "since": {"offset": offset}}})
        assert reader.closed == 3501

    def test_long_epochs_are_not_kept_while_a_read_waits(self, core: Core) -> None:
        """Ten thousand reads may wait, and a command has 64 KiB."""
        client, long = core.client(), "x" * 60_000
        client.say({"id": 2, "subscribe": {"channel": "log:a", "recover": True, "epoch": long}})
        core.broker.confirm("log:a")
        client.say({"id": 3, "history": {"channel": "log:b", "since": {"epoch": long}, "limit": 1}})
        claims = [query.since.epoch for query in core.history.queries if query.since is not None]
        assert claims == [long[:MAX_EPOCH]] * 2

    def test_long_epochs_of_server_side_subscriptions(self, core: Core) -> None:
        client = core.client(None)
        subs = {"log:a": {"recover": True, "epoch": "x" * 60_000}}
        client.say({"id": 1, "connect": {"token": token("alice", channels=["log:a"]), "subs": subs}})
        core.broker.confirm("log:a")
        claims = [query.since.epoch for query in core.history.queries if query.since is not None]
        assert claims == ["x" * MAX_EPOCH]


class TestRights:
    @pytest.mark.parametrize("channel", ["shut:a", "$log:a", "log:#bob", "none:a", "a"])
    def test_no_command_tells_the_position_of_a_channel_without_the_right_to_it(
        self, core: Core, channel: str
    ) -> None:
        """An epoch is of a stream, which channels share: who has it from one channel learns nothing of others by it."""
        client = core.client()
        epoch = subscribe(client, "log:mine")["epoch"]
        asked = len(core.history.queries)
        position = {"offset": 1, "epoch": epoch}
        client.say(
            {"id": 3, "subscribe": {"channel": channel, "recover": True, **position}},
            {"id": 4, "history": {"channel": channel, "since": position, "limit": 10}},
            {"id": 5, "history": {"channel": channel}},
            {"id": 6, "history": {"channel": channel, "reverse": True, "limit": -1}},
        )
        answers = client.heard()
        assert [each["id"] for each in answers] == [3, 4, 5, 6]
        assert all(each["error"]["code"] in {102, 103, 108} for each in answers)
        assert len(core.history.queries) == asked


class TestMemory:
    def test_small_publications_count_for_what_they_take(self) -> None:
        """Millions of them would fit into a bound on their data."""
        empty = Publication(b"", offset=1)
        tagged = Publication(b"x" * 10, b"y" * 20, {"ab": "cde", "f": ""}, offset=2)
        assert weight(empty) >= sys.getsizeof(empty) + sys.getsizeof(empty.data)
        assert weight(tagged) == timeline.OVERHEAD + 2 * timeline.TAG_OVERHEAD + 10 + 20 + 6
        room = Room(3 * weight(empty))
        kept = Kept(room)
        assert [kept.add(msgspec.structs.replace(empty, offset=n)) for n in range(4)] == [True] * 3 + [False]
        assert len(kept.take()) == 3
        assert room.used == 0

    def test_nothing_is_left_of_clients_that_come_and_go(self, core: Core) -> None:
        """In every state: before NATS has confirmed, while history is asked, as a member, recovered or refused."""
        numbers = itertools.count(2)
        for turn in range(2000):
            client = core.client()
            channel = f"log:{turn % 50}"
            client.say(
                {
                    "id": next(numbers),
                    "subscribe": {
                        "channel": channel,
                        "recover": turn % 3 > 0,
                        "offset": turn % 7,
                        "epoch": "life1",
                    },
                }
            )
            if turn % 4:
                _confirm(core, channel)
            if turn % 4 > 1:
                core.history.away = turn % 11 == 0
                core.history.settle()
            if turn % 5 == 0:
                core.store(channel, turn)
            _leave(core, client, channel, next(numbers), by_command=turn % 2 == 0)
        core.history.away = False
        core.history.settle()
        core.run(60)
        core.history.settle()
        recovery = core.positions._recovery
        assert not core.hub.channels
        assert not recovery.channels
        assert (recovery.kept, recovery.reads.running, recovery.reads.waiting) == (0, 0, 0)
        assert not len(core.positions.sweep)


def _confirm(core: Core, channel: str) -> None:
    broker = core.broker
    if any(
        name == channel and sid not in broker.unsubscribed for sid, (name, _, _) in broker.subscribed.items()
    ):
        broker.confirm(channel)


def _leave(core: Core, client: Client, channel: str, number: int, *, by_command: bool) -> None:
    if by_command:
        client.say({"id": number, "unsubscribe": {"channel": channel}})
    core.dispatcher.lost(client.connection)
