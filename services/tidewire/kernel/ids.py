"""Names for the strings that travel through the edge, so that a type checker keeps them apart."""

from __future__ import annotations

from typing import NewType

ConnectionId = NewType("ConnectionId", str)
"""The client id of the protocol: a new UUID for each connection."""

UserId = NewType("UserId", str)
"""The token's `sub`; "" is an anonymous user."""

ChannelName = NewType("ChannelName", str)
"""A channel as clients name it, namespace and all (`chat:room-1`)."""
