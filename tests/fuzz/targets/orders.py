"""Orders to edges. Input: what somebody writes on `tw.ctl`, or what a token's claim gives as a channel's capabilities."""

from __future__ import annotations

import json

from tidewire.edge import orders
from tidewire.edge.orders import LONGEST_WHY, OrderError
from tidewire.kernel.errors import MAX_REASON

LONGEST = 300


def check(data: bytes) -> None:
    """Demand an order that says the same when it is written again, or OrderError with a reason fit for a log."""
    order = _order(data)
    if isinstance(order, str):
        assert order.isprintable()
        assert len(order) <= 10 * LONGEST_WHY
        return
    said = json.loads(data)
    assert (said["v"], said["type"]) == (1, orders.kind(order))
    again = orders.encode(order)
    assert orders.decode(again) == order
    if isinstance(order, orders.Targeted):
        assert order.user == said["user"]
    if isinstance(order, orders.Disconnect | orders.Unsubscribe):
        _check_reason(order.code, order.reason)


def _order(data: bytes) -> orders.AnyOrder | str:
    try:
        return orders.decode(data)
    except OrderError as error:
        return str(error)


def _check_reason(code: int, reason: str) -> None:
    assert 2000 <= code <= 4999
    assert 0 < len(reason.encode()) <= MAX_REASON
    try:
        json.loads(reason)
    except ValueError:
        return
    raise AssertionError("an SDK reads this reason as an instruction")


SEEDS = [
    b'{"v":1,"type":"disconnect","user":"alice"}',
    b'{"v":1,"type":"disconnect","user":"alice","client":"c","code":4000,"reason":"bye","spare":["a","b"]}',
    b'{"v":1,"type":"replace","user":"alice","since":1800000000000000}',
    b'{"v":1,"type":"subscribe","user":"alice","channel":"chat:a","info":{"a":1},"data":[1,2]}',
    b'{"v":1,"type":"unsubscribe","user":"alice","channel":"chat:a","code":2500,"reason":"again"}',
    b'{"v":1,"type":"refresh","user":"alice","expire_at":9007199254740992}',
    b'{"v":1,"type":"reload"}',
    b'{"v":2,"type":"reload"}',
    *(
        b'{"v":1,"type":"disconnect","user":"alice","reason":"%b"}' % word
        for word in (b"true", b"false", b"null")
    ),
    b'{"v":1,"type":"disconnect","user":"alice","reason":"\\u20ac"}',
    b'{"v":1,"type":"disconnect","user":"alice","cleint":"c"}',
    b'{"v":1,"type":"explode\\n\\u001b[31m"}',
]
