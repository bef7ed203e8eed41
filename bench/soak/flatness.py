"""Whether a series of samples is flat: by its slope, which single outliers cannot turn."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from itertools import combinations
from typing import Self

import msgspec

LEAST_SAMPLES = 5


class Growth(msgspec.Struct, frozen=True):
    """How much something has grown over the judged time by its slope, and how much it may."""

    what: str
    grown: float
    bound: float
    unit: str

    @classmethod
    def of(
        cls, what: str, points: Sequence[tuple[float, float]], warmup: float, bound: float, unit: str
    ) -> Self:
        """Judge points (time, value) from the time `warmup` on: the median slope of all pairs (Theil and Sen) times the time.

        Raises:
            ValueError: There are fewer than LEAST_SAMPLES of them.
        """
        judged = [point for point in points if point[0] >= warmup]
        if len(judged) < LEAST_SAMPLES:
            raise ValueError(f"{len(judged)} samples after the warm-up say nothing: run for longer")
        slopes = [
            (after[1] - before[1]) / (after[0] - before[0]) for before, after in combinations(judged, 2)
        ]
        return cls(what, statistics.median(slopes) * (judged[-1][0] - judged[0][0]), bound, unit)

    @property
    def flat(self) -> bool:
        """Whether it has not grown by more than it may."""
        return self.grown <= self.bound

    def __str__(self) -> str:
        verdict = "flat" if self.flat else "GROWS"
        return f"{self.what}: {self.grown:+.2f} {self.unit} (at most {self.bound:g}): {verdict}"
