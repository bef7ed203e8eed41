"""Carries out orders that come over NATS, and gives the ones that this edge has for others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from msgspec import Raw

from tidewire.edge import orders
from tidewire.edge.admission import Grant
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

    def obey(self, data: bytes) -> None:
        """Take an order; one that cannot be understood is counted and nothing more."""
        try:
            order = orders.decode(data)
        except OrderError:
            self._metrics.order_taken("unknown", "malformed")
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

    def _carry_out(self, order: orders.Targeted) -> Iterator[None]:
        """Carry out an order, connection by connection: the user may have thousands."""
        outcomes = {"nobody"}
        for connection in self._dispatcher.users.of(order.user):
            if isinstance(order, orders.Replace):
                outcomes.add(self._replace(order, connection))
            elif order.client in {"", connection.session.party.client}:
                outcomes.add("done" if self._apply(order, connection) else "refused")
            yield
        outcome = next(each for each in OUTCOMES if each in outcomes)
        self._metrics.order_taken(orders.kind(order), outcome)

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

    def _replace(self, order: orders.Replace, connection: Connection) -> str:
        """Of a user's connections the latest stays, by (time, client id): every edge decides the same, whatever comes first.

        Where the latest is ours, we say so: the order's connection is then closed by its own edge.
        """
        party = connection.session.party
        rank, theirs = (party.since, party.client), (order.since, order.client)
        if rank < theirs:
            self._dispatcher.perform(connection, connection.session.close(REPLACED))
            return "done"
        if rank > theirs and connection.session.greeted:
            self.announce(connection)
            return "refused"
        return "nobody"


def _clean(value: Raw) -> Raw:
    """On one line; `orders.decode` has checked that it is JSON, if it is there at all."""
    clean = clean_json(bytes(value))
    return NO_DATA if clean is None else Raw(clean)
