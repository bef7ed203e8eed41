"""Names for strings that a type checker should keep apart from others."""

from __future__ import annotations

from typing import NewType

ConnectionId = NewType("ConnectionId", str)
"""The client id of the protocol: a new UUID for each connection."""
