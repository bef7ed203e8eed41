from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.edge import edge_config
from tests.support.protocol import protocol
from tidewire.edge.policies.permissions import Namespace, Namespaces
from tidewire.kernel import errors
from tidewire.options.channel_options import ChannelOptions

SUBSCRIBE = {"allow_subscribe_for_client": True}
PUBLISH = {"allow_publish_for_client": True}


def namespace(**options: Any) -> Namespace:
    """A namespace with these options and no others."""
    return Namespace(ChannelOptions(**options))


def namespaces() -> Namespaces:
    """Those of the fakes."""
    return Namespaces(edge_config().channel)


def code(verdict: Namespace | errors.ReplyError | None) -> int:
    """The error's code, 0 for yes."""
    return verdict.code if isinstance(verdict, errors.ReplyError) else 0


@protocol("option.allow_subscribe_for_client", "option.allow_subscribe_for_anonymous")
@pytest.mark.parametrize(
    ("options", "user", "expected"),
    [
        ({}, "alice", 103),
        ({}, "", 103),
        (SUBSCRIBE, "alice", 0),
        (SUBSCRIBE, "", 103),
        ({"allow_subscribe_for_anonymous": True}, "alice", 103),
        ({"allow_subscribe_for_anonymous": True}, "", 103),
        ({**SUBSCRIBE, "allow_subscribe_for_anonymous": True}, "", 0),
        (PUBLISH, "alice", 103),
    ],
)
def test_subscribe_flags(options: dict[str, Any], user: str, expected: int) -> None:
    """The flag for anonymous users comes on top of the one for clients, and no other flag helps."""
    assert code(namespace(**options).may_subscribe("a", user)) == expected


@protocol(
    "option.allow_publish_for_client",
    "option.allow_publish_for_subscriber",
    "option.allow_publish_for_anonymous",
)
@pytest.mark.parametrize(
    ("options", "user", "subscribed", "expected"),
    [
        ({}, "alice", True, 103),
        (SUBSCRIBE, "alice", True, 103),
        (PUBLISH, "alice", False, 0),
        (PUBLISH, "alice", True, 0),
        (PUBLISH, "", False, 103),
        (PUBLISH, "", True, 103),
        ({"allow_publish_for_subscriber": True}, "alice", False, 103),
        ({"allow_publish_for_subscriber": True}, "alice", True, 0),
        ({"allow_publish_for_subscriber": True}, "", True, 103),
        ({"allow_publish_for_anonymous": True}, "", True, 103),
        ({"allow_publish_for_anonymous": True, **PUBLISH}, "", False, 0),
        ({"allow_publish_for_anonymous": True, "allow_publish_for_subscriber": True}, "", True, 0),
        ({"allow_publish_for_anonymous": True, "allow_publish_for_subscriber": True}, "", False, 103),
    ],
)
def test_publish_flags(options: dict[str, Any], user: str, subscribed: bool, expected: int) -> None:
    """`_for_subscriber` needs the subscription, `_for_anonymous` one of the other two."""
    assert code(namespace(**options).may_publish("a", user, subscribed=subscribed)) == expected


@protocol("channel.private")
@pytest.mark.parametrize("channel", ["$a", "$", "$chat:a", "$a#alice"])
def test_private_channels_are_closed_to_flags(channel: str) -> None:
    """A token opens them, and being subscribed is what proves it to a publisher."""
    open_to_all = namespace(**SUBSCRIBE, **PUBLISH, allow_user_limited_channels=True)
    assert code(open_to_all.may_subscribe(channel, "alice")) == 103
    assert code(open_to_all.may_publish(channel, "alice", subscribed=False)) == 103
    assert code(open_to_all.may_publish(channel, "alice", subscribed=True)) == 0


@protocol("channel.user_limited", "option.allow_user_limited_channels")
@pytest.mark.parametrize(
    ("channel", "user", "expected"),
    [
        ("dm#alice", "alice", 0),
        ("dm#bob,alice", "alice", 0),
        ("dm#bob", "alice", 103),
        ("dm#alice2", "alice", 103),
        ("dm#alice,", "", 103),
        ("dm#", "", 103),
        ("dm#", "alice", 103),
        ("dm#alice#bob", "alice", 103),
        ("dm#alice#bob", "bob", 0),
        ("#alice", "alice", 0),
        ("dm# alice", "alice", 103),
    ],
)
def test_user_limited_channels_are_for_the_users_behind_the_last_boundary(
    channel: str, user: str, expected: int
) -> None:
    """Anonymous users are never named, not even by an empty entry, and no flag opens the list."""
    limited = namespace(
        **SUBSCRIBE, **PUBLISH, allow_user_limited_channels=True, allow_subscribe_for_anonymous=True
    )
    assert code(limited.may_subscribe(channel, user)) == expected
    assert code(limited.may_publish(channel, user, subscribed=False)) == expected
    off = namespace(**SUBSCRIBE, **PUBLISH)
    assert code(off.may_subscribe(channel, user)) == 103
    assert code(off.may_publish(channel, user, subscribed=False)) == 103


@given(st.text(max_size=20), st.sampled_from(["", "alice", "bob"]))
def test_without_a_single_flag_nothing_is_allowed(channel: str, user: str) -> None:
    """Closed by default, whatever the channel is called."""
    closed = namespace()
    assert closed.may_subscribe(channel, user) is not None
    assert closed.may_publish(channel, user, subscribed=True) is not None
    assert closed.may_publish(channel, user, subscribed=False) is not None


@protocol("option.channel_regex")
def test_pattern_is_searched_in_the_name_without_the_namespace() -> None:
    """RE2, unanchored like Centrifugo's; anchors are the deployment's to write."""
    assert namespace(channel_regex="^[0-9]+$").matches("42")
    assert not namespace(channel_regex="^[0-9]+$").matches("42x")
    assert namespace(channel_regex="[0-9]").matches("a1b")
    assert namespace().matches("anything")
    assert code(namespaces().find("digits:42")) == 0
    assert code(namespaces().find("$digits:42")) == 0
    assert code(namespaces().find("digits:4two")) == 107


@protocol("channel.namespace", "channel.length", "channel.empty")
@pytest.mark.parametrize(
    ("channel", "expected"),
    [
        ("chat:a", 0),
        ("$chat:a", 0),
        ("chat:a:b", 0),
        ("plain", 0),
        ("nope:a", 102),
        ("$nope:a", 102),
        (":a", 102),
        ("$:a", 102),
        ("CHAT:a", 102),
        ("chat:", 107),
        ("$chat:", 107),
        ("", 107),
        ("$", 107),
        ("c" * 255, 0),
        ("c" * 256, 107),
        ("é" * 127, 0),
        ("é" * 128, 107),
        ("chat:\ud800", 107),
    ],
)
def test_find(channel: str, expected: int) -> None:
    """102 where there is no such namespace, 107 where the name itself cannot be."""
    assert code(namespaces().find(channel)) == expected


@given(st.text())
def test_every_text_finds_a_namespace_or_an_error_with_a_message(channel: str) -> None:
    """Total on what clients may send."""
    found = namespaces().find(channel)
    assert isinstance(found, Namespace) or (found.code in {102, 107} and found.message)


def test_binary_namespaces_say_so() -> None:
    """JSON is the default."""
    assert namespace(publication_data_format="binary").binary
    assert not namespace().binary


# Wildcards.

WILDCARDS = {"allow_wildcards": True}


@protocol("channel.wildcard")
@pytest.mark.parametrize(
    ("channel", "expected"),
    [
        ("stocks:*", 0),
        ("stocks:nasdaq.*", 0),
        ("stocks:*.a.*", 0),
        ("stocks:*.*.*.d.e.f", 0),
        ("stocks:*.*.*.*", 107),
        ("stocks:a.b.c.d.e.f.*", 107),
        ("stocks:a", 0),
        ("stocks:a*", 107),
        ("stocks:*a.b", 107),
        ("stocks:**", 107),
        ("stocks:*.", 107),
        ("stocks:a..*", 107),
        ("$stocks:*", 103),
        ("$stocks:a*", 107),
        ("stocks:*.dm#alice", 103),
        ("stocks:#*", 107),
        ("stocks:*#", 107),
        ("stocks:*.#", 103),
        ("$stocks:a", 0),
        ("stocks:a#bob", 0),
    ],
)
def test_names_with_a_star_are_patterns_where_wildcards_are_on(channel: str, expected: int) -> None:
    """Well formed, and in channels that no name restricts; elsewhere the star is a letter."""
    assert code(namespace(**WILDCARDS).pattern_problem(channel)) == expected
    assert code(namespace().pattern_problem(channel)) == 0


@protocol("channel.wildcard")
def test_pattern_is_for_whom_each_of_its_channels_is() -> None:
    """The flags are the same."""
    on = namespace(**WILDCARDS, **SUBSCRIBE)
    assert code(on.may_subscribe("stocks:*", "alice")) == 0
    assert code(on.may_subscribe("stocks:*", "")) == 103
    assert code(namespace(**WILDCARDS).may_subscribe("stocks:*", "alice")) == 103


@protocol("channel.wildcard", "error.107")
@pytest.mark.parametrize("channel", ["*", "a*", "a.*", "$*", "#*"])
@pytest.mark.parametrize("subscribed", [False, True])
def test_nobody_publishes_in_a_wildcard(channel: str, subscribed: bool) -> None:
    """Whatever the flags; where they are off it is a channel."""
    everything = {**PUBLISH, "allow_publish_for_subscriber": True, "allow_publish_for_anonymous": True}
    for user in ("alice", ""):
        found = namespace(**WILDCARDS, **everything).may_publish(channel, user, subscribed=subscribed)
        assert code(found) == 107
    assert code(namespace(**everything).may_publish("a*", "alice", subscribed=subscribed)) == 0


def test_denial_that_a_capability_may_lift_is_the_very_constant() -> None:
    """`requests` asks for it by identity: every other refusal stands."""
    assert namespace().may_publish("a", "alice", subscribed=True) is errors.PERMISSION_DENIED
    assert namespace(**PUBLISH).may_publish("$a", "alice", subscribed=False) is errors.PERMISSION_DENIED
    assert namespace(**PUBLISH).may_publish("a#b", "alice", subscribed=False) is errors.PERMISSION_DENIED


def test_only_names_that_may_be_channels_are_remembered() -> None:
    """The others are as long as clients please. What is remembered is the same the second time."""
    found = namespaces()
    for _ in range(2):
        assert code(found.find("a" * 100_000)) == 107
    assert found._look_up.cache_info().currsize == 0
    assert found.find("chat:a") is found.find("chat:a")
    assert found._look_up.cache_info().currsize == 1
