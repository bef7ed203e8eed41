from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.core import Client, Core, Turns
from tests.fakes.edge import token
from tests.support.protocol import protocol
from tidewire.edge import orders
from tidewire.edge.control import Control
from tidewire.edge.pacer import SLICE
from tidewire.kernel import errors
from tidewire.kernel.errors import MAX_REASON

ALICE = token()
REPLACE = {"client": {"single_connection": "replace"}}


class Commanded:
    """An edge on fakes that takes orders."""

    def __init__(self, **config: Any) -> None:
        self.core = Core(**config)
        self.reloads = 0
        self.control = Control(self.core.dispatcher, self.core.broker, self.core.metrics, self._reload)

    def obey(self, order: orders.Order) -> str:
        """Give an order; return the outcome that is counted."""
        self.control.obey(orders.encode(order))
        kind, outcome = self.core.metrics.of("order_taken")[-1]
        assert kind == orders.kind(order)
        return str(outcome)

    def _reload(self) -> None:
        self.reloads += 1


@pytest.fixture
def edge() -> Commanded:
    """With the fakes' configuration."""
    return Commanded()


def test_orders_that_cannot_be_understood_are_told_and_nothing_more(edge: Commanded) -> None:
    """Of a later version, of another type, or no JSON; why is told to the log."""
    alice = edge.core.client()
    for data in (b"", b'{"v":2,"type":"disconnect","user":"alice"}', b'{"v":1,"type":"explode"}'):
        edge.control.obey(data)
    assert len(edge.core.metrics.of("order_malformed")) == 3
    assert edge.core.metrics.of("order_taken") == []
    assert alice.closed == 0


def test_reload_is_for_the_edge(edge: Commanded) -> None:
    """Not for a user."""
    assert edge.obey(orders.Reload(v=1)) == "done"
    assert edge.reloads == 1


# Whom an order is for.


@protocol("disconnect.3503")
def test_order_is_for_every_connection_of_its_user_and_for_nobody_else(edge: Commanded) -> None:
    """Also for one whose connect reply still waits."""
    one, two, bob = edge.core.client(), edge.core.client(), edge.core.client("bob")
    assert edge.obey(orders.Disconnect(v=1, user="alice")) == "done"
    assert (one.closed, two.closed, bob.closed) == (3503, 3503, 0)


def test_order_may_be_for_one_connection(edge: Commanded) -> None:
    """By its client id, which must be that user's."""
    one, two = edge.core.client(), edge.core.client()
    theirs = edge.core.client("bob")
    client = two.connection.session.party.client
    assert edge.obey(orders.Disconnect(v=1, user="bob", client=client)) == "nobody"
    assert edge.obey(orders.Disconnect(v=1, user="alice", client=client, code=4001, reason="bye")) == "done"
    assert (one.closed, two.closed, theirs.closed) == (0, 4001, 0)
    assert two.transport.closed == errors.Disconnect(4001, "bye")


@pytest.mark.parametrize(
    "order",
    [
        orders.Disconnect(v=1, user="carol"),
        orders.Disconnect(v=1, user="alice", client="elsewhere"),
        orders.Subscribe(v=1, user="carol", channel="chat:a"),
        orders.Unsubscribe(v=1, user="carol", channel="chat:a"),
        orders.Refresh(v=1, user="carol"),
        orders.Replace(v=1, user="carol", client="x", since=1),
    ],
)
def test_order_for_nobody_here_is_counted_as_such(edge: Commanded, order: orders.Order) -> None:
    """Most edges hear most orders in vain."""
    alice = edge.core.client()
    assert edge.obey(order) == "nobody"
    assert (alice.closed, alice.frames()) == (0, [])


def test_order_for_thousands_is_carried_out_in_slices() -> None:
    """And counted at its end; one for nobody waits for nothing."""
    turns = Turns()
    edge = Commanded(later=turns.later)
    clients = [edge.core.client() for _ in range(3)]
    assert edge.obey(orders.Disconnect(v=1, user="carol")) == "nobody"
    assert turns == []
    edge.control.obey(orders.encode(orders.Disconnect(v=1, user="alice")))
    edge.core.clock.costs = SLICE / 2
    assert [each.closed for each in clients] == [0, 0, 0]
    turns.turn()
    assert [each.closed for each in clients] == [3503, 0, 0]
    edge.core.clock.costs = 0.0
    turns.turn()
    assert [each.closed for each in clients] == [3503, 3503, 3503]
    assert edge.core.metrics.of("order_taken")[1:] == [("disconnect", "done")]


def test_anonymous_clients_take_no_orders(edge: Commanded) -> None:
    """They are nobody in particular: not even their own client id reaches them."""
    anonymous = edge.core.client("")
    client = anonymous.connection.session.party.client
    data = msgspec.json.encode({"v": 1, "type": "disconnect", "user": "", "client": client})
    edge.control.obey(data)
    assert anonymous.closed == 0
    assert len(edge.core.metrics.of("order_malformed")) == 1


# What the orders do.


def test_spared_connections_stay(edge: Commanded) -> None:
    """`Everything but this one` is a log out of all other devices."""
    clients = [edge.core.client() for _ in range(3)]
    spare = tuple(each.connection.session.party.client for each in clients[1:])
    assert edge.obey(orders.Disconnect(v=1, user="alice", spare=spare)) == "done"
    assert [each.closed for each in clients] == [3503, 0, 0]


def test_reason_of_an_order_fits_into_a_close_frame(edge: Commanded) -> None:
    """Its bytes count, not its letters."""
    alice = edge.core.client()
    edge.obey(orders.Disconnect(v=1, user="alice", reason="é" * MAX_REASON))
    assert alice.transport.closed is not None
    assert alice.transport.closed.reason == "é" * (MAX_REASON // 2)


@protocol("connect.subs")
def test_client_is_subscribed_whatever_its_rights(edge: Commanded) -> None:
    """It hears of it, with the data, before the first publication; a second order changes nothing."""
    alice = edge.core.client()
    order = orders.Subscribe(
        v=1, user="alice", channel="$closed:a", data=msgspec.Raw(b'{\n"seat":4}'), info=msgspec.Raw(b'"i"')
    )
    assert edge.obey(order) == "done"
    assert alice.frames() == []
    edge.core.broker.confirm("$closed:a")
    assert alice.heard() == [{"push": {"channel": "$closed:a", "subscribe": {"data": {"seat": 4}}}}]
    edge.core.deliver("$closed:a", "x")
    assert alice.heard()[0]["push"]["pub"] == {"data": "x"}
    assert bytes(alice.connection.session.subscriptions["$closed:a"].grant.info) == b'"i"'
    assert edge.obey(order) == "done"
    assert alice.frames() == []


@pytest.mark.parametrize("channel", ["nope:a", "chat:", "raw:a", "stocks:*", "é" * 255])
def test_channel_that_cannot_be_had_is_refused(edge: Commanded, channel: str) -> None:
    """Unknown, impossible, binary for a JSON client, or a pattern; the client never hears of it."""
    alice = edge.core.client()
    assert edge.obey(orders.Subscribe(v=1, user="alice", channel=channel)) == "refused"
    assert (alice.frames(), len(edge.core.hub)) == ([], 0)


def test_one_refusal_among_several_connections_is_a_refusal() -> None:
    """The others are subscribed all the same."""
    edge = Commanded(client={"channel_limit": 1})
    full, free = edge.core.client().subscribe("chat:b"), edge.core.client()
    assert edge.obey(orders.Subscribe(v=1, user="alice", channel="chat:a")) == "refused"
    assert "chat:a" not in full.connection.session.subscriptions
    assert "chat:a" in free.connection.session.subscriptions


@protocol("command.unsubscribe")
def test_subscription_is_ended_with_the_orders_reason(edge: Commanded) -> None:
    """Nothing is heard of it afterwards, and nothing is said where there is none."""
    alice, other = edge.core.client().subscribe("chat:a"), edge.core.client()
    assert edge.obey(orders.Unsubscribe(v=1, user="alice", channel="chat:a", code=2500, reason="r")) == "done"
    assert alice.heard() == [{"push": {"channel": "chat:a", "unsubscribe": {"code": 2500, "reason": "r"}}}]
    edge.core.deliver("chat:a", "x")
    assert (alice.frames(), other.frames()) == ([], [])


@protocol("disconnect.3005")
def test_connection_expires_when_the_order_says(edge: Commanded) -> None:
    """With the grace in which a client may bring a new token; 0 takes an expiry away."""
    now = int(edge.core.clock.wall())
    alice, bob = edge.core.client(), edge.core.client("bob", exp=now + 1)
    assert edge.obey(orders.Refresh(v=1, user="alice", expire_at=now - 60)) == "done"
    assert edge.obey(orders.Refresh(v=1, user="bob", expire_at=0)) == "done"
    assert alice.closed == 0
    edge.core.run(0.1)
    assert alice.closed == 3005
    edge.core.run(12)
    assert bob.closed == 0


# One connection of a user.


@protocol("disconnect.3503")
def test_connection_that_replaces_others_says_so_to_every_edge() -> None:
    """By user, client and time; nothing is said where it is off, and nothing for anonymous users."""
    edge = Commanded(**REPLACE)
    edge.core.client("")
    assert edge.core.broker.orders == []
    alice = edge.core.client()
    ((node, data),) = edge.core.broker.orders
    party = alice.connection.session.party
    assert node == ""
    assert orders.decode(data) == orders.Replace(
        v=1, user="alice", client=party.client, since=int(edge.core.clock.wall() * 1e6)
    )
    off = Commanded()
    off.core.client()
    assert off.core.broker.orders == []


def test_order_that_could_not_be_handed_on_is_counted() -> None:
    """Both connections stay then."""
    edge = Commanded(**REPLACE)
    edge.core.broker.refuses = errors.INTERNAL
    alice = edge.core.client()
    assert alice.closed == 0
    assert edge.core.metrics.of("order_lost") == [()]


@pytest.mark.parametrize(
    ("since", "client", "outcome", "closed"),
    [
        (-1, "z", "refused", 0),
        (0, "a", "refused", 0),
        (0, "c0", "nobody", 0),
        (0, "d", "done", 3503),
        (1, "a", "done", 3503),
    ],
)
def test_latest_connection_stays_and_ties_are_broken_by_the_client_id(
    since: int, client: str, outcome: str, closed: int
) -> None:
    """The one that stays says so again; a connection's own order is none against itself."""
    edge = Commanded(**REPLACE)
    alice = edge.core.client()
    at = alice.connection.session.party.since + since
    assert edge.obey(orders.Replace(v=1, user="alice", client=client, since=at)) == outcome
    assert alice.closed == closed
    assert len(edge.core.broker.orders) == (2 if outcome == "refused" else 1)
    if closed:
        assert alice.transport.closed is not None
        assert "anew" in alice.transport.closed.reason


@protocol("connect.single", "disconnect.3504")
@pytest.mark.parametrize(
    ("since", "client", "outcome", "closed"),
    [
        (1, "a", "refused", 0),
        (0, "d", "refused", 0),
        (0, "c0", "nobody", 0),
        (0, "a", "done", 3504),
        (-1, "z", "done", 3504),
    ],
)
def test_first_connection_stays_where_later_ones_are_refused(
    since: int, client: str, outcome: str, closed: int
) -> None:
    """Of two that came at once on two edges; the one that stays says so again, and the other's edge closes it."""
    edge = Commanded(client={"single_connection": "refuse"})
    alice = edge.core.client()
    ((_, data),) = edge.core.broker.orders
    at = alice.connection.session.party.since
    assert orders.decode(data) == orders.Yield(v=1, user="alice", client="c0", since=at)
    assert edge.obey(orders.Yield(v=1, user="alice", client=client, since=at + since)) == outcome
    assert alice.closed == closed
    assert len(edge.core.broker.orders) == (2 if outcome == "refused" else 1)


def test_connection_that_yields_is_told_to_all_and_an_order_that_is_lost_is_counted() -> None:
    """Anonymous users yield to nobody."""
    edge = Commanded(client={"single_connection": "refuse"})
    edge.core.client("")
    assert edge.core.broker.orders == []
    edge.core.broker.refuses = errors.INTERNAL
    edge.core.client()
    assert edge.core.metrics.of("order_lost") == [()]


def test_connection_that_is_not_there_yet_contradicts_nobody() -> None:
    """Its connect command may still fail; when it succeeds it says so itself. One that is on its way out does not."""
    edge = Commanded(
        client={"single_connection": "replace", "subscribe_to_user_personal_channel": {"enabled": True}}
    )
    joining = edge.core.client(None)
    joining.say({"id": 1, "connect": {"token": token()}})
    old = orders.Replace(v=1, user="alice", client="z", since=1)
    assert edge.obey(old) == "nobody"
    edge.core.broker.confirm("#alice")
    assert len(edge.core.broker.orders) == 1
    joining.say({"id": 2, "publish": {"channel": "chat:a", "data": 1}})
    edge.core.dispatcher.retire(joining.connection, errors.SHUTDOWN)
    assert edge.obey(old) == "nobody"
    assert (joining.closed, len(edge.core.broker.orders)) == (0, 1)


def test_connections_that_come_all_at_once_cost_orders_by_their_number_and_not_by_its_square() -> None:
    """One user can have very many: each says once that it has come, and is answered once. The first order closes all but one."""
    edge = Commanded(**REPLACE)
    clients = [edge.core.client() for _ in range(50)]
    orders_given = edge.core.broker.orders
    for taken, (_, data) in enumerate(orders_given):  # grows by the answers
        assert taken < 2 * len(clients)
        edge.control.obey(data)
        assert [client for client in clients if not client.closed] == [max(clients, key=rank)]


class Mesh:
    """Edges whose orders to all take their time: in order from one edge to another, in any order among these ways."""

    def __init__(self, skews: list[float]) -> None:
        self.edges = [Commanded(name=f"e{number}-", **REPLACE) for number in range(len(skews))]
        for each, skew in zip(self.edges, skews, strict=True):
            each.core.clock.advance(skew)
        self.ways: dict[tuple[int, int], deque[bytes]] = {
            (giver, taker): deque() for giver in range(len(skews)) for taker in range(len(skews))
        }
        self.clients: list[Client] = []

    def connect(self, edge: int) -> None:
        """The user comes to an edge once more."""
        client = self.edges[edge].core.client(None)
        client.say({"id": 1, "connect": {"token": ALICE}})
        self.clients.append(client)
        self._collect()

    def wait(self, seconds: float) -> None:
        """Let time pass everywhere."""
        for each in self.edges:
            each.core.clock.advance(seconds)

    def deliver(self, choose: Callable[[int], int]) -> bool:
        """Let one order arrive; False when none is under way."""
        busy = [way for way, waiting in self.ways.items() if waiting]
        if busy:
            way = busy[choose(len(busy))]
            self.edges[way[1]].control.obey(self.ways[way].popleft())
            self._collect()
        return bool(busy)

    def left(self) -> list[Client]:
        """Connections that are open."""
        return [client for client in self.clients if not client.closed]

    def _collect(self) -> None:
        for giver, edge in enumerate(self.edges):
            given, edge.core.broker.orders = edge.core.broker.orders, []
            for _node, data in given:
                for taker in range(len(self.edges)):
                    self.ways[giver, taker].append(data)


def rank(client: Client) -> tuple[int, str]:
    """What every edge compares."""
    party = client.connection.session.party
    return party.since, party.client


@protocol("disconnect.3503")
@settings(max_examples=60)
@given(
    st.lists(st.floats(0, 3), min_size=2, max_size=2),
    st.lists(st.tuples(st.integers(0, 1), st.sampled_from([0.0, 0.001, 2.0])), min_size=2, max_size=4),
    st.data(),
)
def test_whatever_arrives_first_exactly_the_latest_connection_stays(
    skews: list[float], arrivals: list[tuple[int, float]], data: st.DataObject
) -> None:
    """By the edges' own clocks, which may differ; orders cross each other and the connections."""
    mesh = Mesh(skews)
    waiting = deque(arrivals)
    for _ in range(200):
        if waiting and (not any(mesh.ways.values()) or data.draw(st.booleans(), "another connection")):
            edge, seconds = waiting.popleft()
            mesh.wait(seconds)
            mesh.connect(edge)
        elif not mesh.deliver(lambda count: data.draw(st.integers(0, count - 1), "way")):
            break
    assert not waiting, "the orders have no end"
    assert not any(mesh.ways.values())
    assert mesh.left() == [max(mesh.clients, key=rank)]
    assert all(client.closed == 3503 for client in mesh.clients if client not in mesh.left())
