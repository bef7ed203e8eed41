"""The NATS parser beside nats-py's own. Input: how to cut, then what a server sends."""

from __future__ import annotations

import re
from collections.abc import Coroutine
from typing import Any

from tests.fuzz.cuts import cut
from tests.support.compared_parsers import Event, Harness, fast_events, stock_events

LONGEST = 200
ODD_SPACE = re.compile(rb"\r(?!\n)|(?<!\r)\n|[\v\f]|HMSG[^\r\n]*\r\n\s*\d+\r\n|-ERR[ \t]*\r\n\s*'")
"""White space that no server writes into a line, and that the reference takes here and refuses there; and lines that the
reference takes together with the next one: digits, with which no header block begins, and the text of an error without one."""
GOOD_LINE = re.compile(
    rb"(?:(?:MSG[ \t]+\S+[ \t]+\d{1,9}[ \t]+(?:\S+[ \t]+)?(?P<size>\d{1,4}))"
    rb"|(?:HMSG[ \t]+\S+[ \t]+\d{1,9}[ \t]+(?:\S+[ \t]+)?(?P<head>\d{1,4})[ \t]+(?P<whole>\d{1,4}))"
    rb"|PING[ \t]*|PONG[ \t]*|\+OK[ \t]*|-ERR[ \t]+'[^\r\n]+')\r\n"
)
"""What servers write, INFO aside."""


def check(data: bytes) -> None:
    """Demand the events of the reference, and the same ones however the stream is cut."""
    stream = data[1:]
    found, refused = _run(fast_events(Harness(), [stream]))
    assert (found, refused) == _run(fast_events(Harness(), list(cut(stream, data[0] if data else 0))))
    if ODD_SPACE.search(stream):
        return
    try:
        expected, reference_refused = _run(stock_events([stream]))
    except (AttributeError, ValueError):  # an odd error text, or an INFO that cannot be read
        return
    assert refused >= reference_refused
    assert not (refused and _is_good(stream))
    assert found == (expected[: len(found)] if refused else expected)


def _is_good(stream: bytes) -> bool:
    """Whether these are lines and messages that a server may write, the last one cut off or not."""
    at = 0
    while stream.find(b"\r\n", at) >= 0:
        line = GOOD_LINE.match(stream, at)
        if line is None or int(line["head"] or 0) > int(line["whole"] or 0):
            return False
        size = line["size"] or line["whole"]
        at = line.end() + (int(size) + 2 if size else 0)
    return True


def _run(parsing: Coroutine[Any, Any, tuple[list[Event], bool]]) -> tuple[list[Event], bool]:
    """Run what never waits."""
    try:
        parsing.send(None)
    except StopIteration as done:
        events, refused = done.value
        return events, refused
    raise AssertionError("a parser waits")


_MESSAGES = [
    b"MSG a 1 3\r\nabc\r\n",
    b"MSG chat.room 123456 _INBOX.1 0\r\n\r\n",
    b"MSG a 99 3\r\n\r\n\r\r\n",
    b"HMSG a 1 12 15\r\nNATS/1.0\r\n\r\nabc\r\n",
    b"HMSG a 17 reply 22 22\r\nNATS/1.0 503\r\nA: b\r\n\r\n\r\n",
    b"HMSG a 99 12 12\r\nNATS/1.0\r\n\r\n\r\n",
    b"MSG\ta  2\tr  4\r\nMSG \r\n",
    b"MSG a 1 1\r\nx\r\nMSG a 99 r 1\r\ny\r\nPING\r\n",
    b"PONG\t\r\n",
    b"+OK  \r\n",
    b"-ERR 'Stale Connection'\r\n",
    b'INFO {"server_id":"x","max_payload":1048576,"headers":true}\r\n',
]
_MALFORMED = [
    b"MSG a 1\r\n",
    b"MSGX a 1 0\r\n\r\n",
    b"MSG a x 1\r\n",
    b"MSG a 1 2 \r\n",
    b"MSG a 1 r 2 3\r\n",
    b"HMSG a 1 20 10\r\n" + b"x" * 30,
    b"MSG a 1 99999999999999999999\r\n",
    b"MSG a 1 70000\r\n",
    # Of ids and sizes with many digits the first ones were read.
    b"MSG a 00000000000000000001 3\r\nabc\r\n",
    b"HMSG a 1 00000000000000000001 3\r\nabc\r\n",
    b"-ERR\r\n",
    b"-ERR \r\n",
    b"-ERR \r\n'the next line'\r\n",
    b"INFO nojson\r\n",
    b" MSG a 1 1\r\n",
    b"\r\n",
]
SEEDS = [
    bytes((pattern,)) + stream
    for pattern in (0, 1, 90)
    for stream in (*_MESSAGES, *_MALFORMED, b"".join(_MESSAGES)[:190])
]
