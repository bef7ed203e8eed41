from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidewire.kernel.channels import (
    ChannelParts,
    ends_in_rest,
    is_pattern,
    is_restricted,
    limited_users,
    split_channel,
)


@pytest.mark.parametrize(
    ("channel", "private", "namespace", "name"),
    [
        ("lobby", False, None, "lobby"),
        ("chat:room-1", False, "chat", "room-1"),
        ("chat:a:b", False, "chat", "a:b"),
        ("$lobby", True, None, "lobby"),
        ("$chat:room-1", True, "chat", "room-1"),
        ("chat:$room-1", False, "chat", "$room-1"),
        ("$$chat:x", True, "$chat", "x"),
        (":x", False, "", "x"),
        ("chat:", False, "chat", ""),
        ("", False, None, ""),
        ("$", True, None, ""),
    ],
)
def test_channel_is_taken_apart(channel: str, private: bool, namespace: str | None, name: str) -> None:
    """One leading `$` is privacy, the first `:` ends the namespace; whether that exists is not asked."""
    assert split_channel(channel) == ChannelParts(private, namespace, name)


@given(st.text())
def test_parts_make_up_the_channel(channel: str) -> None:
    """Nothing is lost or added, whatever the name is."""
    parts = split_channel(channel)
    namespace = "" if parts.namespace is None else f"{parts.namespace}:"
    assert ("$" if parts.private else "") + namespace + parts.name == channel


@pytest.mark.parametrize(
    ("channel", "expected"),
    [
        (">", True),
        ("chat:>", True),
        ("$chat:a.>", True),
        ("chat:a>", False),
        ("chat:>.a", False),
        ("chat:", False),
    ],
)
def test_a_rest_is_the_last_part_and_alone(channel: str, expected: bool) -> None:
    """As in a NATS subject."""
    assert ends_in_rest(channel) is expected


@pytest.mark.parametrize(
    ("channel", "users"),
    [
        ("chat:room", None),
        ("chat:dialog#42", ("42",)),
        ("chat:dialog#42,43", ("42", "43")),
        ("dialog#42", ("42",)),
        ("chat:a#1#2", ("2",)),
        ("chat:dialog#", ("",)),
        ("chat:dialog#42,", ("42", "")),
        ("#chat:x", ("chat:x",)),
    ],
)
def test_users_follow_the_last_hash(channel: str, users: tuple[str, ...] | None) -> None:
    """Separated by commas; an empty id stays, so that who asks can refuse anonymous users by it."""
    assert limited_users(channel) == users


@pytest.mark.parametrize(
    ("channel", "pattern"),
    [
        ("*", True),
        ("*.*", True),
        ("stocks:*", True),
        ("stocks:nasdaq.*", True),
        ("stocks:*.AAPL", True),
        ("stocks:a*.*", True),
        ("stocks:*#bob.*", True),
        ("$stocks:*", True),
        ("stocks:x:*.a", False),
        ("stocks:a", False),
        ("stocks:", False),
        ("stocks:a*", False),
        ("stocks:**", False),
        ("stocks:*.", False),
        ("stocks:.*", False),
        ("stocks:a..*", False),
        ("stocks:*.a.", False),
        ("*:a", False),
        ("", False),
        (".", False),
    ],
)
def test_pattern_has_a_star_as_a_whole_part_and_no_empty_part(channel: str, pattern: bool) -> None:
    """Of the name alone: the namespace has none."""
    assert is_pattern(channel) is pattern


@pytest.mark.parametrize(
    ("channel", "restricted"),
    [
        ("$chat:a", True),
        ("$", True),
        ("chat:a#1", True),
        ("#1", True),
        ("chat:#", True),
        ("chat:a", False),
        ("chat:$a", False),
        ("", False),
    ],
)
def test_name_alone_restricts_private_and_user_limited_channels(channel: str, restricted: bool) -> None:
    """A `$` at the start, a `#` anywhere."""
    assert is_restricted(channel) is restricted
