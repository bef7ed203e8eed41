from __future__ import annotations

from typing import Any

import pytest

from tests.fakes.clock import ManualClock
from tests.fakes.edge import rules, token
from tests.support.protocol import protocol
from tidewire.edge.admission import Grant, Verdict, admit
from tidewire.edge.party import Party
from tidewire.edge.policies.claims import ConnectionClaims
from tidewire.edge.policies.permissions import Namespace
from tidewire.edge.policies.tokens import KeyWanted
from tidewire.edge.wire.commands import NO_DATA, SubscribeRequest
from tidewire.kernel.ids import ConnectionId


def judged(
    channel: str, *, user: str = "alice", is_json: bool = True, caps: list[Any] | None = None, **fields: Any
) -> Verdict:
    """The verdict on a subscribe command under the fakes' rules."""
    return judged_with_detail(channel, user=user, is_json=is_json, caps=caps, **fields)[0]


def judged_with_detail(
    channel: str, *, user: str = "alice", is_json: bool = True, caps: list[Any] | None = None, **fields: Any
) -> tuple[Verdict, str]:
    """The same, and what the log is told."""
    clock = ManualClock()
    party = Party(ConnectionId("c1"), rules(clock), is_json=is_json)
    claims = party.rules.tokens.connection(token(user, **({"caps": caps} if caps else {})))
    assert isinstance(claims, ConnectionClaims)
    party.identify(claims)
    namespace = party.rules.namespaces.find(channel)
    assert isinstance(namespace, Namespace)
    return admit(SubscribeRequest(channel=channel, **fields), party, namespace), party.detail


def code(verdict: Verdict) -> int:
    """The code of a refusal, 0 for a grant."""
    assert not isinstance(verdict, KeyWanted)
    return 0 if isinstance(verdict, Grant) else verdict.code


@protocol("command.subscribe")
def test_grant_without_a_token_has_no_info() -> None:
    """The namespace's flags are enough."""
    assert judged("chat:a") == Grant(NO_DATA)


def test_other_types_than_streams_are_not_there() -> None:
    """Maps and polls."""
    assert code(judged("chat:a", type=4)) == 108


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
    assert code(judged("$chat:a", token=token(user, **claims))) == expected


@protocol("token.subscription")
def test_token_opens_what_the_flags_close_and_brings_channel_info() -> None:
    """Also a user-limited channel that does not name the user."""
    grant = judged("closed:a#bob", token=token(channel="closed:a#bob", info={"seat": 4}))
    assert isinstance(grant, Grant)
    assert bytes(grant.info) == b'{"seat":4}'


@protocol("token.subscription")
def test_bad_token_is_not_helped_by_open_flags() -> None:
    """A client that shows a token stands or falls with it."""
    assert code(judged("chat:a", token="garbage")) == 103


def test_the_log_is_told_why_a_subscription_token_is_bad() -> None:
    """The client is not: it would help who guesses."""
    _, detail = judged_with_detail("chat:a", token=token(channel="chat:a", key="x" * 64))
    assert detail == "a subscription token was refused: the signature is not of the key"


@protocol("channel.binary")
def test_binary_namespace_is_closed_to_json_even_with_a_token() -> None:
    """Its data would not be JSON."""
    good = token(channel="raw:a")
    assert code(judged("raw:a")) == 108
    assert code(judged("raw:a", token=good)) == 108
    assert code(judged(is_json=False, channel="raw:a", token=good)) == 0
