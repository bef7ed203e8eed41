from __future__ import annotations

import pytest

from tests.support.config import KEY, problems
from tests.support.protocol import protocol
from tidewire.edge.config import EdgeConfig
from tidewire.kernel.config import decode
from tidewire.options.channel_options import POSITIONED
from tidewire.options.stored import options_by_token, stored

HISTORY = {"history_size": 10, "history_ttl": "1m"}
PROFILES = {
    "profiles": [
        {},
        {"name": "small", "max_messages": 100, "max_age": "1h"},
        {"name": "memory", "storage": "memory"},
        {"name": "mixed", "message_ttl": True},
    ]
}


def config(*namespaces: dict[str, object], **without: object) -> dict[str, object]:
    """A configuration with these namespaces, four profiles, and options of channels without a namespace."""
    return {
        **KEY,
        "storage": PROFILES,
        "channel": {"namespaces": list(namespaces), "without_namespace": without},
    }


@protocol("option.storage_profile")
def test_namespaces_with_history_are_stored_in_their_profile() -> None:
    """Channels without a namespace are `_`, as in subjects."""
    decoded = decode(
        EdgeConfig,
        config(
            {"name": "chat", **HISTORY},
            {"name": "live"},
            {"name": "news", "storage_profile": "small"},
            **HISTORY,
        ),
    )
    assert stored(decoded) == {"_": "default", "chat": "default"}
    assert set(options_by_token(decoded.channel)) == {"_", "chat", "live", "news"}


@pytest.mark.parametrize(
    ("namespace", "line"),
    [
        (
            {"storage_profile": "fast"},
            "channel.namespaces[0].storage_profile: there is no profile 'fast' in storage.profiles",
        ),
        (
            {"storage_profile": "small", "history_size": 101},
            (
                "channel.namespaces[0].history_size: is over the 100 publications that profile 'small' keeps "
                "(max_messages)"
            ),
        ),
        (
            {"storage_profile": "small", "history_ttl": "61m"},
            "channel.namespaces[0].history_ttl: is over the time that profile 'small' keeps publications (max_age)",
        ),
        (
            {"storage_profile": "memory", "force_positioning": True, "force_recovery_mode": "cache"},
            "channel.namespaces[0].force_positioning: cannot be had where profile 'memory' is in memory",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_namespace_is_promised_no_more_than_its_profile_keeps(
    namespace: dict[str, object], line: str
) -> None:
    """Each promise that the profile cannot keep is named."""
    assert problems(config({"name": "chat", **HISTORY, **namespace})) == [line]


@pytest.mark.parametrize("name", POSITIONED)
@pytest.mark.parametrize(
    ("profile", "why"),
    [("memory", "is in memory"), ("mixed", "lets publications end by themselves (message_ttl)")],
)
def test_there_are_no_positions_where_they_cannot_be_proven(name: str, profile: str, why: str) -> None:
    """Neither in memory nor where a publication may end in the middle."""
    [line] = problems(config({"name": "chat", **HISTORY, "storage_profile": profile, name: True}))
    assert line == f"channel.namespaces[0].{name}: cannot be had where profile {profile!r} {why}"


@pytest.mark.parametrize("profile", ["memory", "mixed"])
def test_cache_mode_needs_no_positions(profile: str) -> None:
    """The last value is the last value wherever it is kept."""
    options = {"allow_recovery": True, "force_recovery": True, "force_recovery_mode": "cache"}
    decoded = decode(EdgeConfig, config({"name": "chat", **HISTORY, "storage_profile": profile, **options}))
    assert stored(decoded) == {"chat": profile}


def test_the_bounds_themselves_are_within_them() -> None:
    """As much as the profile keeps, and no promise where there is no history."""
    whole = {"name": "chat", "storage_profile": "small", "history_size": 100, "history_ttl": "1h"}
    assert stored(decode(EdgeConfig, config(whole, {"name": "live", "storage_profile": "gone"}))) == {
        "chat": "small"
    }


def test_channels_without_a_namespace_are_held_to_the_same() -> None:
    """With the path of theirs."""
    assert problems(config(**{**HISTORY, "storage_profile": "fast"})) == [
        "channel.without_namespace.storage_profile: there is no profile 'fast' in storage.profiles"
    ]
