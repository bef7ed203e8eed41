from __future__ import annotations

from typing import cast

import pytest

from tests.fakes.nats import FakeLink, Published
from tidewire.edge.adapters.mapping import NONCES, RESCUE_GROUP, Mapping, probe, rescue
from tidewire.kernel.subjects import in_subject, in_subject_of_tokens
from tidewire.platform.nats_link import NatsLink
from tidewire.platform.nats_types import LinkAway, LinkError, LinkFull, LinkState, PayloadTooLarge

PARTITIONS = 16


def mapped_node(link: FakeLink, partitions: int) -> None:
    """Have publications on `tw.pub` come out like on a server that maps to so many partitions."""

    def come_out(message: Published) -> None:
        tokens = message.subject.removeprefix(b"tw.pub.")
        link.deliver(in_subject_of_tokens(tokens, partitions), message.payload)

    link.on_publish = come_out


async def probed(link: FakeLink, *, answers: bool = True) -> Mapping:
    """The verdict, where the server answers the PING behind the nonces or not; the probe leaves no subscription."""
    link.answers = answers
    found = await probe(cast("NatsLink", link), PARTITIONS)
    assert link.subscribed == {}
    return found


async def test_right_node_proves_itself_by_every_nonce() -> None:
    """Eight, so that other numbers of partitions cannot agree by luck."""
    link = FakeLink()
    mapped_node(link, PARTITIONS)
    assert await probed(link) is Mapping.RIGHT
    assert len({message.subject for message in link.published}) == NONCES
    assert all(message.subject.startswith(b"tw.pub._tw.chk.") for message in link.published)


@pytest.mark.parametrize("partitions", [1, 15, 17, 1024])
async def test_other_number_of_partitions_is_seen(partitions: int) -> None:
    """Some nonces may agree; not all eight (1 in 2**32 for 16 against 1)."""
    link = FakeLink()
    mapped_node(link, partitions)
    assert await probed(link) is Mapping.OTHER_PARTITIONS


async def test_node_without_the_mapping_is_seen() -> None:
    """Nothing comes out before the server's answer."""
    assert await probed(FakeLink()) is Mapping.MISSING


async def test_lost_link_is_no_verdict() -> None:
    """The node may be right or not."""
    link = FakeLink()
    link.state = LinkState.AWAY
    assert await probed(link) is Mapping.UNKNOWN
    assert await probed(FakeLink(), answers=False) is Mapping.UNKNOWN


async def test_only_its_own_nonces_count() -> None:
    """Other edges probe at the same time, and anyone may write there."""
    link = FakeLink()

    def others(_message: Published) -> None:
        for partition in range(PARTITIONS):
            link.deliver(b"tw.in.%d._tw.chk.0123456789abcdef" % partition, b"")
            link.deliver(b"tw.in.%d._tw.chk.\xff" % partition, b"")

    link.on_publish = others
    assert await probed(link) is Mapping.MISSING


# Standing in for a node without the mapping.


def rescuing(lost: list[LinkError] | None = None) -> tuple[FakeLink, list[int]]:
    """A link with the rescue on it, and what it has found; `lost` takes what could not be put right."""
    link, found = FakeLink(), []
    unheard: list[LinkError] = []
    rescue(
        cast("NatsLink", link),
        PARTITIONS,
        lambda: found.append(1),
        (unheard if lost is None else lost).append,
    )
    return link, found


def test_unmapped_publication_is_put_on_its_partition_and_marked() -> None:
    """With reply and headers; by one edge of the group."""
    link, found = rescuing()
    assert [(subject, queue) for subject, _, queue in link.subscribed.values()] == [
        (b"tw.pub.>", RESCUE_GROUP)
    ]
    link.deliver(b"tw.pub.chat.a", b"1")
    link.deliver(b"tw.pub.chat.a", b"2", b"NATS/1.0\r\nTw-Info: x\r\n\r\n", b"reply.to")
    target = in_subject("chat:a", PARTITIONS)
    assert link.published == [
        Published(target, b"1", b"NATS/1.0\r\nTw-Unmapped: 1\r\n\r\n"),
        Published(target, b"2", b"NATS/1.0\r\nTw-Info: x\r\nTw-Unmapped: 1\r\n\r\n", b"reply.to"),
    ]
    assert len(found) == 2


def test_probes_and_other_internal_subjects_are_left_alone() -> None:
    """A rescued probe would make a bad node look right."""
    link, found = rescuing()
    link.deliver(b"tw.pub._tw.chk.0123456789abcdef", b"")
    assert (link.published, found) == ([], [])


@pytest.mark.parametrize("tokens", [b"chat.\xff", "chat.é".encode(), b"chat.*", b"x"])
def test_subjects_that_are_no_channels_pass_too(tokens: bytes) -> None:
    """They are nobody's channel; byte for byte as on a node with the mapping."""
    link, found = rescuing()
    link.deliver(b"tw.pub." + tokens, b"")
    assert len(found) == 1
    assert link.published[0].subject == in_subject_of_tokens(tokens, PARTITIONS)


@pytest.mark.parametrize(
    "error", [PayloadTooLarge(1_010, 1_000), LinkFull("full"), LinkAway("away")], ids=repr
)
def test_what_cannot_be_put_right_is_reported(error: LinkError) -> None:
    """The mark makes a message longer: near max_payload it fits no more. The callback itself raises nothing."""
    lost: list[LinkError] = []
    link, found = rescuing(lost)
    link.fails["publish"] = error
    link.deliver(b"tw.pub.chat.a", b"1")
    assert (found, lost) == ([1], [error])
