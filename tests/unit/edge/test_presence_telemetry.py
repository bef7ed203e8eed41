from __future__ import annotations

from typing import Any, cast

from tests.fakes.attendance import PresentCore
from tests.fakes.log import RecordingLog
from tests.support.edges import Metrics
from tidewire.edge.presence_telemetry import PresenceTelemetry
from tidewire.platform.metrics import Registry


def test_what_happens_is_counted_and_refused_messages_are_logged_once_a_minute() -> None:
    """Each under its own name and label."""
    log = RecordingLog()
    telemetry = PresenceTelemetry(cast("Any", log), lambda: 1000.0)
    core = PresentCore()
    core.join("room:a")
    registry = Registry()
    registry.add(telemetry.all(core.lobby))
    telemetry.presence_changed("joined")
    telemetry.presence_announced("lost", 3)
    telemetry.snapshot_asked("first")
    telemetry.chunk_sent(0, 5)
    telemetry.chunk_sent(2, 7)
    telemetry.event_told("join")
    telemetry.event_heard("wrong")
    telemetry.events_delivered(9)
    telemetry.others_asked("alone")
    for _ in range(3):
        telemetry.presence_unread("reply")
    metrics = Metrics(registry.exposition().decode())
    for name, labels, value in (
        ("changes_total", {"kind": "joined"}, 1),
        ("announced_total", {"outcome": "lost"}, 3),
        ("snapshots_asked_total", {"outcome": "first"}, 1),
        ("snapshot_chunks_total", {"outcome": "lost"}, 1),
        ("snapshot_chunks_total", {"outcome": "sent"}, 1),
        ("snapshot_entries_total", {}, 12),
        ("events_total", {"outcome": "join"}, 1),
        ("events_dropped_total", {"reason": "wrong"}, 1),
        ("events_delivered_total", {}, 9),
        ("others_asked_total", {"outcome": "alone"}, 1),
        ("messages_refused_total", {"why": "reply"}, 3),
        ("rooms", {}, 1),
        ("leaves_held", {}, 0),
    ):
        assert metrics.value(f"tidewire_presence_{name}", **labels) == value, name
    assert log.lines == [("warning", "presence.unread", {"reason": "reply"})]
