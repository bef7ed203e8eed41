from __future__ import annotations

from typing import Any

import pytest

from tests.fakes.clock import ManualClock
from tests.fakes.log import RecordingLog
from tests.fakes.nats import FakeLink
from tidewire.platform import nats_watch
from tidewire.platform.lifecycle import StartError
from tidewire.platform.metrics import Registry
from tidewire.platform.nats_types import LinkOptions, LinkState
from tidewire.platform.nats_watch import WatchedLink


class Watch:
    """A watched link without a server, and what it did."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = ManualClock()
        self.log: Any = RecordingLog()
        self.done: list[object] = []
        self.link: Any = FakeLink()
        self.link.last_error = RuntimeError("what happened")
        monkeypatch.setattr(nats_watch, "NatsLink", lambda *_: self.link)
        self.watched = WatchedLink(
            LinkOptions(),
            self.log,
            self.clock.monotonic,
            self.done.append,
            lambda: self.done.append("chunk"),
        )
        self._registry = Registry()
        self._registry.add(self.watched.metrics())

    def value(self, name: str) -> float:
        """A sample, by its name and labels."""
        lines = self._registry.exposition().decode().splitlines()
        return next((float(line.split()[1]) for line in lines if line.startswith(f"{name} ")), 0.0)


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    """One of a link that has an error."""
    return Watch(monkeypatch)


def test_what_turns_is_counted_logged_and_handed_on(watch: Watch) -> None:
    """And each read's end."""
    watch.watched.link_away()
    watch.watched.link_back()
    watch.watched.chunk_end()
    assert watch.done == [False, True, "chunk"]
    assert watch.log.lines == [
        ("warning", "nats.away", {"error": "what happened"}),
        ("info", "nats.back", {}),
    ]
    assert watch.value("tidewire_nats_disconnects_total") == 1


def test_errors_are_all_counted_and_told_once_a_minute_for_each_kind(watch: Watch) -> None:
    """They leave what is known as it is."""
    for kind in ("permissions", "permissions", "other"):
        watch.watched.link_error(kind)
    assert watch.log.events == ["nats.error"] * 2
    watch.clock.advance(60)
    watch.watched.link_error("other")
    assert watch.log.lines[2:] == [("warning", "nats.error", {"kind": "other", "error": "what happened"})]
    assert watch.done == []
    assert watch.value('tidewire_nats_errors_total{kind="permissions"}') == 2


def test_what_the_link_counts_is_read_when_somebody_asks(watch: Watch) -> None:
    """State, traffic and troubles."""
    assert watch.value("tidewire_nats_connected") == 1
    watch.link.state = LinkState.AWAY
    assert watch.value("tidewire_nats_connected") == 0
    names = [
        "received_messages",
        "received_bytes",
        "sent_messages",
        "sent_bytes",
        "reconnects",
        "callback_errors",
    ]
    assert [watch.value(f"tidewire_nats_{name}_total") for name in names] == [1, 20, 3, 40, 5, 7]
    assert watch.value("tidewire_nats_pending_bytes") == 6


def test_options_that_cannot_be_used_keep_a_process_from_its_start() -> None:
    """In one line. Who needs no end of a read says nothing of it."""
    log: Any = RecordingLog()
    with pytest.raises(StartError, match="the TLS files for NATS cannot be used"):
        WatchedLink(LinkOptions(tls_ca_file="/nowhere"), log, ManualClock().monotonic, lambda _up: None)
    WatchedLink(LinkOptions(), log, ManualClock().monotonic, lambda _up: None).chunk_end()
