"""Recovery from end to end in the edge's core: clients in JSON, a stream and its history in memory."""

from __future__ import annotations

import json
from typing import Any

import pytest
from centrifuge.fossil import apply_delta

from tests.fakes.core import Client, Core
from tests.fakes.edge import OPEN, edge_config, token
from tests.support.protocol import protocol
from tidewire.edge import reads, recovery, timeline
from tidewire.edge.ended_lives import DOUBT_TICKS
from tidewire.edge.ports import Publication
from tidewire.edge.recent_pages import LIFE_TICKS
from tidewire.kernel import errors

KEPT = {"history_size": 100, "history_ttl": "1h"}
NAMESPACES: list[dict[str, Any]] = [
    {"name": "log", **OPEN, **KEPT, "force_recovery": True, "recovery_max_publication_limit": 10},
    {"name": "ask", **OPEN, **KEPT, "allow_recovery": True, "allow_positioning": True},
    {"name": "off", **OPEN, **KEPT},
    {"name": "last", **OPEN, **KEPT, "force_recovery": True, "force_recovery_mode": "cache"},
    {"name": "batch", **OPEN, **KEPT, "force_recovery": True, "batch_max_delay": "1s"},
    {
        "name": "edits",
        **OPEN,
        **KEPT,
        "force_recovery": True,
        "allowed_delta_types": ["fossil"],
        "delta_publish": True,
    },
    {"name": "watched", **OPEN, **KEPT, "force_positioning": True},
    {"name": "plain", **OPEN},
    {"name": "read", **OPEN, **KEPT, "allow_history_for_client": True, "history_max_publication_limit": 6},
    {"name": "members", **OPEN, **KEPT, "allow_history_for_subscriber": True},
    {"name": "public", **OPEN, **KEPT, "allow_history_for_client": True, "allow_history_for_anonymous": True},
    {"name": "bytes", **OPEN, **KEPT, "allow_history_for_client": True, "publication_data_format": "binary"},
]
CONFIG: dict[str, Any] = {
    "channel": {"namespaces": NAMESPACES},
    "history": {"target": "ipv4:127.0.0.1:1"},
}


@pytest.fixture
def core() -> Core:
    """An edge with a history service."""
    return Core(**CONFIG)


def subscribe(client: Client, channel: str = "log:a", *, number: int = 2, **fields: Any) -> dict[str, Any]:
    """The answer to a subscribe command, once NATS and history have answered."""
    client.say({"id": number, "subscribe": {"channel": channel, **fields}})
    broker = client.core.broker
    if not any(
        name == channel for name, _, _ in broker.subscribed.values() if name not in broker.unsubscribed
    ):
        raise AssertionError("never subscribed")
    if not client.transport.frames:
        broker.confirm(channel)
    client.core.history.settle()
    [reply] = client.heard()
    return reply["subscribe"] if "subscribe" in reply else reply["error"]


def recover(
    client: Client, offset: int, epoch: str = "life1", channel: str = "log:a", **fields: Any
) -> dict[str, Any]:
    """The answer to a subscribe command that recovers."""
    return subscribe(client, channel, recover=True, offset=offset, epoch=epoch, **fields)


def sweep(core: Core) -> None:
    """Let the time come for a sweep, and no pings."""
    for _ in range(260):
        core.positions.tick()
    core.history.settle()


def offsets(heard: list[dict[str, Any]]) -> list[int]:
    """The offsets of publications that were pushed."""
    return [each["push"]["pub"]["offset"] for each in heard]


def shown(answer: dict[str, Any]) -> list[int]:
    """The offsets of publications in an answer."""
    return [each["offset"] for each in answer.get("publications", [])]


class TestSubscribe:
    @protocol("subscribe.recovery")
    def test_position_of_an_empty_channel_is_the_streams(self, core: Core) -> None:
        core.history.elsewhere(7)
        assert subscribe(core.client()) == {"recoverable": True, "epoch": "life1", "offset": 7}
        assert (core.history.queries[0].limit, core.history.queries[0].reverse) == (1, True)

    def test_a_position_knows_when_its_publication_was_stored(self, core: Core) -> None:
        """So that the same offset of another life is no repetition, behind which the next one would follow."""
        core.history.publish("log:a", 1)
        client = core.client()
        assert subscribe(client)["offset"] == 1
        core.history.begin_anew()
        core.hear("log:a", *(core.history.publish("log:a", number) for number in (2, 3)))
        [told] = client.heard()
        assert told["push"]["unsubscribe"]["code"] == 2500

    def test_where_it_is_not_known_a_repetition_is_looked_into(self, core: Core) -> None:
        """The channel had nothing stored, and yet something comes that should be behind its position."""
        core.history.elsewhere(7)
        client = core.client()
        assert subscribe(client)["offset"] == 7
        core.history.begin_anew()
        core.history.elsewhere(6)
        core.hear("log:a", *(core.history.publish("log:a", number) for number in (2, 3)))
        core.history.settle()
        [told] = client.heard()
        assert told["push"]["unsubscribe"]["code"] == 2500

    def test_publications_carry_offset_tags_and_sender(self, core: Core) -> None:
        client = core.client()
        subscribe(client)
        info = b'{"user":"bob","client":"c"}'
        core.hear("log:a", core.history.publish("log:a", 1, info=info, tags={"a": "b"}))
        core.history.settle()  # the first publication follows nothing that is stored
        [heard] = client.heard()
        assert heard["push"]["pub"] == {"data": 1, "offset": 1, "tags": {"a": "b"}, "info": json.loads(info)}

    def test_second_member_needs_no_history(self, core: Core) -> None:
        core.history.publish("log:a", 1)
        subscribe(core.client())
        asked = len(core.history.queries)
        assert subscribe(core.client())["offset"] == 1
        assert len(core.history.queries) == asked

    @protocol(
        "option.allow_positioning",
        "option.force_positioning",
        "option.allow_recovery",
        "option.force_recovery",
    )
    @pytest.mark.parametrize(
        ("channel", "wishes", "flags"),
        [
            ("ask:a", {"positioned": True}, {"positioned"}),
            ("ask:a", {"recoverable": True}, {"recoverable"}),
            ("ask:a", {}, set()),
            ("off:a", {"positioned": True, "recoverable": True, "recover": True}, set()),
            ("plain:a", {"positioned": True, "recoverable": True, "recover": True}, set()),
            ("log:a", {}, {"recoverable"}),
            ("watched:a", {}, {"positioned"}),
        ],
    )
    def test_wishes_are_granted_where_the_namespace_lets(
        self, core: Core, channel: str, wishes: dict[str, Any], flags: set[str]
    ) -> None:
        answer = subscribe(core.client(), channel, **wishes)
        assert set(answer) == (flags | {"epoch"} if flags else set())

    def test_without_a_wish_no_history_is_asked(self, core: Core) -> None:
        client = core.client()
        subscribe(client, "off:a")
        core.store("off:a", 1)
        assert offsets(client.heard()) == [1]
        assert not core.history.queries

    def test_history_away_is_temporary_for_positions_and_nothing_for_others(self, core: Core) -> None:
        core.history.away = True
        plain, positioned = core.client(), core.client()
        subscribe(plain, "ask:a")
        answer = subscribe(positioned, "ask:a", positioned=True)
        assert (answer["code"], answer["temporary"]) == (100, True)
        core.store("ask:a", 1)
        assert offsets(plain.heard()) == [1]
        assert positioned.heard() == []
        core.history.away = False
        assert subscribe(positioned, "ask:a", number=3, positioned=True)["offset"] == 1

    def test_what_waits_for_history_goes_to_plain_members_when_it_is_away(self, core: Core) -> None:
        plain, positioned = core.client(), core.client()
        subscribe(plain, "ask:a")
        core.history.away = True
        positioned.say({"id": 2, "subscribe": {"channel": "ask:a", "positioned": True}})
        core.store("ask:a", 1, 2)
        assert plain.heard() == []
        core.history.settle()
        assert offsets(plain.heard()) == [1, 2]
        assert positioned.heard()[0]["error"]["code"] == 100

    def test_too_many_reads_are_refused_for_the_moment(
        self, core: Core, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reads, "MAX_AT_ONCE", 1)
        monkeypatch.setattr(reads, "MAX_WAITING", 1)
        clients = [core.client() for _ in range(3)]
        for number, client in enumerate(clients):
            client.say({"id": 2, "subscribe": {"channel": f"log:{number}"}})
            core.broker.confirm(f"log:{number}")
        assert clients[2].heard()[0]["error"]["code"] == 111
        core.history.settle()
        assert all("subscribe" in client.heard()[0] for client in clients[:2])


class TestRecover:
    @protocol("subscribe.recovery")
    def test_missed_publications_ascend_and_offset_is_the_clients(self, core: Core) -> None:
        for number in range(3):
            core.history.publish("log:a", number)
            core.history.elsewhere()
        answer = recover(core.client(), 1)
        assert answer == {
            "recoverable": True,
            "epoch": "life1",
            "offset": 1,
            "publications": [{"data": 1, "offset": 3}, {"data": 2, "offset": 5}],
            "recovered": True,
            "was_recovering": True,
        }

    def test_from_the_start_with_an_empty_epoch(self, core: Core) -> None:
        core.history.publish("log:a", 0)
        answer = recover(core.client(), 0, "")
        assert (answer["recovered"], shown(answer)) == (True, [1])

    def test_nothing_missed(self, core: Core) -> None:
        core.history.publish("log:a", 0)
        client = core.client()
        subscribe(client)
        asked = len(core.history.queries)
        answer = recover(core.client(), 1)
        assert (answer["recovered"], shown(answer), len(core.history.queries)) == (True, [], asked)

    @protocol("error.112", "option.recovery_max_publication_limit", "option.history_size")
    @pytest.mark.parametrize("known", [False, True])
    @pytest.mark.parametrize(
        ("offset", "epoch", "why"),
        [
            (1, "life1", "trimmed"),
            (5, "life0", "other_epoch"),
            (99, "life1", "other_epoch"),
            (2, "life1", "too_many"),
        ],
    )
    def test_unrecoverable_is_no_error_unless_asked_for(
        self, core: Core, offset: int, epoch: str, why: str, *, known: bool
    ) -> None:
        for number in range(14):
            core.history.publish("log:a", number)
        core.history.trim("log:a", 12)
        if known:
            subscribe(core.client())
        answer = recover(core.client(), offset, epoch)
        assert answer == {"recoverable": True, "epoch": "life1", "offset": 14, "was_recovering": True}
        assert recover(core.client(), offset, epoch, flag=2)["code"] == 112
        assert core.metrics.of("recovery") == [(why,), (why,)]

    def test_reply_is_at_most_half_a_mebibyte(self, core: Core) -> None:
        for _ in range(6):
            core.history.publish("log:a", "x" * 100_000)
        core.client()
        assert recover(core.client(), 0)["was_recovering"]
        assert shown(recover(core.client(), 1)) == [2, 3, 4, 5, 6]

    def test_live_goes_on_behind_the_reply(self, core: Core) -> None:
        first = core.client()
        subscribe(first)
        core.store("log:a", 1, 2)
        core.history.settle()
        second = core.client()
        second.say(
            {"id": 2, "subscribe": {"channel": "log:a", "recover": True, "offset": 1, "epoch": "life1"}}
        )
        core.store("log:a", 3)  # while history is asked: members do not wait for it
        assert offsets(first.heard()) == [1, 2, 3]
        core.history.settle()
        core.store("log:a", 4)
        reply, *pushes = second.heard()
        assert (shown(reply["subscribe"]), offsets(pushes)) == ([2, 3], [4])
        assert offsets(first.heard()) == [4]

    def test_history_that_is_ahead_of_nats_fills_for_all(self, core: Core) -> None:
        first, second = core.client(), core.client()
        subscribe(first)
        core.store("log:a", 1)
        core.history.settle()
        late = core.history.publish("log:a", 2)
        answer = recover(second, 0)
        core.hear("log:a", late)
        assert shown(answer) == [1, 2]
        assert (offsets(first.heard()), second.heard()) == ([1, 2], [])
        assert len(core.metrics.of("duplicate_dropped")) == 1

    def test_client_that_is_ahead_of_this_edge_waits_for_what_the_edge_lacks(self, core: Core) -> None:
        first, second = core.client(), core.client()
        subscribe(first)
        for number in range(3):
            core.history.publish("log:a", number)
        answer = recover(second, 2)
        assert (answer["recovered"], shown(answer)) == (True, [3])
        assert offsets(first.heard()) == [1, 2, 3]

    def test_client_that_is_ahead_of_what_another_read_has_found(self, core: Core) -> None:
        """Both ask before the channel has a position; the slower replica's answer comes first."""
        for number in range(3):
            core.history.publish("log:a", number)
        first, second = core.client(), core.client()
        first.say({"id": 2, "subscribe": {"channel": "log:a"}})
        core.broker.confirm("log:a")
        core.history.prepare()
        core.history.publish("log:a", 3)
        core.history.publish("log:a", 4)
        second.say(
            {"id": 2, "subscribe": {"channel": "log:a", "recover": True, "offset": 4, "epoch": "life1"}}
        )
        core.history.answer()
        core.history.settle()
        [reply] = second.heard()
        assert (reply["subscribe"].get("recovered"), shown(reply["subscribe"])) == (True, [5])
        began, *pushes = first.heard()
        assert (began["subscribe"]["offset"], offsets(pushes)) == (3, [4, 5])

    def test_identical_recoveries_are_one_read(self, core: Core) -> None:
        for number in range(5):
            core.history.publish("log:a", number)
        subscribe(core.client())
        asked = len(core.history.queries)
        clients = [core.client() for _ in range(50)]
        for client in clients:
            client.say(
                {"id": 2, "subscribe": {"channel": "log:a", "recover": True, "offset": 2, "epoch": "life1"}}
            )
        core.history.settle()
        assert len(core.history.queries) == asked + 1
        assert all(shown(client.heard()[0]["subscribe"]) == [3, 4, 5] for client in clients)

    def test_who_comes_a_moment_later_with_the_same_position_needs_no_read(self, core: Core) -> None:
        """Also where more has come since; nobody with another position; and not for long."""
        for number in range(1, 5):
            core.history.publish("log:a", number)
        assert shown(recover(core.client(), 1)) == [2, 3, 4]
        asked = len(core.history.queries)
        assert shown(recover(core.client(), 1)) == [2, 3, 4]
        assert (len(core.history.queries), len(core.metrics.of("page_reused"))) == (asked, 1)
        assert shown(recover(core.client(), 2)) == [3, 4]
        core.hear("log:a", core.history.publish("log:a", 5))
        assert shown(recover(core.client(), 1)) == [2, 3, 4, 5]
        assert len(core.metrics.of("page_reused")) == 1
        assert shown(recover(core.client(), 1)) == [2, 3, 4, 5]
        assert len(core.metrics.of("page_reused")) == 2
        for _ in range(2 * LIFE_TICKS):
            core.positions.tick()
        assert shown(recover(core.client(), 1)) == [2, 3, 4, 5]
        assert len(core.metrics.of("page_reused")) == 2

    def test_what_another_epoch_was_refused_is_not_shown_to_this_one(self, core: Core) -> None:
        """The first to come, when the epoch is not known on this edge, may have any."""
        for number in range(1, 4):
            core.history.publish("log:a", number)
        assert recover(core.client(), 1, "old")["recoverable"]
        assert shown(recover(core.client(), 1)) == [2, 3]

    def test_unsubscribe_and_close_during_a_read(self, core: Core) -> None:
        core.history.publish("log:a", 0)
        subscribe(core.client())
        leaver, closer = core.client(), core.client()
        for client in (leaver, closer):
            client.say({"id": 2, "subscribe": {"channel": "log:a", "recover": True, "epoch": "life1"}})
        leaver.say({"id": 3, "unsubscribe": {"channel": "log:a"}})
        core.dispatcher.lost(closer.connection)
        core.history.settle()
        assert [each.get("id") for each in leaver.heard()] == [2, 3]
        assert closer.heard() == []
        core.store("log:a", 1)
        assert leaver.heard() == []
        assert shown(recover(leaver, 1, number=4)) == [2]

    def test_resubscription_within_a_connection(self, core: Core) -> None:
        client = core.client()
        subscribe(client)
        core.store("log:a", 1)
        core.history.settle()
        assert offsets(client.heard()) == [1]
        client.say({"id": 3, "unsubscribe": {"channel": "log:a"}})
        client.heard()
        core.store("log:a", 2)
        assert shown(recover(client, 1, number=4)) == [2]

    def test_too_much_that_comes_meanwhile_is_not_recovered(
        self, core: Core, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(timeline, "MAX_KEPT", 3)
        core.history.publish("log:a", 0)
        subscribe(core.client())
        client = core.client()
        page = core.history.page
        client.say({"id": 2, "subscribe": {"channel": "log:a", "recover": True, "epoch": "life1"}})
        old = page(core.history.queries[-1])
        core.history._answer = lambda _query: old  # type: ignore[method-assign] - a service that is behind
        core.store("log:a", *range(1, 8))
        core.history.settle()
        assert client.heard()[0]["error"]["code"] == 100  # asked again, in vain
        assert len(core.history.queries) == 2 + recovery.MAX_TRIES - 1


class TestGaps:
    def test_lost_publication_is_filled_in_for_all(self, core: Core) -> None:
        clients = [core.client(), core.client()]
        for client in clients:
            subscribe(client)
        core.store("log:a", 0)
        core.history.settle()
        core.history.publish("log:a", 1)
        core.store("log:a", 2, 3)
        assert offsets(clients[0].heard()) == [1]
        core.history.settle()
        assert offsets(clients[0].heard()) == [2, 3, 4]
        assert offsets(clients[1].heard()) == [1, 2, 3, 4]
        assert core.metrics.of("gap") == [("found",), ("filled",), ("found",), ("filled",)]

    @protocol("unsubscribe.2500")
    def test_gap_that_cannot_be_filled_ends_positioned_subscriptions_only(self, core: Core) -> None:
        positioned, plain = core.client(), core.client()
        subscribe(positioned, "ask:a", positioned=True)
        subscribe(plain, "ask:a")
        core.history.publish("ask:a", 0)
        core.history.publish("ask:a", 1)
        core.history.trim("ask:a", 1)
        core.store("ask:a", 2)
        core.history.settle()
        assert offsets(plain.heard()) == [3]
        assert positioned.heard() == [
            {"push": {"channel": "ask:a", "unsubscribe": {"code": 2500, "reason": "insufficient state"}}}
        ]
        assert core.metrics.of("gap")[-1] == ("lost",)
        core.store("ask:a", 3)
        assert (offsets(plain.heard()), positioned.heard()) == ([4], [])

    def test_stream_that_went_back_begins_anew(self, core: Core) -> None:
        client = core.client()
        subscribe(client)
        core.store("log:a", 0, 1, 2)
        core.history.settle()
        assert offsets(client.heard()) == [1, 2, 3]
        core.history.begin_anew()
        core.store("log:a", 3)
        core.history.settle()
        [heard] = client.heard()
        assert heard["push"]["unsubscribe"]["code"] == 2500
        answer = recover(client, 3, number=5)
        assert answer == {"recoverable": True, "epoch": "life2", "offset": 1, "was_recovering": True}

    def test_nobody_recovers_in_a_life_that_is_over_where_history_does_not_know_it_yet(
        self, core: Core
    ) -> None:
        client = core.client()
        subscribe(client)
        core.store("log:a", 0, 1, 2)
        core.history.settle()
        client.heard()
        late = Publication(b"3", offset=2, previous=1, time_ns=core.history.now + 1000)
        core.hear("log:a", late)
        [heard] = client.heard()
        assert heard["push"]["unsubscribe"]["code"] == 2500
        answer = recover(client, 3, number=5)  # history answers as if nothing had happened
        assert (answer["code"], answer["temporary"]) == (100, True)
        core.history.begin_anew(sequence=2)
        answer = recover(client, 3, number=6)
        assert answer == {"recoverable": True, "epoch": "life2", "offset": 2, "was_recovering": True}

    def test_a_life_is_over_for_a_while_only(self, core: Core) -> None:
        """A clock that went back must not keep everybody away for ever."""
        client = core.client()
        subscribe(client)
        core.store("log:a", 0, 1, 2)
        core.history.settle()
        core.hear("log:a", Publication(b"3", offset=2, previous=1, time_ns=core.history.now + 1000))
        client.heard()
        assert recover(client, 3, number=5)["code"] == 100
        core.run((DOUBT_TICKS + 1) / 10)
        client.heard()
        assert recover(client, 3, number=6)["recovered"]
        assert not len(core.positions._recovery._ended)

    def test_gap_waits_for_a_history_that_is_away_and_then_gives_up(self, core: Core) -> None:
        client = core.client()
        subscribe(client)
        core.history.away = True
        core.history.publish("log:a", 0)
        core.store("log:a", 1)
        core.history.settle()
        assert client.heard() == []
        core.history.away = False
        core.run(1.1)
        core.history.settle()
        assert offsets(client.heard()) == [1, 2]
        core.history.away = True
        core.history.publish("log:a", 2)
        core.store("log:a", 3)
        for _ in range(recovery.MAX_TRIES):
            core.history.settle()
            core.run(1.1)
        assert [each["push"]["unsubscribe"]["code"] for each in client.heard()] == [2500]

    @pytest.mark.parametrize("bound", ["MAX_KEPT", "MAX_KEPT_BYTES", "room"])
    def test_what_is_held_is_bounded(self, core: Core, monkeypatch: pytest.MonkeyPatch, bound: str) -> None:
        if bound == "room":
            core.positions._recovery._room.limit = 3
        else:
            monkeypatch.setattr(timeline, bound, 3)
        client = core.client()
        subscribe(client)
        core.store("log:a", *range(6))  # the first follows nothing, so all wait
        assert [each["push"]["unsubscribe"]["code"] for each in client.heard()] == [2500]
        assert core.positions._recovery.kept == 0

    @pytest.mark.parametrize("after", [0.3, 2.1])
    def test_publication_lost_at_the_tail_shows_soon_after_the_first_subscription(
        self, core: Core, after: float
    ) -> None:
        client = core.client()
        subscribe(client)
        core.run(after - 0.2)
        core.history.settle()
        core.history.publish("log:a", 0)
        core.run(0.2)
        core.history.settle()
        core.run(0.4)
        core.history.settle()
        assert offsets(client.heard()) == [1]

    def test_sweep_finds_what_was_lost_at_the_tail(self, core: Core) -> None:
        client = core.client()
        subscribe(client)
        core.run(3)
        core.history.settle()
        core.history.publish("log:a", 0)
        sweep(core)
        core.run(1)
        core.history.settle()
        assert offsets(client.heard()) == [1]
        assert core.metrics.of("positions_checked")[-1] == (1, 1)

    def test_sweep_of_a_channel_in_which_nothing_is_stored_reads_nothing(self, core: Core) -> None:
        """However far its stream goes on: it stands where this edge says that it does."""
        subscribe(core.client())
        core.run(3)
        core.history.settle()
        before = len(core.history.queries)
        core.history.elsewhere(50)
        sweep(core)
        assert len(core.history.queries) == before
        assert core.metrics.of("positions_checked")[-1] == (1, 0)

    def test_sweep_counts_those_that_were_compared(self, core: Core) -> None:
        """A channel whose position no replica knows was not."""
        for channel in ("log:a", "log:b"):
            subscribe(core.client(), channel)
        core.run(3)
        core.history.settle()
        core.history.unknown.add("log:a")
        sweep(core)
        core.history.settle()
        assert core.metrics.of("positions_checked")[-1] == (1, 0)

    @pytest.mark.parametrize("trouble", ["away", "unknown"])
    def test_sweep_that_history_could_not_answer_is_made_again_soon(self, core: Core, trouble: str) -> None:
        """NATS was away, and so is history for a moment: what was missed meanwhile does not wait for the next sweep."""
        client = core.client()
        subscribe(client)
        core.run(3)
        core.history.settle()
        core.history.publish("log:a", 0)
        core.history.away = trouble == "away"
        core.history.unknown |= {"log:a"} if trouble == "unknown" else set()
        core.positions.sweep.all()
        core.history.settle()
        asked = len(core.history.asked)
        core.run(4)
        assert len(core.history.asked) == asked, "once in some seconds is enough"
        core.history.away = False
        core.history.unknown.clear()
        core.run(2)
        core.history.settle()
        core.run(1)
        core.history.settle()
        assert offsets(client.heard()) == [1]

    def test_sweep_finds_another_life_of_the_stream(self, core: Core) -> None:
        client = core.client()
        subscribe(client)
        core.history.begin_anew(sequence=50)
        sweep(core)
        assert [each["push"]["unsubscribe"]["code"] for each in client.heard()] == [2500]

    @protocol("disconnect.3010")
    def test_server_side_subscription_ends_with_the_connection(self, core: Core) -> None:
        client = Client(core)
        client.say({"id": 1, "connect": {"token": token("alice", channels=["log:a"])}})
        core.broker.confirm("log:a")
        core.history.settle()
        assert client.heard()[0]["connect"]["subs"] == {"log:a": {"recoverable": True, "epoch": "life1"}}
        core.history.begin_anew(sequence=50)
        sweep(core)
        assert client.closed == errors.INSUFFICIENT_STATE_CLOSE.code == 3010


class TestServerSide:
    @protocol("connect.subs")
    def test_recovers_with_the_connect_reply(self, core: Core) -> None:
        """What comes while another channel is waited for is in the reply, too."""
        for number in range(3):
            core.history.publish("log:a", number)
        client = Client(core)
        held = {"log:a": {"recover": True, "offset": 1, "epoch": "life1"}, "log:other": {"recover": True}}
        client.say({"id": 1, "connect": {"token": token("alice", channels=["log:a", "log:b"]), "subs": held}})
        core.broker.confirm("log:a")
        core.history.settle()
        assert client.heard() == []
        core.store("log:a", 3)
        core.broker.confirm("log:b")
        core.history.settle()
        core.store("log:a", 4)
        reply, *pushes = client.heard()
        subs = reply["connect"]["subs"]
        assert set(subs) == {"log:a", "log:b"}
        assert (subs["log:a"]["recovered"], shown(subs["log:a"]), offsets(pushes)) == (True, [2, 3, 4], [5])

    def test_replies_bound_holds_for_all_together(self, core: Core) -> None:
        for channel in ("log:a", "log:b"):
            for _ in range(3):
                core.history.publish(channel, "x" * 100_000)
        client = Client(core)
        held = {channel: {"recover": True, "epoch": "life1"} for channel in ("log:a", "log:b")}
        client.say({"id": 1, "connect": {"token": token("alice", channels=["log:a", "log:b"]), "subs": held}})
        for channel in ("log:a", "log:b"):
            core.broker.confirm(channel)
        core.history.settle()
        reply = client.transport.frames[0]
        assert len(reply) < 512 * 1024
        subs = json.loads(reply[4:] if reply[1] == 126 else reply[10:])["connect"]["subs"]
        assert [bool(subs[channel].get("recovered")) for channel in ("log:a", "log:b")] == [True, False]

    def test_position_that_is_lost_before_the_reply_fails_the_connect(self, core: Core) -> None:
        client = Client(core)
        client.say({"id": 1, "connect": {"token": token("alice", channels=["log:a", "log:b"])}})
        core.broker.confirm("log:a")
        core.history.settle()
        core.history.begin_anew(sequence=50)
        core.positions.sweep.all()
        core.history.settle()
        assert client.heard()[0]["error"]["temporary"]
        core.broker.confirm("log:b")
        core.history.settle()

    @pytest.mark.parametrize("count", [512, 513])
    def test_subs_are_bounded(self, core: Core, count: int) -> None:
        client = Client(core)
        client.say(
            {"id": 1, "connect": {"token": token("alice"), "subs": {str(each): {} for each in range(count)}}}
        )
        assert client.closed == (0 if count == 512 else 3501)


class TestReload:
    def test_namespace_that_gains_or_loses_its_history_sends_its_members_away(self, core: Core) -> None:
        """They come back, and hear the other subject."""
        client, plain = core.client(), core.client()
        subscribe(client)
        subscribe(plain, "plain:a")
        changed = {
            **CONFIG,
            "channel": {"namespaces": [{"name": "log", **OPEN}, {"name": "plain", **OPEN, **KEPT}]},
        }
        core.rules.configure(edge_config(**changed))
        core.dispatcher.reconfigured(core.timers.timing)
        for each, channel in ((client, "log:a"), (plain, "plain:a")):
            assert [said["push"]["unsubscribe"]["code"] for said in each.heard()] == [2500]
            assert channel in core.broker.unsubscribed
            each.subscribe(channel, 5)
        core.store("plain:a", 1)
        assert offsets(plain.heard()) == [1]


class TestHistoryCommand:
    @protocol("command.history", "option.history_max_publication_limit", "option.history_ttl")
    @pytest.mark.parametrize(
        ("request_", "offsets_"),
        [
            ({}, []),
            ({"limit": 0}, []),
            ({"limit": 2}, [1, 2]),
            ({"limit": 2, "reverse": True}, [9, 8]),
            ({"limit": -1}, [1, 2, 3, 4, 5, 6]),
            ({"limit": 100}, [1, 2, 3, 4, 5, 6]),
            ({"limit": -1, "since": {"offset": 7, "epoch": "life1"}}, [8, 9]),
            ({"limit": -1, "since": {"offset": 3, "epoch": "life1"}, "reverse": True}, [2, 1]),
        ],
    )
    def test_pages(self, core: Core, request_: dict[str, Any], offsets_: list[int]) -> None:
        """With the channel's position; never more than the namespace lets."""
        for number in range(9):
            core.history.publish("read:a", number)
        client = core.client()
        client.say({"id": 2, "history": {"channel": "read:a", **request_}})
        core.history.settle()
        [reply] = client.heard()
        answer = reply["history"]
        assert (answer["epoch"], answer["offset"], shown(answer)) == ("life1", 9, offsets_)

    @protocol(
        "option.allow_history_for_client",
        "option.allow_history_for_subscriber",
        "option.allow_history_for_anonymous",
    )
    @pytest.mark.parametrize(
        ("channel", "user", "claims", "code"),
        [
            ("read:a", "alice", {}, 0),
            ("read:a", "", {}, 103),
            ("$read:a", "alice", {}, 103),
            ("log:a", "alice", {}, 103),
            ("log:a", "alice", {"caps": [{"channels": ["log:a"], "allow": ["hst"]}]}, 0),
            ("members:a", "alice", {}, 103),
            ("members:a", "alice", {"channels": ["members:a"]}, 0),
            ("public:a", "", {}, 0),
            ("plain:a", "alice", {}, 108),
            ("bytes:a", "alice", {}, 108),
            ("nobody:a", "alice", {}, 102),
        ],
    )
    def test_rights(self, core: Core, channel: str, user: str, claims: dict[str, Any], code: int) -> None:
        """By the namespace, by being subscribed, by a token."""
        client = Client(core)
        client.say({"id": 1, "connect": {"token": token(user, **claims)}})
        for name in claims.get("channels", ()):
            core.broker.confirm(name)
        core.history.settle()
        client.heard()
        client.say({"id": 2, "history": {"channel": channel}})
        core.history.settle()
        [reply] = client.heard()
        assert reply.get("error", {}).get("code", 0) == code

    def test_page_is_at_most_half_a_mebibyte(self, core: Core) -> None:
        """Whatever the service sends; one publication goes alone."""
        for _ in range(6):
            core.history.publish("read:a", "x" * 100_000)
        client = core.client()
        client.say({"id": 2, "history": {"channel": "read:a", "limit": -1}})
        core.history.settle()
        [reply] = client.heard()
        assert shown(reply["history"]) == [1, 2, 3, 4, 5]

    @pytest.mark.parametrize(("fails", "code"), [("away", 100), ("crowded", 111)])
    def test_errors(self, core: Core, monkeypatch: pytest.MonkeyPatch, fails: str, code: int) -> None:
        """Temporary ones."""
        if fails == "away":
            core.history.away = True
        else:
            monkeypatch.setattr(reads, "MAX_AT_ONCE", 0)
            monkeypatch.setattr(reads, "MAX_WAITING", 0)
        client = core.client()
        client.say({"id": 2, "history": {"channel": "read:a"}})
        core.history.settle()
        [reply] = client.heard()
        assert (reply["error"]["code"], reply["error"]["temporary"]) == (code, True)

    def test_empty_channel_closes(self, core: Core) -> None:
        """As every command without one."""
        client = core.client()
        client.say({"id": 2, "history": {}})
        assert client.closed == 3501


class TestBatches:
    def test_who_enters_while_a_batch_waits_gets_each_once(self, core: Core) -> None:
        first, second = core.client(), core.client()
        subscribe(first, "batch:a")
        core.store("batch:a", 0)
        core.history.settle()
        core.store("batch:a", 1, 2)
        assert offsets(first.heard()) == [1]
        answer = recover(second, 1, channel="batch:a")
        core.store("batch:a", 3)
        core.timer.run(2)
        assert (shown(answer), offsets(second.heard())) == ([2, 3], [4])
        assert offsets(first.heard()) == [2, 3, 4]


class TestCache:
    @protocol("option.force_recovery_mode")
    def test_last_value_at_subscribe(self, core: Core) -> None:
        for number in range(3):
            core.history.publish("last:a", number)
        answer = recover(core.client(), 0, "", "last:a")
        assert (answer["recovered"], answer["offset"], shown(answer)) == (True, 3, [3])
        assert shown(recover(core.client(), 1, "life0", "last:a")) == [3]
        answer = recover(core.client(), 3, "life1", "last:a")
        assert (answer["recovered"], shown(answer)) == (True, [])
        assert shown(subscribe(core.client(), "last:a")) == []

    def test_empty_channel(self, core: Core) -> None:
        assert "recovered" not in recover(core.client(), 0, "", "last:a")
        core.history.elsewhere(3)
        answer = subscribe(core.client(), "last:b")
        assert recover(core.client(), answer["offset"], "life1", "last:b")["recovered"]

    def test_value_that_comes_meanwhile(self, core: Core) -> None:
        first = core.client()
        subscribe(first, "last:a")
        core.store("last:a", 0)
        core.history.settle()
        second = core.client()
        second.say({"id": 2, "subscribe": {"channel": "last:a", "recover": True}})
        core.store("last:a", 1)
        late = core.history.publish("last:a", 2)  # history knows it before it is heard
        core.history.settle()
        core.hear("last:a", late)
        core.store("last:a", 3)
        reply, *pushes = second.heard()
        assert (shown(reply["subscribe"]), offsets(pushes)) == ([3], [4])
        assert offsets(first.heard()) == [1, 2, 3, 4]


class TestDeltas:
    @protocol("subscribe.delta")
    def test_first_is_whole_and_live_goes_on_from_the_last(self, core: Core) -> None:
        texts = [{"text": "a" * 50, "n": number} for number in range(4)]
        for each in texts[:3]:
            core.history.publish("edits:a", each)
        client = core.client()
        answer = recover(client, 0, channel="edits:a", delta="fossil")
        core.store("edits:a", texts[3])
        [push] = client.heard()
        sent = [*answer["publications"], push["push"]["pub"]]
        assert [each.get("delta", False) for each in sent] == [False, True, True, True]
        base = ""
        for each, text in zip(sent, texts, strict=True):
            base = (
                apply_delta(base.encode(), each["data"].encode()).decode()
                if each.get("delta")
                else each["data"]
            )
            assert json.loads(base) == text
