"""Batching and conflation as members see them: hub, fan-out and real codecs on a fake broker."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest

from tests.fakes.clock import ManualClock
from tests.fakes.core import Client, Core
from tests.fakes.door import Door
from tests.fakes.edge import NAMESPACES, OPEN, CountingMetrics, RecordingTransport, edge_config
from tests.support.protocol import protocol
from tidewire.edge.channel import Audience, Channel
from tidewire.edge.conflation import Delivery
from tidewire.edge.connection import Connection
from tidewire.edge.fan_out import FanOut
from tidewire.edge.framing import WEBSOCKET_JSON, WEBSOCKET_PROTOBUF, Framing
from tidewire.edge.policies.filters import TagsFilter
from tidewire.edge.ports import Publication
from tidewire.edge.subscription import DELTA, PLAIN
from tidewire.edge.timers import Timing
from tidewire.edge.wire.commands import FilterNode
from tidewire.rpc.centrifuge.v2 import client_pb2 as pb

TIMING = Timing(ping=25.0, pong=8.0, stale=10.0)
BOARD = {"name": "board", **OPEN, "conflate": True, "allow_tags_filter": True, "allow_wildcards": True}


def namespaces(**changes: Any) -> dict[str, Any]:
    """Those of the fakes and a conflating one, with other options where they are given."""
    return {"namespaces": [*NAMESPACES, {**BOARD, **changes}], "without_namespace": OPEN}


@pytest.fixture
def core() -> Core:
    """The namespace `board` conflates."""
    return Core(channel=namespaces())


def publish(core: Core, *publications: Publication, channel: str = "board:a") -> None:
    """Publications of one read."""
    for publication in publications:
        core.broker.sink(channel).receive(publication)
    core.hub.flush()


def keyed(*names: str, **tags: str) -> list[Publication]:
    """Publications such as `a1`, with the key `a`; `-1` has none."""
    return [
        Publication(json.dumps(name).encode(), tags=tags or None, key=name[:1].encode().strip(b"-"))
        for name in names
    ]


def heard(client: Client) -> list[Any]:
    """The data of what came."""
    return [each["push"]["pub"]["data"] for each in client.heard()]


@protocol("option.conflate")
def test_of_one_turn_only_the_latest_of_a_key_goes_out(core: Core) -> None:
    """Without any delay; what has no key all goes out, at its place. Other namespaces know no keys."""
    client = core.client().subscribe("board:a").subscribe("chat:a", 3)
    publish(core, *keyed("a1", "-1", "b1", "a2", "-1", "a3"))
    publish(core, *keyed("a4"))
    assert heard(client) == ["-1", "b1", "-1", "a3", "a4"]
    assert [count for (count,) in core.metrics.of("conflated") if count] == [2]
    publish(core, *keyed("a1", "a2"), channel="chat:a")
    assert heard(client) == ["a1", "a2"]


@protocol("option.batch_max_delay", "option.batch_max_size")
def test_batches_go_out_together() -> None:
    """The first at once; with conflation the latest of each key; the latency holds the time that they waited."""
    core = Core(channel=namespaces(batch_max_delay="100ms", batch_max_size=4))
    timer = core.timer
    client = core.client().subscribe("board:a")
    for name in ("a1", "a2", "b1", "a3"):
        publish(core, *keyed(name))
    assert heard(client) == ["a1"]
    sent = Publication(b"0", sent_us=int(core.clock.wall() * 1e6))
    publish(core, sent)
    core.clock.epoch += 0.1
    timer.run(0.1)
    assert len(client.transport.frames) == 1
    assert heard(client) == ["b1", "a3", 0]
    assert core.metrics.of("latency") == [(pytest.approx(0.1),)]
    assert core.metrics.of("batched") == [(1, 0.0), (3, pytest.approx(0.1))]
    publish(core, *keyed("a4", "b4", "c4"))
    assert heard(client) == []
    publish(core, *keyed("d4"))
    assert heard(client) == ["a4", "b4", "c4", "d4"]


def test_nobody_is_left_and_the_batch_is_forgotten() -> None:
    """A channel that lingers sends nothing."""
    core = Core(channel=namespaces(batch_max_delay="100ms"))
    client = core.client().subscribe("board:a")
    publish(core, *keyed("a1"))
    publish(core, *keyed("a2"))
    client.say({"id": 5, "unsubscribe": {"channel": "board:a"}})
    core.timer.run(0.1)
    assert [each for each in client.heard() if "push" in each][1:] == []


def test_what_waits_unchecked_never_reaches_a_json_client() -> None:
    """A reload has made the namespace another: its members, all binary, get what came before at once."""
    core = Core(channel=namespaces(batch_max_delay="10s"))
    hub, old, new = core.hub, core.client(), core.client()
    delivery = Delivery(10.0, 1000, conflate=True, max_keys=1)
    old.connection.transport.framing = WEBSOCKET_PROTOBUF  # type: ignore[misc]
    hub.join(old.connection, "board:a", 1, binary=True, delivery=delivery)
    core.broker.confirm("board:a")
    hub.enter(old.connection, "board:a", PLAIN)
    publish(core, Publication(b"\xff1"))
    publish(core, Publication(b"\xff2"))
    assert len(old.transport.frames) == 1
    hub.join(new.connection, "board:a", 1, binary=False, delivery=delivery)
    assert len(old.transport.frames) == 2
    hub.enter(new.connection, "board:a", DELTA)
    publish(core, Publication(b"\xff3"))
    core.timer.run(10.0)
    assert (len(old.transport.frames), new.heard()) == (2, [])


@protocol("close.conflated", "option.conflate")
def test_slow_viewer_gets_the_latest_of_each_key_when_it_reads_on(core: Core) -> None:
    """By id and by name, in both formats, what a filter lets pass, on a pattern and on a channel."""
    channel = Channel(lambda *_: None, "board:a", 7, binary=False)
    channel.adopt(Delivery(0.0, 100, True, 100))
    metrics = CountingMetrics()
    fan_out = FanOut(metrics, ManualClock())
    west = TagsFilter(FilterNode(cmp="eq", key="side", val="west"))
    audiences = [
        Audience(framing, compact, wanted)
        for framing in (WEBSOCKET_JSON, WEBSOCKET_PROTOBUF)
        for compact in (False, True)
        for wanted in (None, west)
    ]
    slow = [_member(each.framing) for each in audiences]
    fast = [_member(each.framing) for each in audiences]
    for audience, *members in zip(audiences, slow, fast, strict=True):
        channel.members[audience] = dict.fromkeys(members)
    for member in slow:
        _transport(member).congested = True
    rounds = [keyed("a1", "b1", side="west"), keyed("-1", "a2", side="east"), keyed("b2", "b3", side="west")]
    for publications in rounds:
        assert fan_out.send(channel, publications) == []
    for member in slow:
        _transport(member).congested = False
        assert fan_out.catch_up(member)
        assert fan_out.catch_up(member)
    for audience, one, other in zip(audiences, slow, fast, strict=True):
        places = {7} if audience.compact else {"board:a"}
        seen, all_of_it = _seen(one, places), _seen(other, places)
        if audience.wanted is None:
            assert (seen, all_of_it) == (["-1", "a2", "b3"], ["a1", "b1", "-1", "a2", "b3"])
        else:
            assert (seen, all_of_it) == (["a1", "b3"], ["a1", "b1", "b3"])
    assert sum(count for (count,) in metrics.of("withheld")) == 4 * 4 + 4 * 3
    assert sum(count for count, _ in metrics.of("caught_up")) == 4 * 2 + 4 * 2
    assert fan_out.stragglers.kept == 0


def _member(framing: Framing) -> Connection:
    return Connection(cast("Any", None), RecordingTransport(framing), 0.0)


def _transport(member: Connection) -> RecordingTransport:
    return cast("RecordingTransport", member.transport)


def _seen(member: Connection, places: set[Any]) -> list[Any]:
    """Data of what was written, which names the channel by one of `places`."""
    found = []
    for frame in _transport(member).frames:
        payload = frame[{126: 4, 127: 10}.get(frame[1], 2) :]
        if member.transport.framing is WEBSOCKET_JSON:
            pushes = [json.loads(line)["push"] for line in payload.split(b"\n")]
            assert {push.get("channel") or push["id"] for push in pushes} == places
            found += [push["pub"]["data"] for push in pushes]
            continue
        while payload:
            size = payload[0]
            push = pb.Reply.FromString(payload[1 : 1 + size]).push
            assert {push.channel or push.id} == places
            found.append(json.loads(push.pub.data))
            payload = payload[1 + size :]
    return found


def test_publications_are_told_from_each_other_by_channel_on_a_pattern(core: Core) -> None:
    """The same key of two channels is two keys, for the slow one, too."""
    client = core.client().subscribe("board:*")
    one, two = (
        [Publication(json.dumps(f"{n}{name}").encode(), channel=f"board:{name}", key=b"k") for n in "12"]
        for name in "xy"
    )
    publish(core, *one, *two, channel="board:*")
    assert heard(client) == ["2x", "2y"]
    client.transport.congested = True
    publish(core, *one, *two, channel="board:*")
    client.transport.congested = False
    core.dispatcher.writable(client.connection)
    assert heard(client) == ["2x", "2y"]


def test_who_is_behind_and_leaves_or_ends_is_owed_nothing(core: Core) -> None:
    """Nothing is written for a subscription that is over, and nothing is kept."""
    clients = [core.client(user).subscribe("board:a", 2) for user in ("alice", "bob")]
    for client in clients:
        client.transport.congested = True
    publish(core, *keyed("a1"))
    assert len(core.hub.stragglers) == 2
    clients[0].say({"id": 5, "unsubscribe": {"channel": "board:a"}})
    clients[0].transport.congested = False
    core.dispatcher.writable(clients[0].connection)
    assert [each for each in clients[0].heard() if "push" in each] == []
    core.dispatcher.lost(clients[1].connection)
    assert (len(core.hub.stragglers), core.hub.stragglers.kept) == (0, 0)
    channel = core.broker.sink("board:a")
    assert isinstance(channel, Channel)
    assert channel.pace is not None
    assert channel.pace.missed == {}


@protocol("close.conflated", "close.slow")
def test_what_has_no_key_still_closes_a_slow_viewer(core: Core) -> None:
    """Its outbox has a bound; so has what it is owed."""
    client = core.client().subscribe("board:a")
    client.transport.congested = client.transport.full = True
    publish(core, *keyed("a1"))
    assert client.closed == 0
    publish(core, *keyed("-1"))
    assert client.closed == 3008
    assert len(core.hub.stragglers) == 0


@protocol("option.conflate_max_keys", "close.slow")
def test_further_keys_wait_as_if_there_were_none() -> None:
    """They are counted; a viewer whose queue they fill is closed."""
    core = Core(channel=namespaces(conflate_max_keys=2))
    client = core.client().subscribe("board:a")
    client.transport.congested = True
    publish(core, *keyed("a1", "b1", "c1"))
    publish(core, *keyed("a2", "c2"))
    assert heard(client) == ["c1", "c2"]
    assert core.metrics.of("unkept") == [(1,), (1,)]
    client.transport.full = True
    publish(core, *keyed("a3", "b3"))
    assert client.closed == 0
    publish(core, *keyed("c3"))
    assert client.closed == 3008


def test_viewer_that_is_owed_too_much_is_closed(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes some of it, and too much is left."""
    monkeypatch.setattr("tidewire.edge.stragglers.MAX_OWED", 0)
    client = core.client().subscribe("board:a")
    client.transport.congested = True
    publish(core, *keyed("a1", "b1"))
    client.transport.congested = False
    monkeypatch.setattr("tidewire.edge.stragglers.MAX_JOINED", 1)

    def fills(_frame: bytes) -> bool:
        client.transport.congested = True
        return True

    monkeypatch.setattr(client.transport, "send", fills)
    core.dispatcher.writable(client.connection)
    assert client.closed == 3008
    assert core.metrics.of("slow_consumer") == [()]


def test_reload_changes_how_publications_go_out() -> None:
    """In channels that live: what waited goes on waiting; who was behind is written all of it when that ends."""
    core = Core(channel=namespaces())
    client = core.client().subscribe("board:a").subscribe("chat:a", 3)
    client.transport.congested = True
    publish(core, *keyed("a1", "a2", "b1"))
    assert client.heard() == []

    def reload(**changes: Any) -> None:
        core.rules.configure(edge_config(channel=namespaces(**changes)))
        core.dispatcher.reconfigured(TIMING)

    reload(batch_max_delay="100ms")
    assert client.heard() == []
    publish(core, *keyed("a3"))
    publish(core, *keyed("a4"))
    reload(conflate=False)
    assert heard(client) == ["b1", "a3"]
    publish(core, *keyed("a5", "a6"))
    assert heard(client) == ["a4", "a5", "a6"]
    core.timer.run(0.1)
    assert heard(client) == []
    reload()
    publish(core, *keyed("a7", "a8"))
    assert client.heard() == []
    client.transport.full = True
    reload(conflate_max_keys=5)
    assert client.closed == 3008


def test_reload_that_changes_no_delivery_looks_at_no_channel(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There may be a million of them."""
    core.client().subscribe("board:a")
    monkeypatch.setattr(core.hub, "follow", lambda _: pytest.fail("there was no reason to"))
    core.rules.configure(edge_config(channel=namespaces(allow_publish_for_client=False)))
    core.dispatcher.reconfigured(TIMING)


@protocol("close.conflated")
def test_socket_that_takes_bytes_again_gets_what_waited_first() -> None:
    """Then what was kept; the neighbour has every publication."""
    door = Door(channel=namespaces())
    slow, fine = door.client("slow", "board:a"), door.client("fine", "board:a")
    slow.stall()

    def publish(data: str, key: str) -> None:
        door.broker.sink("board:a").receive(Publication(json.dumps(data).encode(), key=key.encode()))
        door.hub.flush()

    large = "x" * 700
    for number in range(20):
        publish(f"{number}{large}", "k")
    publish("plain", "")
    assert not door.metrics.of("slow_consumer")
    assert slow.taken() == b""
    slow.read_on()
    written = slow.taken()
    assert written.index(b"plain") < written.index(f"19{large}".encode())
    assert written.count(large.encode()) == 1
    assert fine.taken().count(large.encode()) == 20
    publish("next", "k")
    assert b"next" in slow.taken()
