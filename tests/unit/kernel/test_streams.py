from __future__ import annotations

from itertools import combinations

from tidewire.kernel.streams import captured, epoch_of, republish, stream_name
from tidewire.kernel.subjects import NO_NAMESPACE, in_subject

CREATED = "2026-11-26T20:00:00.123456789Z"


def test_names_and_subjects_of_a_stream() -> None:
    """As every process and every right of nats-server spells them."""
    assert stream_name("r3-file", 7) == "TW_r3-file_7"
    assert captured("chat", 7) == "tw.in.7.chat.>"
    assert republish(7) == ("tw.in.7.>", "tw.out.7.>")


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
