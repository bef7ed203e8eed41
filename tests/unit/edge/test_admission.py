from __future__ import annotations

from typing import Any, cast

import pytest
from msgspec import Raw

from tests.fakes.clock import ManualClock
from tests.fakes.edge import believing, rules, token
from tests.support.protocol import protocol
from tidewire.edge.admission import KEYS_AWAY, Grant, Verdict, admit, admit_by_server
from tidewire.edge.party import Party
from tidewire.edge.policies.capabilities import Capabilities, Capability, Entry, Match
from tidewire.edge.policies.claims import ConnectionClaims, SubscriptionClaims
from tidewire.edge.policies.permissions import Namespace
from tidewire.edge.policies.tokens import KeyWanted, TokenProblem
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


# Rights of the token.


def entry(channel: str, *allow: str, match: Match = Match.EXACT) -> Entry:
    """One entry of the claim `caps`."""
    return Entry(frozenset([channel]), frozenset(map(Capability, allow)), match)


def admitted(
    channel: str, *entries: Entry, user: str = "alice", token: SubscriptionClaims | None = None
) -> int:
    """The code of the verdict for a connection with these capabilities, 0 for a grant."""
    made = rules(ManualClock())
    believing(made, t=token)
    party = Party(ConnectionId("c1"), made, is_json=True)
    party.identify(ConnectionClaims(user, capabilities=Capabilities(entries)))
    namespace = made.namespaces.find(channel)
    assert isinstance(namespace, Namespace)
    return code(admit(SubscribeRequest(channel=channel, token="t" if token else ""), party, namespace))


@protocol("command.subscribe", "error.103")
@pytest.mark.parametrize(
    ("channel", "entries", "expected"),
    [
        ("closed:a", [], 103),
        ("closed:a", [entry("closed:a", "sub")], 0),
        ("closed:a", [entry("closed:a", "pub", "prs", "hst")], 103),
        ("closed:a", [entry("closed:b", "sub")], 103),
        ("closed:a", [entry("closed:*", "sub", match=Match.WILDCARD)], 0),
        ("closed:a", [entry("closed:*", "sub")], 103),
        ("closed:a", [entry("closed:.", "sub", match=Match.REGEX)], 0),
        ("closed:a", [entry("closed:a", "pub"), entry("closed:a", "sub")], 103),
        ("$closed:a", [entry("$closed:a", "sub")], 0),
        ("$closed:a", [entry("*", "sub", match=Match.WILDCARD)], 103),
        ("$closed:a", [entry(".*", "sub", match=Match.REGEX)], 103),
        ("closed:a#bob", [entry("closed:a#bob", "sub")], 0),
        ("closed:a#bob", [entry("closed:*", "sub", match=Match.WILDCARD)], 103),
        ("chat:a", [entry("chat:a", "pub")], 0),
    ],
)
def test_capabilities_open_what_the_flags_close(channel: str, entries: list[Entry], expected: int) -> None:
    """The first entry that covers the channel decides; `$` and `#` channels must be named; flags stay what they are."""
    assert admitted(channel, *entries) == expected
    assert admitted(channel, *entries, user="") == (103 if channel == "chat:a" else expected)


@protocol("channel.wildcard", "error.103", "error.107")
@pytest.mark.parametrize(
    ("channel", "entries", "expected"),
    [
        ("stocks:*", [], 0),
        ("stocks:nasdaq.*", [], 0),
        ("locked:*", [], 103),
        ("locked:a.*", [entry("locked:a.*", "sub")], 0),
        ("locked:a.*", [entry("locked:a.*", "sub", match=Match.WILDCARD)], 0),
        ("locked:a.*", [entry("locked:*", "sub", match=Match.WILDCARD)], 0),
        ("locked:*", [entry("locked:a.*", "sub", match=Match.WILDCARD)], 103),
        ("locked:a.*", [entry("locked:.*", "sub", match=Match.REGEX)], 103),
        ("locked:a.*", [entry("locked:a.b", "sub")], 103),
        ("locked:*", [entry("locked:*", "pub", match=Match.WILDCARD)], 103),
        ("locked:a*", [entry("locked:a*", "sub", match=Match.WILDCARD)], 107),
        ("stocks:a*", [], 107),
        ("stocks:a..*", [], 107),
        ("stocks:*.", [], 107),
        ("$stocks:*", [entry("$stocks:*", "sub")], 103),
        ("stocks:*.a#bob", [entry("stocks:*.a#bob", "sub")], 103),
        ("locked:*.#alice", [], 103),
    ],
)
def test_pattern_is_granted_by_flags_or_by_a_capability_for_all_that_it_covers(
    channel: str, entries: list[Entry], expected: int
) -> None:
    """Never in `$` or `#` channels, whatever a token says; a `*` inside of a part is a mistake."""
    assert admitted(channel, *entries) == expected
    token = SubscriptionClaims("alice", channel)
    closed = channel.startswith("$") or "#" in channel
    assert admitted(channel, *entries, token=token) == (103 if closed else expected if expected == 107 else 0)


@protocol("channel.wildcard")
def test_pattern_for_anonymous_users_needs_their_flag() -> None:
    """As each of its channels does."""
    assert admitted("stocks:*", user="") == 103
    assert admitted("stocks:a", user="") == 103


@protocol("channel.wildcard")
def test_star_is_a_letter_where_there_are_no_wildcards() -> None:
    """And a capability for it is one for that name."""
    assert admitted("chat:*") == 0
    assert admitted("closed:*", entry("closed:a", "sub")) == 103
    assert admitted("closed:*", entry("closed:*", "sub")) == 0


@protocol("token.expired", "error.109", "error.100")
def test_verdicts_of_the_verifier() -> None:
    """A good token may give a time that is over; keys that cannot be fetched are no fault of the client's."""
    now = int(ManualClock().wall())
    for verdict, expected in (
        (SubscriptionClaims("alice", "closed:a", expires_at=now), 109),
        (SubscriptionClaims("alice", "closed:a", expires_at=now + 1), 0),
        (TokenProblem.EXPIRED, 109),
        (TokenProblem.INVALID, 103),
        (TokenProblem.UNAVAILABLE, 100),
    ):
        assert admitted("closed:a", token=cast("SubscriptionClaims", verdict)) == expected
        capable = admitted("closed:a", entry("closed:a", "sub"), token=cast("SubscriptionClaims", verdict))
        assert capable == expected, "a client that shows a token stands or falls with it"
    assert KEYS_AWAY.temporary


def test_grant_carries_what_the_token_says() -> None:
    """Until when, and what else it lets its bearer do."""
    made = rules(ManualClock())
    rights = Capabilities.on("closed:a", frozenset([Capability.PUBLISH]))
    ends = int(made.clock.wall()) + 5
    believing(
        made, t=SubscriptionClaims("", "closed:a", info=Raw(b"1"), expires_at=ends, capabilities=rights)
    )
    namespace = made.namespaces.find("closed:a")
    assert isinstance(namespace, Namespace)
    party = Party(ConnectionId("c1"), made, is_json=True)
    found = admit(SubscribeRequest(channel="closed:a", token="t"), party, namespace)
    assert found == Grant(Raw(b"1"), ends, rights)


@protocol("connect.subs")
@pytest.mark.parametrize(
    ("channel", "is_json", "expected"),
    [
        ("$closed:a#bob", True, 0),
        ("stocks:a", True, 0),
        ("chat:*", True, 0),
        ("stocks:*", True, 107),
        ("stocks:a.*", True, 107),
        ("raw:a", True, 108),
        ("raw:a", False, 0),
        ("nope:a", True, 102),
    ],
)
def test_server_subscribes_to_channels_that_can_be_for_the_client(
    channel: str, is_json: bool, expected: int
) -> None:
    """No rights are asked, and patterns are for clients alone."""
    found = admit_by_server(channel, Party(ConnectionId("c1"), rules(ManualClock()), is_json=is_json))
    assert (found.code if found is not None else 0) == expected
