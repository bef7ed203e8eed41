from __future__ import annotations

import pytest

from tests.fakes.clock import ManualClock
from tests.fakes.edge import CountingMetrics, ManualTimer
from tidewire.edge import batches
from tidewire.edge.batches import Batches
from tidewire.edge.channel import Channel
from tidewire.edge.conflation import Delivery
from tidewire.edge.ports import Publication

BATCHING = Delivery(max_delay=0.05, max_size=3, conflate=False, max_keys=1)


class Stage:
    """Channels whose publications are offered as they come, each in a turn of its own."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.metrics = CountingMetrics()
        self.timer = ManualTimer(self.clock)
        self.sent: list[tuple[float, str, int]] = []
        self.batches = Batches(self.metrics, self.clock, self.timer, self.send)
        self.began = self.clock.now

    def channel(self, name: str = "a", delivery: Delivery = BATCHING) -> Channel:
        """A channel that sends as `delivery` says."""
        channel = Channel(self.offer, name, 1, binary=False)
        channel.adopt(delivery)
        return channel

    def offer(self, channel: Channel, publication: Publication) -> None:
        """Take a publication, and end the turn."""
        channel.pending.append(publication)
        assert channel.pace is not None
        self.batches.offer(channel, channel.pace)

    def send(self, channel: Channel) -> None:
        """Note when what was sent, in milliseconds."""
        at = round((self.clock.now - self.began) * 1000)
        self.sent.append((at, channel.name, len(channel.take())))

    def publish(self, channel: Channel, count: int = 1) -> None:
        """Publications of a turn each."""
        for _ in range(count):
            channel.receive(Publication(b"1"))


@pytest.fixture
def stage() -> Stage:
    """No channel yet."""
    return Stage()


def test_first_publication_goes_at_once_and_the_next_ones_together(stage: Stage) -> None:
    """A channel that has rested for its delay is not delayed; one that has not waits for what is left of it."""
    channel = stage.channel()
    stage.publish(channel)
    assert stage.sent == [(0, "a", 1)]
    stage.timer.run(0.02)
    stage.publish(channel)
    stage.timer.run(0.01)
    stage.publish(channel)
    assert len(stage.batches) == 1
    stage.timer.run(0.02)
    assert stage.sent[1:] == [(50, "a", 2)]
    assert len(stage.batches) == 0
    stage.timer.run(0.05)
    stage.publish(channel)
    assert stage.sent[2:] == [(100, "a", 1)]
    delays = [(publications, round(seconds, 3)) for publications, seconds in stage.metrics.of("batched")]
    assert delays == [(1, 0.0), (2, 0.03), (1, 0.0)]


def test_full_batch_does_not_wait(stage: Stage) -> None:
    """What comes behind it waits for its own time, and is not sent when that of the full one would have come."""
    channel = stage.channel()
    stage.publish(channel)
    stage.timer.run(0.04)
    stage.publish(channel, 3)
    stage.publish(channel)
    assert stage.sent == [(0, "a", 1), (40, "a", 3)]
    stage.timer.run(0.02)
    assert len(stage.sent) == 2
    stage.timer.run(0.03)
    assert stage.sent[2:] == [(90, "a", 1)]


def test_one_timer_serves_channels_of_different_delays(stage: Stage) -> None:
    """It is set to the first that is due, whichever came first."""
    slow, fast = stage.channel("slow", Delivery(1.0, 100, False, 1)), stage.channel("fast")
    stage.publish(slow, 2)
    stage.publish(fast, 2)
    assert len(stage.timer.calls) == 1
    assert len(stage.batches) == 2
    stage.timer.run(0.06)
    stage.publish(fast)
    assert len(stage.timer.calls) == 1
    stage.timer.run(1.0)
    assert stage.sent[2:] == [(50, "fast", 1), (100, "fast", 1), (1000, "slow", 1)]
    assert stage.timer.calls == []


def test_channel_that_batches_no_more_is_sent_what_waited(stage: Stage) -> None:
    """A reload may come while a batch waits; a channel whose batch is gone by then is let be."""
    channel, other = stage.channel(), stage.channel("b")
    stage.publish(channel, 2)
    stage.publish(other, 2)
    channel.adopt(None)
    other.adopt(None)
    other.take()
    stage.timer.run(0.05)
    assert stage.sent[2:] == [(50, "a", 1)]
    assert len(stage.batches) == 0


def test_channel_that_fails_holds_up_no_other(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it raised is the loop's to report; the timer is set again."""
    for name in "ab":
        stage.publish(stage.channel(name), 2)
    monkeypatch.setattr(stage.batches, "_send", lambda _channel: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        stage.timer.run(0.05)
    monkeypatch.undo()
    stage.timer.run(0.05)
    assert [name for _, name, _ in stage.sent] == ["a", "b", "b"]


def test_all_that_waits_is_sent_before_its_time(stage: Stage) -> None:
    """Also of a channel that batches no more; and what comes then waits for its own."""
    channel, other, plain = stage.channel(), stage.channel("b"), stage.channel("c")
    for each in (channel, other, plain):
        stage.publish(each, 3)
    plain.adopt(None)
    stage.timer.run(0.02)
    stage.batches.send_all()
    stage.batches.send_all()
    assert stage.sent[3:] == [(20, "a", 2), (20, "b", 2), (20, "c", 2)]
    stage.publish(channel)
    stage.timer.run(0.2)
    assert stage.sent[6:] == [(70, "a", 1)]
    assert len(stage.batches) == 0


@pytest.mark.parametrize("conflate", [False, True])
def test_bytes_that_wait_have_a_bound(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, *, conflate: bool
) -> None:
    """Over all channels; beyond it what comes goes out with what waits in its channel, and others go on waiting."""
    monkeypatch.setattr(batches, "MAX_HELD", 250)
    delivery = Delivery(max_delay=10.0, max_size=1000, conflate=conflate, max_keys=1)
    one, other = stage.channel(delivery=delivery), stage.channel("b", delivery)
    for channel in (one, other):
        stage.publish(channel)
        channel.receive(Publication(b"x" * 100, key=b"k"))
    assert stage.batches.held == 200
    other.receive(Publication(b"y" * 50, key=b"k"))  # in place of the older one where that is conflated
    assert stage.batches.held == (150 if conflate else 250)
    other.receive(Publication(b"z" * 101))
    assert stage.sent[2:] == [(0, "b", 2 if conflate else 3)]
    assert stage.batches.held == 100
    one.adopt(Delivery(max_delay=5.0, max_size=1000, conflate=not conflate, max_keys=1))
    one.receive(Publication(b""))
    assert stage.batches.held == 100
    stage.timer.run(20)
    assert stage.sent[3:] == [(10_000, "a", 2)]
    assert stage.batches.held == 0


def test_nothing_is_held_of_a_channel_that_batches_no_more(stage: Stage) -> None:
    """Whether its turn comes with what waited, or after that has gone."""
    for name in "ab":
        channel = stage.channel(name)
        stage.publish(channel, 2)
        channel.adopt(None)
        if name == "b":
            channel.take()
    assert stage.batches.held == 2
    stage.timer.run(0.05)
    assert stage.batches.held == 0
