"""The floor of the hub: what channels with history have beyond others, where positions, members and the broker meet."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Iterable
from typing import TYPE_CHECKING

from tidewire.edge.channel import StoredChannel
from tidewire.edge.places import Place
from tidewire.edge.recovery import UNSETTLED
from tidewire.kernel.channels import split_channel
from tidewire.kernel.errors import ReplyError

if TYPE_CHECKING:
    from tidewire.edge.channel import Channel
    from tidewire.edge.connection import Connection
    from tidewire.edge.ports import Metrics, Page, Publication, Query
    from tidewire.edge.recovery import Recovery

    Settled = Callable[[Connection, str, int, "int | Place | ReplyError"], None]
    Lost = Callable[[str, "list[Connection]"], None]


class Floor(ABC):
    """A base of the hub rather than a part of it: both look after the same channels. Implements `recovery.Floor`.

    `settled` hears how each join ended; `lost` who is no member any more, since it cannot be proven that they miss nothing.
    """

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics
        self.channels: dict[str, Channel] = {}
        self.settled: Settled = _nobody
        self.lost: Lost = _nobody
        self.recovery: Recovery | None = None
        self.is_stored: Callable[[str], bool] = _never

    @abstractmethod
    def collect(self, channel: Channel, publication: Publication) -> None:
        """Note a publication for the fan-out at the end of this turn."""

    @abstractmethod
    def flush(self) -> None:
        """Write what was collected."""

    @abstractmethod
    def rest(self, channel: Channel) -> None:
        """Let a channel that nobody wants any more linger, or go."""

    @abstractmethod
    def forget(self, channel: Channel) -> None:
        """Hear a channel no more."""

    def keep_positions(self, recovery: Recovery, is_stored: Callable[[str], bool]) -> None:
        """From now on there are channels with history: those whose name `is_stored`."""
        self.recovery = recovery
        self.is_stored = is_stored

    def read(self, query: Query, done: Callable[[Page | ReplyError], None]) -> ReplyError | None:
        """Read a channel's history. An error returned means: `done` is never called."""
        if self.recovery is None:
            raise AssertionError("a channel with history, and no history service")
        return self.recovery.reads.ask(query, done)

    def find_place(self, channel: Channel, place: Place) -> Place | ReplyError | None:
        """Return the place where its connection may enter now; None: `settled` tells later."""
        if self.recovery is None or not isinstance(channel, StoredChannel):
            raise AssertionError("a position in a channel without history")
        found = self.recovery.join(channel, place)
        if isinstance(found, ReplyError):
            self._drop(channel, place)
            return found
        return place if found else None

    def left(self, place: Place) -> None:
        """A place is needed no more: its connection has entered, or gone."""
        place.leave()
        if place.told:
            self.metrics.recovery(place.told)

    def _drop(self, channel: Channel, place: Place) -> None:
        del channel.waiting[place.connection]
        place.leave()
        if place.wish.since is not None:
            self.metrics.recovery("refused")
        self.rest(channel)

    def track(self, channel: Channel, publication: Publication) -> None:
        """Take a publication of a channel with history."""
        if self.recovery is not None and isinstance(channel, StoredChannel) and channel.timeline is not None:
            self.recovery.follow(channel, publication)
        else:
            self.collect(channel, publication)

    # recovery.Floor

    def pass_on(self, channel: StoredChannel, publications: Iterable[Publication]) -> None:
        """See recovery.Floor."""
        for publication in publications:
            self.collect(channel, publication)

    def admit(self, channel: StoredChannel, place: Place, error: ReplyError | None) -> None:
        """See recovery.Floor."""
        if channel.waiting.get(place.connection) is not place:
            return
        if error is not None:
            self._drop(channel, place)
        self.settled(place.connection, channel.name, place.attempt, place if error is None else error)

    def cast_out(self, channel: StoredChannel) -> None:
        """See recovery.Floor."""
        lost: list[Connection] = []
        for audience, group in list(channel.members.items()):
            if audience.positioned:
                lost += group
                for connection in list(group):
                    channel.remove(audience, connection)
        for place in list(channel.waiting.values()):
            if isinstance(place, Place) and place.settled:
                self.admit(channel, place, UNSETTLED)
        self.rest(channel)
        if lost:
            self.lost(channel.name, lost)

    def retire(self, namespaces: Container[str | None]) -> list[tuple[Connection, str]]:
        """Hear the channels of namespaces no more, which are stored from now on, or no longer; return who was a member."""
        lost: list[tuple[Connection, str]] = []
        for name, channel in list(self.channels.items()):
            if split_channel(name).namespace not in namespaces:
                continue
            waiting = dict(channel.waiting)
            for audience, group in list(channel.members.items()):
                for connection in list(group):
                    channel.remove(audience, connection)
                    lost.append((connection, name))
            self.forget(channel)
            for connection, each in waiting.items():
                self.settled(connection, name, each.attempt if isinstance(each, Place) else each, UNSETTLED)
        return lost


def _never(_name: str) -> bool:
    return False


def _nobody(*_: object) -> None:
    """Stand in until the dispatcher listens."""
