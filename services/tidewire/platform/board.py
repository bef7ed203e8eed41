"""Numbers that forked processes share: each cell has one writer, and everybody reads it."""

from __future__ import annotations

import mmap

_CELL = 8


class Board:
    """For each child of a supervisor: how often it was started again, and whether it is ready. Create it before the forks."""

    def __init__(self, children: int) -> None:
        self._cells = memoryview(mmap.mmap(-1, 2 * children * _CELL)).cast("Q")

    def begin(self, child: int, restarts: int) -> None:
        """A start; said by the supervisor before it."""
        self._cells[2 * child] = restarts
        self._cells[2 * child + 1] = 0

    def ready(self, child: int) -> None:
        """The start is done; said by the child."""
        self._cells[2 * child + 1] = 1

    def restarts(self, child: int) -> int:
        """How often it was started again."""
        return self._cells[2 * child]

    def is_ready(self, child: int) -> bool:
        """Whether its latest start is done, for all that is known."""
        return bool(self._cells[2 * child + 1])
