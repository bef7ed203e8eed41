from __future__ import annotations

from typing import Any

from tests.fakes.clock import ManualClock
from tests.fakes.log import RecordingLog
from tests.fakes.streams import ModelPort
from tidewire.edge.lane import LaneLimits
from tidewire.edge.lanes import Lanes
from tidewire.edge.pending import Verdict
from tidewire.edge.stream_telemetry import StreamTelemetry
from tidewire.platform.metrics import Registry


def test_everything_is_exposed_and_told_once_in_a_while() -> None:
    """A storm of refusals is one line a minute."""
    clock, log = ManualClock(), RecordingLog()
    writer: Any = log
    telemetry = StreamTelemetry(writer, clock.monotonic)
    registry = Registry()
    telemetry.register(registry, Lanes(ModelPort(clock), LaneLimits(), clock.monotonic, telemetry))
    telemetry.acknowledged(0.01, 3)
    telemetry.acknowledged(0.02)
    telemetry.stored(3)
    telemetry.stored(5)
    telemetry.batch_stored()
    telemetry.ended("stored", 6)
    telemetry.ended_late("uncertain", 2)
    telemetry.repeated()
    telemetry.split()
    for _ in range(3):
        telemetry.id_taken()
        telemetry.refused(Verdict.NOBODY, "no stream answers")
        telemetry.refused(Verdict.REFUSED, "full (1)")
        telemetry.ignored("unexpected")
        telemetry.ignored("other_stream")
    assert log.lines == [
        ("warning", "stream.id_taken", {}),
        ("warning", "stream.refused", {"verdict": "nobody", "why": "no stream answers"}),
        ("warning", "stream.refused", {"verdict": "refused", "why": "full (1)"}),
        ("warning", "stream.answer_ignored", {"reason": "other_stream"}),
    ]
    text = registry.exposition().decode()
    for line in (
        'tidewire_stream_publications_total{outcome="stored"} 6.0',
        'tidewire_stream_publications_late_total{outcome="uncertain"} 2.0',
        "tidewire_stream_acknowledged_total 8.0",
        "tidewire_stream_ack_seconds_count 4.0",
        'tidewire_stream_batches_total{outcome="stored"} 1.0',
        'tidewire_stream_batches_total{outcome="split"} 1.0',
        "tidewire_stream_retries_total 1.0",
        'tidewire_stream_refusals_total{verdict="nobody"} 3.0',
        'tidewire_stream_answers_ignored_total{reason="unexpected"} 3.0',
        "tidewire_stream_ids_taken_total 3.0",
        "tidewire_stream_lanes 0.0",
        "tidewire_stream_in_flight 0.0",
        "tidewire_stream_held_publications 0.0",
        "tidewire_stream_held_bytes 0.0",
    ):
        assert line in text
