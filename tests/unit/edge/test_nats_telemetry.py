from __future__ import annotations

from tests.fakes.measured import MeasuredEdge


def test_publications_from_a_node_without_the_mapping_are_all_counted_and_seldom_logged() -> None:
    """Once in a minute for each kind; they come as fast as somebody publishes."""
    edge = MeasuredEdge()
    for _ in range(100):
        edge.nats.unmapped()
        edge.nats.unmapped_lost(RuntimeError("too large"))
    assert edge.value("tidewire_unmapped_publications_total") == 100
    assert edge.value("tidewire_unmapped_publications_lost_total") == 100
    assert edge.log.events == ["nats.unmapped_node", "nats.unmapped_lost"]
    edge.clock.advance(60)
    edge.nats.unmapped_lost(RuntimeError("too large"))
    assert edge.log.lines[-1] == ("warning", "nats.unmapped_lost", {"error": "too large"})
