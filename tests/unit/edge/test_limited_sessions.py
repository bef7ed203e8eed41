"""Sessions under rate limits: what waits, in which order it goes on, and what the client is told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.fakes.edge import edge_config, token
from tests.fakes.limits import Limited
from tests.fakes.sessions import Client
from tidewire.edge.effects import AskPresence, AwaitTokens, Effect, Join, Publish
from tidewire.edge.policies.payload import custom_claims
from tidewire.edge.session_state import SessionState
from tidewire.edge.wire.json_codec import JSON

PER_USER: dict[str, Any] = {"name": "r", "command": "publish", "key": ["user"], "limit": 100}


class LimitedClient(Client):
    """A client under limits, whose waits the test ends."""

    def __init__(self, **limits: Any) -> None:
        super().__init__()
        self.limited = Limited(**limits)
        self.limited.clock = self.clock
        self.rules.limits, self.rules.places = self.limited.limits, self.limited.places
        self.limited.waiters.now = self.clock.monotonic
        self.limited.service.clock = self.clock

    def frame(self, *commands: dict[str, Any]) -> list[Effect]:
        """Send commands; what has to wait does."""
        return self._wait(super().frame(*commands))

    def _wait(self, effects: list[Effect]) -> list[Effect]:
        for effect in effects:
            if isinstance(effect, AwaitTokens):
                self.limited.waiters.add(effect.wanted, self._gone_on)
        return effects

    def _gone_on(self) -> None:
        self.effects = self._wait(self.session.go_on())


def publications(effects: list[Effect]) -> list[bytes]:
    """What is published."""
    return [data for effect in effects if isinstance(effect, Publish) for data in effect.data]


def publish(number: int, data: int) -> dict[str, Any]:
    """A publish command."""
    return {"id": number, "publish": {"channel": "chat:a", "data": data}}


def test_what_comes_behind_a_command_that_waits_waits_in_line() -> None:
    """A subscription that no rule is for, too: order is kept."""
    client = LimitedClient(rules=[PER_USER]).connect()
    effects = client.frame(publish(2, 1), {"id": 3, "subscribe": {"channel": "chat:a"}})
    assert [type(effect) for effect in effects] == [AwaitTokens]
    assert client.frame(publish(4, 2)) == []
    client.limited.service.grant()
    assert publications(client.effects) == [b"1", b"2"]
    assert [type(effect) for effect in client.effects] == [Publish, Join, Publish]


def test_a_read_of_publications_is_taken_at_once_where_there_are_tokens() -> None:
    """Otherwise one by one; those over the limit are told so, each by itself."""
    client = LimitedClient(rules=[PER_USER]).connect()
    client.frame(publish(2, 1))
    client.limited.service.grant(3)
    client.session.published([2], 0.0, None)
    burst = client.session.publish_all

    def commands(*numbers: int) -> Any:
        return [
            command
            for number in numbers
            for command in JSON.decode(b'{"id":%d,"publish":{"channel":"chat:a","data":1}}' % number)
        ]

    taken = burst(commands(3, 4))
    assert taken is not None
    assert [effect.ids for effect in taken] == [[3, 4]]
    assert burst(commands(5)) is None
    client.limited.service.grant(0, wait=2)
    client.frame(publish(5, 1), publish(6, 1))
    assert [reply["error"]["code"] for reply in client.replies()] == [111, 111]


def test_the_question_who_is_connected_is_an_rpc_like_others() -> None:
    """It waits for its token, and over the rule it is not asked; one that is refused anyway makes no key."""
    rule = {"name": "c", "command": "rpc", "key": ["user", "method"], "limit": 1, "period": "1h"}
    client = LimitedClient(rules=[rule])
    client.rules.announces = client.rules.user_status = True
    client.connect()

    def question(number: int, users: list[str]) -> dict[str, Any]:
        return {"id": number, "rpc": {"method": "tw.user_status", "data": {"users": users}}}

    client.frame(question(2, []))
    assert client.limited.service.asked == []
    effects = client.frame(question(3, ["bob"]))
    assert [type(effect) for effect in effects] == [AwaitTokens]
    client.limited.service.grant(1)
    assert [type(effect) for effect in client.effects] == [AskPresence]
    client.frame(question(4, ["bob"]))
    client.limited.service.grant(0, wait=60)
    assert [reply["error"]["code"] for reply in client.replies()] == [111]


def test_a_connect_command_waits_before_its_reply_and_its_token_is_checked_once() -> None:
    """Over the rule it is refused with 111, and what came behind it is dropped."""
    rule = {"name": "c", "command": "connect", "key": ["user"], "limit": 1, "period": "1h"}
    client = LimitedClient(rules=[rule])
    client.frame(
        {"id": 1, "connect": {"token": token("alice")}}, {"id": 2, "subscribe": {"channel": "chat:a"}}
    )
    assert client.session.state is SessionState.CONNECTING
    client.rules.tokens = None  # type: ignore[assignment] # nobody asks it again
    client.limited.service.grant(1)
    assert client.session.state is SessionState.CONNECTED
    assert client.replies()[0]["connect"]["client"] == "c1"
    refused = LimitedClient(rules=[rule])
    refused.frame({"id": 1, "connect": {"token": token("alice")}}, {"id": 2, "rpc": {"method": "m"}})
    refused.limited.service.grant(0, wait=60)
    (reply,) = refused.replies()
    assert reply["error"] == {
        "code": 111,
        "message": "too many requests: try again in 60.0 s",
        "temporary": True,
    }
    assert refused.session.state is SessionState.REFUSED


def test_tw_publish_counts_as_a_publication_and_not_as_a_call() -> None:
    """It is one, by another name."""
    call = {"name": "calls", "command": "rpc", "key": ["method"], "limit": 1}
    client = LimitedClient(rules=[PER_USER, call]).connect()
    client.frame({"id": 2, "rpc": {"method": "tw.publish", "data": {"channel": "chat:a", "data": 1}}})
    assert [lease.leases.name for lease in client.limited.service.asked] == ["r"]


def test_claims_are_those_of_the_newest_token() -> None:
    """A refresh may bring others."""
    limits = {"rules": [{**PER_USER, "key": ["claim:plan"]}], "replicas": ["ipv4:127.0.0.1:9"]}
    client = LimitedClient(rules=limits["rules"])
    client.rules.configure(edge_config(rate_limits=limits))
    client.rules.limits, client.rules.places = client.limited.limits, client.limited.places
    client.connect(plan="free")
    client.frame(publish(2, 1))
    assert [lease.key for lease in client.limited.service.asked] == ["free"]
    client.limited.service.grant()
    client.frame({"id": 3, "refresh": {"token": token("alice", plan="paid")}})
    client.frame(publish(4, 1))
    assert [lease.key for lease in client.limited.service.asked] == ["paid"]


@pytest.mark.parametrize("value", [True, 7, 1.5, "x"])
def test_claims_are_text_in_keys(value: object) -> None:
    """Numbers and truth values as JSON writes them; lists, groups and null are none."""
    text = json.dumps({"plan": value, "list": [1], "none": None}).encode()
    wanted = value if isinstance(value, str) else json.dumps(value)
    assert custom_claims(text, frozenset({"plan", "list", "none", "absent"})) == {"plan": wanted}
