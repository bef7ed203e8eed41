from __future__ import annotations

from typing import Any

from tests.fakes.clock import ManualClock
from tests.fakes.log import RecordingLog
from tidewire.history.link_watch import LinkWatch


class Watch:
    """A watch, and what it did."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.log: Any = RecordingLog()
        self.done: list[str] = []
        self.watch = LinkWatch(
            self, self.log, self.clock.monotonic, lambda: self.done.append("doubt"), lambda: None
        )  # type: ignore[arg-type] # it stands in for the telemetry

    def nats_lost(self) -> None:
        self.done.append("lost")

    def nats_error(self, kind: str) -> None:
        self.done.append(kind)


def test_nothing_is_certain_from_the_loss_until_the_streams_were_looked_at() -> None:
    """Both when NATS goes and when it comes: in between publications were missed."""
    watch = Watch()
    watch.watch.link_away()
    assert watch.done == ["lost", "doubt"]
    watch.watch.link_back()
    assert watch.done == ["lost", "doubt", "doubt"]
    assert watch.log.events == ["nats.away", "nats.back"]


def test_errors_are_all_counted_and_told_once_a_minute_for_each_kind() -> None:
    """They leave what is known as it is."""
    watch = Watch()
    for kind in ("permissions", "permissions", "slow"):
        watch.watch.link_error(kind)
    watch.clock.advance(61)
    watch.watch.link_error("permissions")
    assert watch.done == ["permissions", "permissions", "slow", "permissions"]
    assert watch.log.events == ["nats.error"] * 3
