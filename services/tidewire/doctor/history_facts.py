"""Asks the history service whether it is there."""

from __future__ import annotations

from typing import Final

from tidewire.doctor.service_question import why_not
from tidewire.edge.config import EdgeConfig
from tidewire.options.stored import stored

QUESTION: Final = "/tidewire.rpc.history.v1.History/Position"
"""Without channels it asks for nothing."""


async def read_history(config: EdgeConfig) -> str | None:
    """Return why the service does not answer, "" where it does; None: no namespace needs it."""
    return await why_not(config.history, QUESTION) if stored(config) else None
