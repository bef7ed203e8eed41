"""Whatever happens to messages, pages, streams and clients: who was told that he misses nothing has missed nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.fakes.core import Core
from tests.unit.edge.test_recovery import CONFIG
from tidewire.edge.ports import Publication

Place = tuple[str, int]
"""Epoch and offset."""


class Viewer:
    """A client as the SDKs are: it keeps its position, and comes back with it."""

    def __init__(self, model: Model, channel: str) -> None:
        self.model = model
        self.channel = channel
        self.client = model.core.client()
        self.number = 1
        self.position: Place | None = None
        self.asked: Place | None = None
        self.subscribed = False
        self.waiting = False
        self.got: set[Place] = set()

    def subscribe(self) -> None:
        """Ask, with the position that it has."""
        self.number += 1
        self.waiting, self.asked = True, self.position
        wish: dict[str, Any] = {}
        if self.position is not None:
            wish = {"recover": True, "epoch": self.position[0], "offset": self.position[1]}
        self.client.say({"id": self.number, "subscribe": {"channel": self.channel, **wish}})
        self.look()

    def unsubscribe(self) -> None:
        """Leave."""
        self.number += 1
        self.client.say({"id": self.number, "unsubscribe": {"channel": self.channel}})
        self.look()
        self.waiting = self.subscribed = False

    def cut(self) -> None:
        """Lose the connection, and have another."""
        self.look()
        self.model.core.dispatcher.lost(self.client.connection)
        self.client = self.model.core.client()
        self.waiting = self.subscribed = False

    def look(self) -> None:
        """Take what was written."""
        for heard in self.client.heard():
            if "push" in heard:
                self._pushed(heard["push"])
            elif "subscribe" in heard and heard["id"] == self.number and self.waiting:
                self._begun(heard["subscribe"])
            elif "error" in heard and heard["id"] == self.number:
                assert heard["error"]["temporary"], heard
                self.waiting = False

    def _begun(self, answer: dict[str, Any]) -> None:
        if "epoch" not in answer:  # an unsubscribe overtook it
            return
        self.waiting, self.subscribed = False, True
        if answer.get("recovered"):
            assert self.asked is not None
            assert answer["epoch"] == self.asked[0]
            assert answer.get("offset", 0) == self.asked[1]
            for each in answer.get("publications", ()):
                self._take(each)
        else:
            assert "publications" not in answer
            self.position = answer["epoch"], answer.get("offset", 0)

    def _pushed(self, push: dict[str, Any]) -> None:
        if "unsubscribe" in push:
            assert push["unsubscribe"]["code"] == 2500
            self.subscribed = False
        else:
            assert self.subscribed, "a publication before the subscription, or behind its end"
            self._take(push["pub"])

    def _take(self, pub: dict[str, Any]) -> None:
        place = self.model.places[pub["data"]]
        assert self.position is not None
        epoch, offset = self.position
        if place[0] != epoch:
            self._take_of_another_life(place, pub["offset"])
            return
        assert place[1] == pub["offset"]
        assert place not in self.got, "twice"
        assert place[1] > offset, "out of order"
        between = [each for each in self.model.truth if each[0] == epoch and offset < each[1] < place[1]]
        assert not between, f"{between} is missing before {place}, behind {offset}"
        self.got.add(place)
        self.position = place

    def _take_of_another_life(self, place: Place, offset: int) -> None:
        """Numbers tell nothing where a message names the very offset as its predecessor at which the life before ended.

        It was told a position then that its client does not recover from; `teardown` sees that it learns so.
        """
        epoch, before = self.position or ("", 0)
        assert self.model.previous[place] == before, "of another life of the stream"
        assert place[1] == offset
        self.position = epoch, offset


class Model(RuleBasedStateMachine):
    """One channel, its stream, NATS between them, and clients."""

    channel = "log:a"

    @initialize()
    def begin(self) -> None:
        """An edge that hears the channel."""
        self.core = Core(**CONFIG)
        self.history = self.core.history
        self.truth: list[Place] = []
        self.places: dict[int, Place] = {}
        self.previous: dict[Place, int] = {}
        """The offset that each names as the one before it."""
        self.on_the_way: list[Publication] = []
        self.heard: list[Publication] = []
        self.viewers = [Viewer(self, self.channel) for _ in range(3)]
        self.viewers[0].subscribe()
        self.core.broker.confirm(self.channel)
        self._look()

    def _look(self) -> None:
        for viewer in self.viewers:
            viewer.look()

    def _confirm(self) -> None:
        """Confirm what the edge subscribed to on NATS anew."""
        if self.channel in self.core.hub.channels:
            channel = self.core.hub.channels[self.channel]
            if channel.state.value == "joining":
                self.core.broker.confirm(self.channel)

    # The stream.

    @rule(count=st.integers(1, 4))
    def publish(self, count: int) -> None:
        """Publications are stored, and on their way."""
        for _ in range(count):
            number = len(self.places)
            publication = self.history.publish(self.channel, number)
            self.places[number] = place = self.history.epoch, publication.offset
            self.previous[place] = publication.previous
            self.truth.append(place)
            self.on_the_way.append(publication)

    @rule(count=st.integers(1, 3))
    def elsewhere(self, count: int) -> None:
        """Other channels of the stream."""
        self.history.elsewhere(count)

    @rule(left=st.integers(0, 2))
    def trim(self, left: int) -> None:
        """The oldest go."""
        self.history.trim(self.channel, left)

    @rule(sequence=st.integers(0, 5), clear=st.booleans())
    def begin_anew(self, sequence: int, *, clear: bool) -> None:
        """The stream is another one; what was on its way comes, or does not."""
        self.history.begin_anew(sequence=sequence)
        if clear:
            self.on_the_way.clear()

    # NATS.

    @rule(count=st.integers(1, 4))
    def deliver(self, count: int) -> None:
        """Messages arrive in one read."""
        arriving, self.on_the_way = self.on_the_way[:count], self.on_the_way[count:]
        self._hear(arriving)

    def _hear(self, publications: list[Publication]) -> None:
        self.heard += publications
        if self.channel in self.core.hub.channels:
            self.core.hear(self.channel, *publications)
        self._look()

    @precondition(lambda self: self.on_the_way)
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        """A message is lost."""
        del self.on_the_way[data.draw(st.integers(0, len(self.on_the_way) - 1))]

    @precondition(lambda self: self.heard)
    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        """A message of this life comes again."""
        again = self.heard[data.draw(st.integers(max(0, len(self.heard) - 4), len(self.heard) - 1))]
        if self.places[json.loads(again.data)][0] == self.history.epoch:
            self._hear([again])

    # History.

    @precondition(lambda self: self.history.waiting)
    @rule(data=st.data(), how=st.sampled_from(["answer", "prepare", "fail"]))
    def history_does(self, data: st.DataObject, how: str) -> None:
        """A call is answered, or its answer is made up and takes its time, or it fails."""
        index = data.draw(st.integers(0, len(self.history.waiting) - 1))
        if how == "fail":
            self.history.away = True
            self.history.answer(index)
            self.history.away = False
        else:
            getattr(self.history, how)(index)
        self._look()

    # Clients.

    @rule(index=st.integers(0, 2), what=st.sampled_from(["come", "leave", "cut"]))
    def client_does(self, index: int, what: str) -> None:
        """A client comes, with what it has; or goes."""
        viewer = self.viewers[index]
        if what == "cut":
            viewer.cut()
        elif what == "leave" and viewer.subscribed:
            viewer.unsubscribe()
        elif what == "come" and not (viewer.subscribed or viewer.waiting):
            viewer.subscribe()
            self._confirm()
        self._look()

    @rule(ticks=st.integers(1, 30))
    def time(self, ticks: int) -> None:
        """Time passes."""
        for _ in range(ticks):
            self.core.positions.tick()
        self.core.timer.run(ticks / 10)
        self._look()

    def teardown(self) -> None:
        """In the end all is quiet, and whoever listens has everything since what it was told last."""
        if not hasattr(self, "viewers"):
            return
        self._hear(self.on_the_way)
        for _ in range(6):
            self.history.settle()
            self._look()
            self.core.positions.sweep.all()
            self.history.settle()
            self.time(30)
            for viewer in self.viewers:
                if not (viewer.subscribed or viewer.waiting):
                    viewer.subscribe()
                    self._confirm()
        newest = self.history.stored.get(self.channel)
        for viewer in self.viewers:
            assert viewer.subscribed
            assert viewer.position is not None
            assert viewer.position[0] == self.history.epoch
            if newest:
                assert viewer.position[1] == newest[-1].offset, "what came last is missing"


class BatchModel(Model):
    """The same where publications wait for their batch."""

    channel = "batch:a"


@pytest.mark.parametrize("model", [Model, BatchModel])
def test_any_interleaving(model: type[Model]) -> None:
    """Loss, repetition, delay, trimming, other lives, joins and leaves."""
    run_state_machine_as_test(
        model,
        settings=settings(
            max_examples=80,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
