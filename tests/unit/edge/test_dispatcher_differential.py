from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.core import Client, Core
from tests.support.protocol import protocol
from tidewire.edge.throttle import Throttle
from tidewire.kernel import errors

Command = dict[str, Any]

channels = st.sampled_from(
    ["chat:a", "chat:b", "closed:a", "no:a", "chat:", "", "chat:é", "raw:a", "chat:a#alice"]
)
data = st.sampled_from([1, "too large", {"a": ["é"]}, "x" * 300, None])
publishes = st.builds(
    lambda number, channel, data: {"id": number, "publish": {"channel": channel, "data": data}},
    st.integers(0, 9),
    channels,
    data,
)
fine = st.builds(
    lambda number, channel: {"id": number, "publish": {"channel": channel, "data": number}},
    st.integers(1, 9),
    st.sampled_from(["chat:a", "chat:b"]),
)
others = st.sampled_from(
    [
        {},
        {"id": 1},
        {"id": 2, "publish": {"channel": "chat:a"}},
        {"id": 3, "subscribe": {"channel": "chat:a"}},
        {"id": 4, "rpc": {"method": "m"}},
        {"id": 5, "unsubscribe": {"channel": "chat:a"}, "publish": {"channel": "chat:a", "data": 1}},
        {"id": 6, "rpc": {"method": "m"}, "publish": {"channel": "chat:a", "data": 1}},
        {"id": 7, "publish": {"channel": "chat:a", "data": 1}, "unknown": [{}]},
    ]
)
frames = st.one_of(
    st.lists(fine, min_size=1, max_size=3),
    st.lists(st.one_of(fine, publishes, others), min_size=1, max_size=3),
).map(lambda commands: "\n".join(map(json.dumps, commands)).encode())
reads = st.lists(st.one_of(frames, frames, st.sampled_from([b"", b"\xff", b"{}{}"])), min_size=1, max_size=4)
limits = st.sampled_from([{}, {"inflight_limit": 4}, {"command_rate_limit": 8, "command_rate_burst": 16}])


def outcome(core: Core, client: Client) -> dict[str, Any]:
    """All that came of what a client sent. Replies may stand in other frames, and be counted together."""
    counted: Counter[tuple[Any, ...]] = Counter()
    for method, code, seconds, *count in core.metrics.of("command"):
        counted[method, code, seconds] += count[0] if count else 1
    throttle = client.connection.session._throttle or Throttle()
    return {
        "replies": [line for frame in client.frames() for line in frame.split("\n")],
        "published": [publication[:3] for publication in core.broker.published],
        "counted": counted,
        "events": [event for event in core.metrics.events if event[0] != "command"],
        "commands": client.connection.commands,
        "owed": client.connection.session.party.owed,
        "throttle": (round(throttle.full_at, 6), throttle.refused),
        "closed": client.transport.closed,
    }


def compare(sent: list[list[bytes]], limit: dict[str, Any], refuses: errors.ReplyError | None) -> None:
    """Send reads to one edge as they came, and to another message by message; the same must come of both."""
    cores = [Core(client=limit), Core(client=limit)]
    together, one_by_one = (core.client() for core in cores)
    for core in cores:
        core.broker.same_turn = 1
        core.broker.too_large = b'"too large"'
        core.broker.refuses = refuses
    for messages in sent:
        cores[0].dispatcher.received(together.connection, messages)
        for message in messages:
            cores[1].dispatcher._received(one_by_one.connection, message)
        for core in cores:
            core.clock.advance(0.25)
    for core in cores:
        core.broker.confirm_published()
    assert outcome(cores[0], together) == outcome(cores[1], one_by_one)


@protocol("command.publish", "publish.order", "command.rate")
@given(st.lists(reads, min_size=1, max_size=3), limits, st.sampled_from([None, errors.INTERNAL]))
def test_messages_of_one_read_bring_about_what_they_do_one_by_one(
    sent: list[list[bytes]], limit: dict[str, Any], refuses: errors.ReplyError | None
) -> None:
    """The way that is shorter for those that only publish is no other way: replies, publications, counts and limits."""
    compare(sent, limit, refuses)


PUBLISH = b'{"id":%d,"publish":{"channel":"chat:a","data":%b}}'


@pytest.mark.parametrize(
    "messages",
    [
        [PUBLISH % (0, b"1")],
        [b'{"id":1,"publish":{"channel":"chat:a"}}'],
        [PUBLISH % (1, b"[" * 200 + b"]" * 200)],
        [PUBLISH % (1, b"1" * 5000)],
        [PUBLISH % (1, b'"\xff"')],
        [PUBLISH % (1, b'"\\ud800"')],
        [PUBLISH % (1, b"[1,\n2]")],
        [PUBLISH % (1, b"1") + b"\n"],
        [PUBLISH % (1, b"1") + PUBLISH % (2, b"2"), b""],
        [PUBLISH % (1, b"1") + b"\n\n" + PUBLISH % (2, b"2")],
        [PUBLISH[:-2] % (1, b"{}"), b"}}"],
    ],
)
def test_what_is_wrong_with_one_message_is_the_same_in_every_company(messages: list[bytes]) -> None:
    """Alone, and between two with which nothing is wrong."""
    compare([messages], {}, None)
    compare([[PUBLISH % (8, b"8"), *messages, PUBLISH % (9, b"9")]], {}, None)
