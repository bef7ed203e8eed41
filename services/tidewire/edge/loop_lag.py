"""How late the event loop is, one hiccup left aside. Pure."""

from __future__ import annotations

from collections import deque
from statistics import median
from typing import Final

SAMPLES: Final = 9
"""Ticks that are looked at: about a second of a loop that is on time. Less than half of them change nothing."""


class LoopLag:
    """The median of the last ticks' lateness. A loop that stood still once is not overloaded; one that is late again and again is."""

    __slots__ = ("_recent", "seconds")

    def __init__(self) -> None:
        self._recent: deque[float] = deque([0.0] * SAMPLES, SAMPLES)
        self.seconds = 0.0

    def note(self, seconds: float) -> None:
        """A tick was late by this."""
        self._recent.append(seconds)
        self.seconds = median(self._recent)
