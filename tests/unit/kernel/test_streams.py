from __future__ import annotations

from itertools import combinations

import pytest

from tidewire.kernel.streams import (
    captured,
    epoch_of,
    namespace_of,
    parts_of,
    republish,
    stream_name,
    vacant,
)
from tidewire.kernel.subjects import NO_NAMESPACE, PROBE, channel_of, in_subject

CREATED = "2026-11-26T20:00:00.123456789Z"


def test_names_and_subjects_of_a_stream() -> None:
    """As every process and every right of nats-server spells them."""
    assert stream_name("r3-file", 7) == "TW_r3-file_7"
    assert captured("chat", 7) == "tw.in.7.chat.>"
    assert republish(7) == ("tw.in.7.>", "tw.out.7.>")


@pytest.mark.parametrize(
    "name", ["TW_META", "KV_TW_META", "TW_a", "TW_a_", "TW_a_01", "TW_a_-1", "XTW_a_1", "TW_A_1"]
)
def test_what_is_not_a_name_of_ours_is_left_alone(name: str) -> None:
    """Other streams may live in the account."""
    assert parts_of(name) is None


def test_names_and_subjects_are_read_as_they_are_written() -> None:
    """Back to profile and partition, and to the namespace."""
    assert parts_of(stream_name("r3-file", 12)) == ("r3-file", 12)
    assert namespace_of(captured("chat", 3)) == "chat"
    assert namespace_of(captured(NO_NAMESPACE, 3)) == NO_NAMESPACE
    for other in (
        vacant("fast", 3),
        "tw.in.>",
        "tw.in.3.*.>",
        "tw.in.*.chat.>",
        "tw.out.3.chat.>",
        "tw.in.3.chat.a",
    ):
        assert namespace_of(other) is None


def test_what_a_vacant_stream_takes_is_no_channels() -> None:
    """Nor the probe's."""
    assert channel_of(vacant("fast", 0).encode(), 1) is None
    assert not vacant("fast", 0).startswith(f"tw.in.0.{PROBE}")


def test_a_stream_captures_what_edges_publish() -> None:
    """With and without a namespace, private channels too."""
    for channel, namespace in [("chat:a.b", "chat"), ("$chat:a", "chat"), ("a", NO_NAMESPACE)]:
        subject = in_subject(channel, 1).decode()
        assert subject.startswith(captured(namespace, 0).removesuffix(">"))


def test_an_epoch_is_another_when_anything_of_a_streams_life_is() -> None:
    """And the same as long as nothing is; fields cannot run into each other."""
    lives = [
        ("TW_default_0", CREATED, 0, ""),
        ("TW_default_1", CREATED, 0, ""),
        ("TW_default_0", CREATED.replace("9Z", "8Z"), 0, ""),
        ("TW_default_0", CREATED, 1, ""),
        ("TW_default_0", CREATED, 0, "1"),
        ("TW_default_0", CREATED, 1, "0"),
        ("TW_default_0", CREATED, 10, ""),
    ]
    epochs = [epoch_of(*life) for life in lives]
    assert all(one != other for one, other in combinations(epochs, 2))
    assert epochs == [epoch_of(*life) for life in lives]
    assert all(len(epoch) == 12 and epoch.isalnum() for epoch in epochs)


def test_the_epoch_of_a_known_life_stays_what_clients_hold() -> None:
    """A change of the hash would tell every client that its history is gone."""
    assert epoch_of("TW_default_0", CREATED, 0) == "6ce859bf9b3b"
