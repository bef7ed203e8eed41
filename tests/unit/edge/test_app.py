from __future__ import annotations

import asyncio
from typing import cast

import pytest
from structlog.typing import FilteringBoundLogger

from tests.fakes.edge import edge_config
from tests.fakes.log import RecordingLog
from tests.fakes.nats import FakeLink, Published
from tests.support.wait import PATIENCE, eventually
from tidewire.edge.adapters import node_check
from tidewire.edge.app import Edge
from tidewire.kernel.subjects import in_subject_of_tokens
from tidewire.platform import nats_watch
from tidewire.platform.lifecycle import StartError
from tidewire.platform.nats_link import NatsLink
from tidewire.platform.nats_types import LinkState

PARTITIONS = 16


class MappedLink(FakeLink):
    """A link to a node with the mapping, whose server answers only when the test says so."""

    server_name = "n"
    max_payload = 1 << 20
    last_error: Exception | None = None

    def __init__(self) -> None:
        super().__init__()
        self.answers = False
        self.reconnects: list[str] = []
        self.on_publish = self._map

    def _map(self, message: Published) -> None:
        self.deliver(in_subject_of_tokens(message.subject.removeprefix(b"tw.pub."), PARTITIONS), b"")

    def reconnect(self, reason: str) -> None:
        """Note it."""
        self.reconnects.append(reason)

    @property
    def probes(self) -> int:
        """How often the mapping was probed."""
        return len(self.published) // 8


@pytest.fixture
def link(monkeypatch: pytest.MonkeyPatch) -> MappedLink:
    """The link of the next edge; a probe follows another at once."""
    found = MappedLink()
    monkeypatch.setattr(nats_watch, "NatsLink", lambda *_: cast("NatsLink", found))
    monkeypatch.setattr(node_check, "PROBE_PAUSE", 0.0)
    return found


def created() -> Edge:
    """An edge that was not started."""
    return Edge(edge_config(), cast("FilteringBoundLogger", RecordingLog()), edge_config)


async def test_node_behind_a_new_connection_counts_as_away_at_once(link: MappedLink) -> None:
    """Before the probe has done anything: no publication may be acknowledged in between."""
    edge = created()
    assert edge._broker.available
    edge._watched.link_back()
    assert not edge._broker.available
    link.answers = True
    await eventually(lambda: edge._broker.available)


async def test_probe_without_an_answer_is_tried_again_while_the_link_is_there(link: MappedLink) -> None:
    """Otherwise the edge would refuse clients until the next reconnect; the node is not blamed."""
    edge = created()
    edge._watched.link_back()
    await eventually(lambda: link.probes >= 3)
    assert not edge._broker.available
    link.answers = True
    await eventually(lambda: edge._broker.available)
    assert link.reconnects == []


async def test_probe_is_not_tried_again_on_a_lost_link(link: MappedLink) -> None:
    """The next connection brings a probe of its own."""
    edge = created()
    edge._watched.link_back()
    await eventually(lambda: link.probes >= 2)
    link.state = LinkState.AWAY
    checking = edge._node_check._checking
    assert checking is not None
    await asyncio.wait_for(checking, PATIENCE)
    assert not edge._broker.mapped


async def test_start_tries_a_probe_without_an_answer_a_few_times(link: MappedLink) -> None:
    """And then says what NATS said."""
    edge = created()
    link.last_error = RuntimeError("permissions violation")
    with pytest.raises(StartError, match="permissions violation"):
        await edge._node_check.prove(0)
    assert link.probes == node_check.PROBES_AT_START
    link.answers = True
    await edge._node_check.prove(0)


async def test_node_without_the_mapping_is_left(link: MappedLink) -> None:
    """It has answered, and nothing came out."""
    edge = created()
    link.answers = True
    link.on_publish = lambda _message: None
    edge._watched.link_back()
    await eventually(lambda: link.reconnects)
    assert not edge._broker.available


async def test_a_check_that_a_further_reconnect_overtakes_is_given_up(link: MappedLink) -> None:
    """So that its verdict cannot count for the new node."""
    edge = created()
    edge._watched.link_back()
    overtaken = edge._node_check._checking
    assert overtaken is not None
    await eventually(lambda: link.probes)
    edge._watched.link_back()
    await eventually(overtaken.cancelled)
    assert not edge._broker.available
    link.answers = True
    await eventually(lambda: edge._broker.available)


async def test_what_a_read_brought_is_fanned_out_at_its_end(
    link: MappedLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not before, and whatever is lost."""
    edge, flushed = created(), []
    monkeypatch.setattr(edge._hub, "flush", lambda: flushed.append("hub"))
    edge._watched.link_away()
    assert (flushed, link.probes) == ([], 0)
    edge._watched.chunk_end()
    assert flushed == ["hub"]
