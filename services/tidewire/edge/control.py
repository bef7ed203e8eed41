"""Carries out orders that come over NATS, and gives the ones that this edge has for others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from msgspec import Raw

from tidewire.edge import orders
from tidewire.edge.admission import Grant
from tidewire.edge.connect_command import CONNECTED_ALREADY
from tidewire.edge.orders import OrderError
from tidewire.edge.wire.commands import NO_DATA
from tidewire.edge.wire.json_codec import clean_json
from tidewire.kernel import errors
from tidewire.kernel.errors import ReplyError

if TYPE_CHECKING:
    from tidewire.edge.connection import Connection
    from tidewire.edge.dispatcher import Dispatcher
    from tidewire.edge.ports import Broker, Metrics

REPLACED = errors.FORCE_DISCONNECT.saying("force disconnect: the user has connected anew elsewhere")
EVERYBODY = ""
OUTCOMES = ("refused", "done", "nobody")
"""What may become of an order; the first that some connection gave is what is counted."""


class Control:
    """The edge's end of the control subjects; `reload` is what a reload order calls."""

    def __init__(
        self, dispatcher: Dispatcher, broker: Broker, metrics: Metrics, reload: Callable[[], object]
    ) -> None:
        self._dispatcher = dispatcher
        self._broker = broker
        self._metrics = metrics
        self._reload = reload
        dispatcher.replacing = self.announce
        dispatcher.yielding = self.insist

    def obey(self, data: bytes) -> None:
        """Take an order; one that cannot be understood is reported and does nothing."""
        try:
            order = orders.decode(data)
        except OrderError as error:
            self._metrics.order_malformed(str(error))
            return
        if isinstance(order, orders.Reload):
            self._reload()
            self._metrics.order_taken(orders.kind(order), "done")
        elif not self._dispatcher.users.has(order.user):
            self._metrics.order_taken(orders.kind(order), "nobody")
        else:
            self._dispatcher.pacer.add(self._carry_out(order))

    def announce(self, connection: Connection) -> None:
        """Tell every edge that this connection of its user is the one to stay."""
        party = connection.session.party
        order = orders.Replace(v=1, user=party.user, client=party.client, since=party.since)
        if not self._broker.order(EVERYBODY, orders.encode(order)):
            self._metrics.order_lost()

    def insist(self, connection: Connection) -> None:
        """Tell every edge that later connections of its user have to go."""
        party = connection.session.party
        order = orders.Yield(v=1, user=party.user, client=party.client, since=party.since)
        if not self._broker.order(EVERYBODY, orders.encode(order)):
            self._metrics.order_lost()

    def _carry_out(self, order: orders.Targeted) -> Iterator[None]:
        """Carry out an order, connection by connection: the user may have thousands."""
        match order:
            case orders.Replace():
                steps = self._replace(order)
            case orders.Yield():
                steps = self._yield(order)
            case _:
                steps = self._steer(order)
        outcomes = {"nobody"}
        for outcome in steps:
            outcomes.add(outcome)
            yield
        self._metrics.order_taken(orders.kind(order), next(each for each in OUTCOMES if each in outcomes))

    def _steer(self, order: orders.Targeted) -> Iterator[str]:
        for connection in self._dispatcher.users.of(order.user):
            if order.client in {"", connection.session.party.client}:
                yield "done" if self._apply(order, connection) else "refused"

    def _apply(self, order: orders.Targeted, connection: Connection) -> bool:
        session, perform = connection.session, self._dispatcher.perform
        match order:
            case orders.Disconnect():
                if session.party.client not in order.spare:
                    perform(connection, session.close(errors.Disconnect(order.code, "").saying(order.reason)))
            case orders.Subscribe():
                begun = session.subscribe(order.channel, Grant(_clean(order.info), data=_clean(order.data)))
                if isinstance(begun, ReplyError):
                    return False
                perform(connection, begun)
            case orders.Unsubscribe():
                why = errors.Unsubscribe(order.code, order.reason)
                perform(connection, session.unsubscribe(order.channel, why))
            case orders.Refresh():
                perform(connection, session.expire_at(order.expire_at))
        return True

    def _replace(self, order: orders.Replace) -> Iterator[str]:
        """Of a user's connections the latest stays: every edge decides the same, whatever order comes first.

        Where that is one of ours, it says so: the order's connection is then closed by its own edge. It speaks for all of
        ours, since an answer of each would make as many orders as their number squared.
        """
        connections, latest = self._dispatcher.users.of(order.user), (order.since, order.client)
        speaker = max((each for each in connections if each.session.greeted), key=_rank, default=None)
        if speaker is not None and _rank(speaker) > latest:
            latest = _rank(speaker)
            self.announce(speaker)
            yield "refused"
        for connection in connections:
            if _rank(connection) < latest:
                self._dispatcher.perform(connection, connection.session.close(REPLACED))
                yield "done"

    def _yield(self, order: orders.Yield) -> Iterator[str]:
        """Of a user's connections the first stays, in the same way: where that is one of ours, it says so."""
        connections, first = self._dispatcher.users.of(order.user), (order.since, order.client)
        speaker = min((each for each in connections if each.session.greeted), key=_rank, default=None)
        if speaker is not None and _rank(speaker) < first:
            first = _rank(speaker)
            self.insist(speaker)
            yield "refused"
        for connection in connections:
            if _rank(connection) > first and connection.session.greeted:
                self._dispatcher.perform(connection, connection.session.close(CONNECTED_ALREADY))
                yield "done"


def _rank(connection: Connection) -> tuple[int, str]:
    """What decides among the connections of a user: the later, then the greater client id."""
    party = connection.session.party
    return party.since, party.client


def _clean(value: Raw) -> Raw:
    """On one line; `orders.decode` has checked that it is JSON, if it is there at all."""
    clean = clean_json(bytes(value))
    return NO_DATA if clean is None else Raw(clean)
