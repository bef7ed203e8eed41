from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from tests.support.protocol import protocol
from tidewire.edge import orders
from tidewire.edge.orders import LONGEST_WHY, MAX_ORDER, AnyOrder, OrderError
from tidewire.edge.policies.claims import LONGEST_USER
from tidewire.kernel import errors

ALICE: dict[str, Any] = {"v": 1, "user": "alice"}


def order(kind: str, **fields: Any) -> AnyOrder:
    """The order that these fields make about alice."""
    return orders.decode(json.dumps({**ALICE, "type": kind, **fields}).encode())


EVERY = [
    orders.Disconnect(v=1, user="alice"),
    orders.Disconnect(v=1, user="alice", client="c1", code=4000, reason="bye", spare=("c2", "c3")),
    orders.Disconnect(v=1, user="\u20ac" * LONGEST_USER),
    orders.Replace(v=1, user="alice", client="c1", since=1_800_000_000_000_000),
    orders.Yield(v=1, user="alice", client="c1", since=1_800_000_000_000_000),
    orders.Subscribe(v=1, user="alice", channel="chat:a"),
    orders.Subscribe(v=1, user="alice", channel="chat:a", info=Raw(b'{"a":1}'), data=Raw(b"[1]")),
    orders.Unsubscribe(v=1, user="alice", channel="chat:a"),
    orders.Unsubscribe(v=1, user="alice", channel="chat:a", code=2500, reason="again"),
    orders.Refresh(v=1, user="alice"),
    orders.Refresh(v=1, user="alice", expire_at=2**53),
    orders.Reload(v=1),
]


@pytest.mark.parametrize("given_order", EVERY, ids=lambda each: orders.encode(each).decode())
def test_order_comes_back_as_it_was_given(given_order: AnyOrder) -> None:
    """Through its bytes, which are JSON."""
    text = orders.encode(given_order)
    assert orders.decode(text) == given_order
    assert json.loads(text)["v"] == 1
    assert json.loads(text)["type"] == orders.kind(given_order)


def test_what_an_order_leaves_out_has_its_default() -> None:
    """Disconnects and unsubscribes are final unless they say otherwise."""
    closing = order("disconnect")
    assert isinstance(closing, orders.Disconnect)
    assert (closing.client, closing.code, closing.reason, closing.spare) == ("", 3503, "force disconnect", ())
    ending = order("unsubscribe", channel="a")
    assert isinstance(ending, orders.Unsubscribe)
    assert (ending.code, ending.reason) == (2000, errors.UNSUBSCRIBED_BY_SERVER.reason)
    assert order("refresh") == orders.Refresh(v=1, user="alice", expire_at=0)


@pytest.mark.parametrize(
    "fields",
    [
        {"type": "disconnect", "v": 2},
        {"type": "disconnect", "v": "1"},
        {"type": "disconnect", "v": None},
        {"type": "Disconnect"},
        {"type": "explode"},
        {"type": ""},
        {"type": None},
        {"type": "disconnect", "user": ""},
        {"type": "disconnect", "user": 42},
        {"type": "disconnect", "user": "x" * 1025},
        {"type": "disconnect", "client": None},
        {"type": "disconnect", "code": 2999},
        {"type": "disconnect", "code": 5000},
        {"type": "disconnect", "code": "3503"},
        {"type": "disconnect", "reason": ""},
        {"type": "disconnect", "reason": "5"},
        {"type": "disconnect", "reason": "true"},
        {"type": "disconnect", "reason": "{}"},
        {"type": "disconnect", "reason": "x" * 124},
        {"type": "disconnect", "spare": "c1"},
        {"type": "replace"},
        {"type": "replace", "since": 1.5},
        {"type": "replace", "since": -1},
        {"type": "replace", "since": 2**53 + 1},
        {"type": "subscribe"},
        {"type": "subscribe", "channel": ""},
        {"type": "subscribe", "channel": "x" * 256},
        {"type": "unsubscribe"},
        {"type": "unsubscribe", "channel": "a", "code": 1999},
        {"type": "unsubscribe", "channel": "a", "code": 3000},
        {"type": "unsubscribe", "channel": "a", "reason": ""},
        {"type": "refresh", "expire_at": -1},
        {"type": "refresh", "expire_at": 2**53 + 1},
        {"type": "refresh", "expire_at": 1.5},
    ],
    ids=json.dumps,
)
def test_orders_out_of_bounds_are_none(fields: dict[str, Any]) -> None:
    """Of another version, of an unknown type, or with a value that cannot be meant."""
    with pytest.raises(OrderError):
        orders.decode(json.dumps({**ALICE, **fields}).encode())


@pytest.mark.parametrize("missing", ["v", "type", "user"])
def test_each_order_needs_version_type_and_user(missing: str) -> None:
    """None of them is guessed."""
    fields = {**ALICE, "type": "disconnect"}
    del fields[missing]
    with pytest.raises(OrderError):
        orders.decode(json.dumps(fields).encode())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"disconnect",
        b"null",
        b"[]",
        b'{"v":1,"type":"reload"} {"v":1,"type":"reload"}',
        b'{"v":1,"type":"reload","x":"\xff"}',
        b'{"v":1,"type":"disconnect","user":"\\ud800"}',
        b'{"v":1,"type":"subscribe","user":"a","channel":"b","data":' + b"[" * 200 + b"]" * 200 + b"}",
        b'{"v":1,"type":"subscribe","user":"a","channel":"b","data":"\xff"}',
    ],
)
def test_what_is_not_one_order_in_json_is_none(data: bytes) -> None:
    """Cut, doubled, no UTF-8, or too deep for the parsers behind."""
    with pytest.raises(OrderError):
        orders.decode(data)


def test_orders_have_a_size() -> None:
    """The last byte counts."""
    head, tail = b'{"v":1,"type":"reload"', b"}"
    room = MAX_ORDER - len(head) - len(tail)
    assert orders.decode(head + b" " * room + tail) == orders.Reload(v=1)
    with pytest.raises(OrderError, match="too large"):
        orders.decode(head + b" " * (room + 1) + tail)


@given(
    st.binary(max_size=200)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    ).map(lambda value: json.dumps({**ALICE, "type": "subscribe", "channel": "a", "data": value}).encode())
)
def test_any_bytes_are_an_order_or_none(data: bytes) -> None:
    """Whatever comes, nothing else is raised."""
    try:
        found = orders.decode(data)
    except OrderError:
        return
    assert isinstance(found, msgspec.Struct)


@protocol("order.malformed")
@pytest.mark.parametrize(
    ("order", "why"),
    [
        ({**ALICE, "type": "disconnect", "clinet": "c1"}, "unknown field `clinet`"),
        ({**ALICE, "type": "discnnect"}, "Invalid value 'discnnect' - at `$.type`"),
        ({"v": 1, "type": "disconnect", "user": 42}, "Expected `str`, got `int` - at `$.user`"),
        ({"type": "disconnect", "user": "alice"}, "missing required field `v`"),
        ({**ALICE, "v": 2, "type": "disconnect"}, "Invalid enum value 2 - at `$.v`"),
        ({**ALICE, "type": "disconnect", "code": 200}, "Expected `int` >= 3000 - at `$.code`"),
        ({**ALICE, "type": "subscribe", "channel": "x" * MAX_ORDER}, "too large"),
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
            orders.decode(json.dumps({**ALICE, "type": "disconnect", key: 1}).encode())
        assert str(error.value).isprintable()
        assert len(str(error.value)) <= LONGEST_WHY + 3
