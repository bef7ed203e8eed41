"""Where a conversation stands."""

from __future__ import annotations

import enum
from typing import Final


class SessionState(enum.Enum):
    """Where the conversation stands. JOINING: authenticated, and the connect reply waits for subscriptions."""

    CONNECTING = "connecting"
    JOINING = "joining"
    CONNECTED = "connected"
    REFUSED = "refused"
    RETIRING = "retiring"
    CLOSED = "closed"


# Python 3.11 finds a member of an Enum by a call of a Python function; a name of the module is there at once.
CONNECTED: Final = SessionState.CONNECTED
RETIRING: Final = SessionState.RETIRING
# Tuples, since a set asks for hashes, which are slow for enums.
TAKING_COMMANDS = (SessionState.CONNECTING, SessionState.CONNECTED)
AUTHENTICATED = (SessionState.JOINING, SessionState.CONNECTED)
THROTTLED = (SessionState.CONNECTING, SessionState.JOINING, SessionState.CONNECTED)
