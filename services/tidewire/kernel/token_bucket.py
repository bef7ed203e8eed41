"""A token bucket: so many a second, and a second's worth at once. Pure."""

from __future__ import annotations


class TokenBucket:
    """Holds `rate` tokens when full and gets `rate` a second."""

    __slots__ = ("_filled_at", "_rate", "_tokens")

    def __init__(self, rate: float, now: float) -> None:
        """Begin full. `now` is monotonic seconds, here and below."""
        self._rate = rate
        self._tokens = rate
        self._filled_at = now

    def take(self, now: float) -> bool:
        """Take a token; False where there is none."""
        self._tokens = min(self._rate, self._tokens + (now - self._filled_at) * self._rate)
        self._filled_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
