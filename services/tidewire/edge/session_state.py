"""Where a conversation stands."""

from __future__ import annotations

import enum


class SessionState(enum.Enum):
    """Where the conversation stands. JOINING: authenticated, and the connect reply waits for subscriptions."""

    CONNECTING = "connecting"
    JOINING = "joining"
    CONNECTED = "connected"
    REFUSED = "refused"
    RETIRING = "retiring"
    CLOSED = "closed"


# Tuples, since a set asks for hashes, which are slow for enums.
TAKING_COMMANDS = (SessionState.CONNECTING, SessionState.CONNECTED)
AUTHENTICATED = (SessionState.JOINING, SessionState.CONNECTED)
THROTTLED = (SessionState.CONNECTING, SessionState.JOINING, SessionState.CONNECTED)
