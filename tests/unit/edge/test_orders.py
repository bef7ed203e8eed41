from __future__ import annotations

import json

import pytest

from tests.support.protocol import protocol
from tidewire.edge import orders
from tidewire.edge.orders import LONGEST_WHY, MAX_ORDER, OrderError

USER = {"v": 1, "user": "alice"}


@pytest.mark.parametrize(
    "order",
    [
        orders.Disconnect(v=1, user="alice", code=4501, reason="banned", spare=("c1",)),
        orders.Replace(v=1, user="alice", client="c1", since=1),
        orders.Subscribe(v=1, user="alice", channel="chat:a"),
        orders.Unsubscribe(v=1, user="alice", channel="chat:a", code=2500),
        orders.Refresh(v=1, user="alice", expire_at=1),
        orders.Reload(v=1),
    ],
    ids=orders.kind,
)
def test_an_order_is_read_as_it_was_written(order: orders.AnyOrder) -> None:
    """Every kind."""
    assert orders.decode(orders.encode(order)) == order


@protocol("order.malformed")
@pytest.mark.parametrize(
    ("order", "why"),
    [
        ({**USER, "type": "disconnect", "clinet": "c1"}, "unknown field `clinet`"),
        ({**USER, "type": "discnnect"}, "Invalid value 'discnnect' - at `$.type`"),
        ({"v": 1, "type": "disconnect", "user": 42}, "Expected `str`, got `int` - at `$.user`"),
        ({"type": "disconnect", "user": "alice"}, "missing required field `v`"),
        ({**USER, "v": 2, "type": "disconnect"}, "Invalid enum value 2 - at `$.v`"),
        ({**USER, "type": "disconnect", "code": 200}, "Expected `int` >= 3000 - at `$.code`"),
        ({**USER, "type": "subscribe", "channel": "x" * MAX_ORDER}, "too large"),
        ([], "Expected `object`, got `array`"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_understood_is_said(order: object, why: str) -> None:
    """A misspelt `client` must not make an order about every connection of the user."""
    with pytest.raises(OrderError) as error:
        orders.decode(json.dumps(order).encode())
    assert why in str(error.value)


def test_the_reason_is_short_and_printable() -> None:
    """It holds a key of the order, which may be anything."""
    for key in ("x" * 1000, "a\nb\u2028"):
        with pytest.raises(OrderError) as error:
            orders.decode(json.dumps({**USER, "type": "disconnect", key: 1}).encode())
        assert str(error.value).isprintable()
        assert len(str(error.value)) <= LONGEST_WHY + 3
