"""When users were last connected. Pure; a process begins with nothing and says since when it knows."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

KEPT_MS: Final = 24 * 3600 * 1000


class Seen:
    """The ends of last connections, in Unix milliseconds, for 24 h and at most `most` users."""

    def __init__(self, most: int, now_ms: int) -> None:
        self.most = most
        self._since = now_ms
        self._ends: OrderedDict[str, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._ends)

    def gone(self, user: str, at_ms: int, now_ms: int) -> None:
        """One of a user's connections has ended; a time to come is now, and one in the past does not undo a later one."""
        end = max(min(at_ms, now_ms), self._ends.get(user, 0))
        self._ends[user] = end
        self._ends.move_to_end(user)
        while len(self._ends) > self.most:
            _, forgotten = self._ends.popitem(last=False)
            self._since = max(self._since, forgotten + 1)

    def last(self, user: str, now_ms: int) -> int:
        """Return when a user was last seen; 0: not within 24 h, or not known."""
        end = self._ends.get(user, 0)
        return end if end > now_ms - KEPT_MS else 0

    def since(self, now_ms: int) -> int:
        """Return since when all is known."""
        return max(self._since, now_ms - KEPT_MS)

    def expire(self, now_ms: int, most: int = 10_000) -> None:
        """Forget up to `most` that are too old."""
        for _ in range(most):
            oldest = next(iter(self._ends.items()), None)
            if oldest is None or oldest[1] > now_ms - KEPT_MS:
                return
            del self._ends[oldest[0]]
            self._since = max(self._since, oldest[1] + 1)  # the clock may go back
