"""Carries out orders that come over NATS, and gives the ones that this edge has for others."""

from __future__ import annotations

from collections.abc import Callable
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
    from collections.abc import Sequence

    from tidewire.edge.connection import Connection
    from tidewire.edge.dispatcher import Dispatcher
    from tidewire.edge.ports import Broker, Metrics

REPLACED = errors.FORCE_DISCONNECT.saying("force disconnect: the user has connected anew elsewhere")
EVERYBODY = ""


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
        """Take an order; one that cannot be understood is reported and does nothing."""
        try:
            order = orders.decode(data)
        except OrderError as error:
            self._metrics.order_malformed(str(error))
            return
        self._metrics.order_taken(orders.kind(order), self._carry_out(order))

    def announce(self, connection: Connection) -> None:
        """Tell every edge that this connection of its user is the one to stay."""
        party = connection.session.party
        order = orders.Replace(v=1, user=party.user, client=party.client, since=party.since)
        if not self._broker.order(EVERYBODY, orders.encode(order)):
            self._metrics.order_lost()

    def _carry_out(self, order: orders.AnyOrder) -> str:
        match order:
            case orders.Reload():
                self._reload()
                return "done"
            case orders.Replace():
                return self._replace(order)
            case _:
                return self._steer(order)

    def _steer(self, order: orders.Targeted) -> str:
        targets = self._targets(order)
        outcomes = [self._apply(order, each) for each in targets]
        return ("done" if all(outcomes) else "refused") if targets else "nobody"

    def _targets(self, order: orders.Targeted) -> Sequence[Connection]:
        connections = self._dispatcher.users.of(order.user)
        return [each for each in connections if order.client in {"", each.session.party.client}]

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

    def _replace(self, order: orders.Replace) -> str:
        """Of a user's connections the latest stays, by (time, client id): every edge decides the same, whatever comes first.

        Where the latest is ours, it says so: the order's connection is then closed by its own edge. It speaks for all of
        ours, since an answer of each would make as many orders as their number squared.
        """
        connections, latest = self._dispatcher.users.of(order.user), (order.since, order.client)
        outcome = "nobody"
        speaker = max((each for each in connections if each.session.greeted), key=_rank, default=None)
        if speaker is not None and _rank(speaker) > latest:
            latest = _rank(speaker)
            self.announce(speaker)
            outcome = "refused"
        for connection in connections:
            if _rank(connection) < latest:
                self._dispatcher.perform(connection, connection.session.close(REPLACED))
                outcome = "done"
        return outcome


def _rank(connection: Connection) -> tuple[int, str]:
    party = connection.session.party
    return party.since, party.client


def _clean(value: Raw) -> Raw:
    """On one line; `orders.decode` has checked that it is JSON, if it is there at all."""
    clean = clean_json(bytes(value))
    return NO_DATA if clean is None else Raw(clean)
