from __future__ import annotations

from typing import Any

import pytest

from tests.fakes.clock import ManualClock
from tests.fakes.edge import rules, token
from tests.support.protocol import protocol
from tidewire.edge.subscriptions import Grant, Subscription, SubscriptionState, admit
from tidewire.edge.wire.commands import NO_DATA, FilterNode, SubscribeRequest
from tidewire.kernel import errors
from tidewire.kernel.ids import ConnectionId


class Asker:
    """A session as `admit` sees it."""

    def __init__(self, *channels: str, user: str = "alice", is_json: bool = True) -> None:
        self.user = user
        self.client = ConnectionId("c1")
        self.is_json = is_json
        self.subscriptions = frozenset(channels)


def judged(asker: Asker, channel: str, **fields: Any) -> Grant | errors.ReplyError | errors.Disconnect:
    """The verdict under the fakes' rules with two channels for each connection."""
    request = SubscribeRequest(channel=channel, **fields)
    return admit(request, asker, rules(ManualClock(), client={"channel_limit": 2}))


def code(verdict: Grant | errors.ReplyError | errors.Disconnect) -> int:
    """The code of a refusal, 0 for a grant."""
    return 0 if isinstance(verdict, Grant) else verdict.code


@protocol("command.subscribe")
def test_grant_without_a_token_has_no_info() -> None:
    """The namespace's flags are enough."""
    assert judged(Asker(), "chat:a") == Grant(NO_DATA)


@protocol("subscribe.limit", "error.105", "error.106")
def test_order_of_what_a_connection_has_already() -> None:
    """A second subscribe is 105 also at the limit, 102 and 107 come before both."""
    full = Asker("chat:a", "chat:b")
    assert code(judged(full, "chat:a")) == 105
    assert code(judged(full, "chat:c")) == 106
    assert code(judged(full, "nope:c")) == 102
    assert code(judged(full, "c" * 300)) == 107
    assert code(judged(Asker("chat:a"), "chat:c")) == 0


@protocol("channel.empty", "subscribe.delta")
def test_what_no_sdk_sends_closes() -> None:
    """An empty channel, and a delta that does not exist."""
    assert judged(Asker(), "") is errors.BAD_PROTOCOL
    assert judged(Asker(), "chat:a", delta="xdelta") is errors.BAD_PROTOCOL
    assert code(judged(Asker(), "chat:a", delta="fossil")) == 0


@protocol("subscribe.tags_filter")
def test_what_is_not_there_is_an_error() -> None:
    """Other types than streams, and filters."""
    assert code(judged(Asker(), "chat:a", type=4)) == 108
    assert code(judged(Asker(), "chat:a", tf=FilterNode())) == 107


@protocol("token.subscription", "channel.private")
@pytest.mark.parametrize(
    ("user", "claims", "expected"),
    [
        ("alice", {"channel": "$chat:a"}, 0),
        ("alice", {"channel": "$chat:a", "client": "c1"}, 0),
        ("alice", {"channel": "$chat:a", "client": "c2"}, 3500),
        ("bob", {"channel": "$chat:a"}, 3500),
        ("alice", {"channel": "chat:a"}, 3500),
        ("alice", {}, 3500),
        ("alice", {"channel": "$chat:a", "exp": 5}, 109),
        ("alice", {"channel": "$chat:a", "key": "x" * 64}, 103),
    ],
)
def test_token_is_for_this_channel_user_and_client(user: str, claims: dict[str, Any], expected: int) -> None:
    """What is well signed for something else closes, the rest is an error."""
    assert code(judged(Asker(), "$chat:a", token=token(user, **claims))) == expected


@protocol("token.subscription")
def test_token_opens_what_the_flags_close_and_brings_channel_info() -> None:
    """Also a user-limited channel that does not name the user."""
    grant = judged(Asker(), "closed:a#bob", token=token(channel="closed:a#bob", info={"seat": 4}))
    assert isinstance(grant, Grant)
    assert bytes(grant.info) == b'{"seat":4}'


@protocol("token.subscription")
def test_bad_token_is_not_helped_by_open_flags() -> None:
    """A client that shows a token stands or falls with it."""
    assert code(judged(Asker(), "chat:a", token="garbage")) == 103


@protocol("channel.binary")
def test_binary_namespace_is_closed_to_json_even_with_a_token() -> None:
    """Its data would not be JSON."""
    good = token(channel="raw:a")
    assert code(judged(Asker(), "raw:a")) == 108
    assert code(judged(Asker(), "raw:a", token=good)) == 108
    assert code(judged(Asker(is_json=False), "raw:a", token=good)) == 0


def test_subscription_begins_joining() -> None:
    """The session makes it live."""
    assert Subscription(1, 1, 0.0, NO_DATA).state is SubscriptionState.JOINING
