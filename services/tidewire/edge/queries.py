"""What is asked of history about a channel with a timeline: where it stands, what follows, what a client missed. Pure."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

from tidewire.edge.places import MAX_REPLY
from tidewire.edge.ports import Query
from tidewire.edge.wire.commands import StreamPosition

if TYPE_CHECKING:
    from tidewire.edge.timeline import Timeline

FILL_LIMIT: Final = 1000
FILL_BYTES: Final = 1024 * 1024


class Want(enum.Enum):
    """What is read of a channel, where it is not what a client missed."""

    LATEST = "latest"
    """The position, with the publication that stands there: when it was stored tells a repetition from another life of the stream."""
    FILL = "fill"


Key = Want | StreamPosition


def query(channel: str, timeline: Timeline, key: Key, limit: int) -> Query:
    """Return the query for `key`; `limit` is that of a recovery."""
    at_least = timeline.at_least if timeline.known else 0
    match key:
        case Want.LATEST:
            return Query(channel=channel, limit=1, max_bytes=MAX_REPLY, reverse=True, at_least=at_least)
        case Want.FILL:
            limit, max_bytes, since = FILL_LIMIT, FILL_BYTES, timeline.here
        case StreamPosition():
            max_bytes, since = MAX_REPLY, key
    return Query(
        channel=channel, since=since, limit=limit, max_bytes=max_bytes, recover=True, at_least=at_least
    )
