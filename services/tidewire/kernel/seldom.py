"""What may happen at any rate and is to be told once in a while: the bound on a kind of log line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

QUIET_SECONDS: Final = 60.0


class Seldom:
    """Says yes at most once in QUIET_SECONDS for each kind. Kinds are few: constants of the caller's."""

    __slots__ = ("_last", "_monotonic")

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._last: dict[str, float] = {}

    def allows(self, kind: str) -> bool:
        """Return whether it is time to tell this kind again, and if so begin its quiet time."""
        now = self._monotonic()
        if now - self._last.get(kind, -QUIET_SECONDS) < QUIET_SECONDS:
            return False
        self._last[kind] = now
        return True
