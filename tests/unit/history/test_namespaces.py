from __future__ import annotations

from typing import Any

import pytest

from tidewire.history.config import HistoryConfig
from tidewire.history.namespaces import Namespaces
from tidewire.kernel.config import decode
from tidewire.kernel.subjects import in_subject

PARTITIONS = 4
KEPT: dict[str, Any] = {"history_size": 8, "history_ttl": "90s"}
CONFIG = decode(
    HistoryConfig,
    {
        "nats": {"partitions": PARTITIONS},
        "storage": {
            "profiles": [
                {"name": "default"},
                {"name": "ram", "storage": "memory"},
                {"name": "ending", "message_ttl": True},
            ]
        },
        "channel": {
            "namespaces": [
                {"name": "chat", **KEPT},
                {"name": "ram", **KEPT, "storage_profile": "ram"},
                {"name": "ttl", **KEPT, "storage_profile": "ending"},
                {"name": "live"},
            ]
        },
    },
)
ALL = Namespaces(CONFIG, PARTITIONS, range(PARTITIONS))


@pytest.mark.parametrize(
    ("channel", "profile", "oldest_first", "own_ttl"),
    [("chat:a", "default", True, False), ("ram:a", "ram", False, False), ("ttl:a", "ending", False, True)],
)
def test_what_a_namespaces_profile_makes_of_its_channels(
    channel: str, profile: str, oldest_first: bool, own_ttl: bool
) -> None:
    """Where they are stored, and whether what is left of them proves anything."""
    place = ALL.place(channel)
    assert place is not None
    key = in_subject(channel, PARTITIONS)
    assert (place.key, place.stream) == (key, f"TW_{profile}_{key.split(b'.')[2].decode()}")
    assert place.namespace == (profile, 8, 90 * 10**9, oldest_first, own_ttl)
    assert ALL.of_key(key) == place.namespace


@pytest.mark.parametrize("channel", ["live:a", "a", "nobody:a", "", "chat:"])
def test_channels_without_history_have_no_place(channel: str) -> None:
    """Names that are none as well."""
    assert ALL.place(channel) is None


def test_a_share_follows_its_partitions_alone() -> None:
    """And still knows where the others' channels are."""
    share = Namespaces(CONFIG, PARTITIONS, [2, 1])
    assert list(share.streams.values()) == [
        (profile, partition) for profile in ("default", "ram", "ending") for partition in (1, 2)
    ]
    assert {place.stream for number in range(40) if (place := share.place(f"chat:{number}"))} == {
        f"TW_default_{partition}" for partition in range(PARTITIONS)
    }


@pytest.mark.parametrize("key", [b"tw.in.0.chat", b"tw.in", b"", b"tw.in.0.live.a"])
def test_other_subjects_are_of_no_namespace_with_history(key: bytes) -> None:
    """Whatever somebody publishes."""
    assert ALL.of_key(key) is None


def test_a_channel_is_read_on_its_own_partition() -> None:
    """Elsewhere nobody looks for it."""
    subject = in_subject("chat:a", PARTITIONS)
    own = int(subject.split(b".")[2])
    for partition in range(PARTITIONS):
        elsewhere = subject.replace(b"tw.in.%d." % own, b"tw.in.%d." % partition)
        assert ALL.is_channel(elsewhere) is (partition == own)
