"""Asks the presence service whether it is there."""

from __future__ import annotations

from typing import Final

from tidewire.doctor.service_question import why_not
from tidewire.edge.config import EdgeConfig

QUESTION: Final = "/tidewire.rpc.presence.v1.Presence/Stats"
"""Without channels it asks for nothing."""


async def read_presence(config: EdgeConfig) -> str | None:
    """Return why the service does not answer, "" where it does; None: edges announce nobody."""
    return await why_not(config.presence, QUESTION) if config.presence.target else None
