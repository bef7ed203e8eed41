from __future__ import annotations

import json
from typing import Any

import pytest

from tests.fakes.attendance import ROOMS
from tests.fakes.edge import OPEN
from tests.fakes.sessions import Client
from tests.support.protocol import protocol
from tidewire.edge.effects import AskPresence
from tidewire.edge.places import MAX_REPLY
from tidewire.edge.presence_command import MAX_USERS, listed
from tidewire.edge.presence_ports import (
    Member,
    Members,
    MembersQuery,
    PresenceAnswer,
    StatsQuery,
    UserConnection,
    UsersQuery,
    UserStatus,
)
from tidewire.kernel import errors

CHANNELS: list[dict[str, Any]] = [
    *ROOMS,
    {"name": "all", **OPEN, "presence": True, "allow_presence_for_client": True, "presence_max_clients": 3},
    {"name": "none", **OPEN, "presence": True},
    {
        "name": "anon",
        **OPEN,
        "allow_subscribe_for_anonymous": True,
        "presence": True,
        "allow_presence_for_client": True,
        "allow_presence_for_anonymous": True,
    },
    {"name": "wild", **OPEN, "presence": True, "allow_wildcards": True, "allow_presence_for_client": True},
]


def client(**changes: Any) -> Client:
    """One of an edge with a presence service."""
    config = {
        "channel": {"namespaces": CHANNELS},
        "presence": {"target": "ipv4:127.0.0.1:1"},
        "client": {"allow_user_status_for_client": True},
        **changes,
    }
    return Client(**config)


def asked(made: Client, **command: Any) -> AskPresence | int:
    """What a command asks of the service, or the code of its error."""
    effects = made.frame({"id": 7, **command})
    questions = [effect for effect in effects if isinstance(effect, AskPresence)]
    if questions:
        return questions[0]
    (reply,) = made.replies(effects)
    assert reply["error"]["message"]
    return int(reply["error"]["code"])


@protocol(
    "command.presence",
    "command.presence_stats",
    "option.allow_presence_for_client",
    "option.allow_presence_for_subscriber",
    "option.allow_presence_for_anonymous",
)
@pytest.mark.parametrize("method", ["presence", "presence_stats"])
@pytest.mark.parametrize(
    ("channel", "user", "subscribed", "code"),
    [
        ("all:a", "alice", False, 0),
        ("all:$a", "alice", False, 0),
        ("$all:a", "alice", False, 103),
        ("all:x#bob", "alice", False, 103),
        ("all:a", "", False, 103),
        ("anon:a", "", False, 0),
        ("none:a", "alice", False, 103),
        ("none:a", "alice", True, 103),
        ("room:a", "alice", False, 103),
        ("room:a", "alice", True, 0),
        ("chat:a", "alice", True, 108),
        ("nope:a", "alice", False, 102),
        ("wild:a.*", "alice", False, 108),
    ],
)
def test_rights(method: str, channel: str, user: str, subscribed: bool, code: int) -> None:
    """Off is 108, without the right 103; closed channels are closed to who is not in them."""
    made = client().connect(user)
    if subscribed:
        made.subscribe(channel)
    found = asked(made, **{method: {"channel": channel}})
    if code:
        assert found == code
    else:
        assert isinstance(found, AskPresence)
        expected = MembersQuery(channel, 3 if channel.startswith("all") else 1000)
        assert found.query == (expected if method == "presence" else StatsQuery(channel))
        assert found.method == method


@protocol("token.caps", "token.allow")
def test_capability_gives_the_right_and_not_what_is_off() -> None:
    """Of the connection's token."""
    caps = [{"channels": ["none:a", "chat:a"], "allow": ["prs"]}]
    made = client().connect(caps=caps)
    assert isinstance(asked(made, presence={"channel": "none:a"}), AskPresence)
    assert asked(made, presence={"channel": "none:b"}) == 103
    assert asked(made, presence={"channel": "chat:a"}) == 108


def test_empty_channel_closes() -> None:
    """As everywhere."""
    assert client().connect().close_code({"id": 2, "presence": {"channel": ""}}) == 3501


def answered(found: PresenceAnswer, **command: Any) -> dict[str, Any]:
    """The reply to what the service says."""
    made = client().connect()
    effect = asked(made, **command)
    assert isinstance(effect, AskPresence)
    told = listed(found) if isinstance(found, Members) else found
    (reply,) = made.replies(made.session.presence_told(effect, told))
    assert reply.pop("id") == 7
    assert made.session.party.owed == 0
    return reply


def members(count: int, info: bytes = b"") -> list[Member]:
    """So many."""
    return [Member(f"c{number}", "u", info) for number in range(count)]


@protocol("option.presence_max_clients", "error.106")
@pytest.mark.parametrize(
    ("found", "shown"),
    [
        (Members([], 0), 0),
        (Members(members(3), 3), 3),
        (Members(members(3), 4), None),
        (Members(members(3, b"1" * (MAX_REPLY // 3)), 3), None),
        (Members([Member(f"c{n}", "\x01" * 1024) for n in range(100)], 100), None),
        (Members([Member(f"c{n}", "\N{GRINNING FACE}" * 1024) for n in range(150)], 150), None),
    ],
    ids=["empty", "full", "cut", "large", "escaped", "wide"],
)
def test_part_of_a_list_is_never_shown(found: Members, shown: int | None) -> None:
    """The protocol has no way to say that it is one."""
    reply = answered(found, presence={"channel": "all:a"})
    if shown is None:
        assert reply["error"]["code"] == 106
        assert f"the channel has {found.clients} clients" in reply["error"]["message"]
    else:
        assert len(reply["presence"]["presence"]) == shown


def test_infos_that_are_no_json_are_left_out() -> None:
    """An edge of another version, or worse, has announced them."""
    found = Members([Member("c", "u", b'"a\nb"', b"{}\n")], 1)
    (info,) = answered(found, presence={"channel": "all:a"})["presence"]["presence"].values()
    assert info == {"user": "u", "client": "c", "chan_info": {}}


@protocol("rpc.tw_user_status")
def test_status_of_users_tells_when_and_never_where() -> None:
    """Names of edges are the mesh's own business."""
    connections = [UserConnection("x", "edge-1", 2000), UserConnection("y", "edge-2", 1000)]
    found = [UserStatus(connections, 2, 0, 7), UserStatus([], 0, 900, 7)]
    data = {"users": ["bob", "carol", "bob"]}
    reply = answered(found, rpc={"method": "tw.user_status", "data": data})
    assert reply["rpc"]["data"] == {
        "users": {
            "bob": {"online": True, "connections": 2, "since": 1000, "last_seen": 0},
            "carol": {"online": False, "connections": 0, "since": 0, "last_seen": 900},
        }
    }
    assert "edge-1" not in json.dumps(reply)


@protocol("rpc.tw_user_status")
@pytest.mark.parametrize(
    ("changes", "user", "data", "code"),
    [
        ({"client": {}}, "alice", {"users": ["bob"]}, 103),
        ({}, "", {"users": ["bob"]}, 103),
        ({"presence": {}, "channel": {"namespaces": []}}, "alice", {"users": ["bob"]}, 108),
        ({}, "alice", {"users": []}, 107),
        ({}, "alice", {"users": [""]}, 107),
        ({}, "alice", {"users": ["x" * 1025]}, 107),
        ({}, "alice", {"users": ["x"] * (MAX_USERS + 1)}, 107),
        ({}, "alice", {"user": "bob"}, 107),
        ({}, "alice", ["bob"], 107),
    ],
    ids=str,
)
def test_status_is_for_those_who_may_and_ask_properly(
    changes: dict[str, Any], user: str, data: Any, code: int
) -> None:
    """Off unless the configuration says otherwise."""
    made = client(**changes).connect(user)
    assert asked(made, rpc={"method": "tw.user_status", "data": data}) == code


def test_questions_count_against_what_may_wait() -> None:
    """As all that waits for an answer."""
    made = client(client={"inflight_limit": 1, "allow_user_status_for_client": True}).connect()
    assert isinstance(asked(made, presence={"channel": "all:a"}), AskPresence)
    assert asked(made, presence_stats={"channel": "all:a"}) == errors.TOO_MANY_REQUESTS.code
    query = {"method": "tw.user_status", "data": {"users": ["a"]}}
    assert asked(made, rpc=query) == errors.TOO_MANY_REQUESTS.code


def test_users_are_asked_once_each() -> None:
    """In the order of the first time."""
    effect = asked(client().connect(), rpc={"method": "tw.user_status", "data": {"users": ["b", "a", "b"]}})
    assert isinstance(effect, AskPresence)
    assert effect.query == UsersQuery(("b", "a"))
