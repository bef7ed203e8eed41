"""Work for very many connections in slices, so that the clients of all others need not wait until it is done."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tidewire.kernel.clock import Clock

SLICE = 0.005
"""Seconds of paced work in one go."""
PAUSE = 0.005
"""Seconds between two slices, for all others: a close, for one, is answered, and the answer costs as much again."""
MAX_WAITING = 10_000
"""Pieces of work that wait; for each further one the oldest is done to its end, however long that takes."""

Later = Callable[[float, Callable[[], None]], object]
_DONE: Final = object()


class Pacer:
    """Does pieces of work in the order in which they came. `later` calls back from the loop after so many seconds.

    A piece is an iterator: each step does what one connection needs.
    """

    __slots__ = ("_clock", "_later", "_pieces", "_turning")

    def __init__(self, clock: Clock, later: Later) -> None:
        self._clock = clock
        self._later = later
        self._pieces: deque[Iterator[object]] = deque()
        self._turning = False

    def __len__(self) -> int:
        return len(self._pieces)

    def add(self, piece: Iterator[object]) -> None:
        """Have a piece of work done, from the loop's next turn on."""
        if len(self._pieces) >= MAX_WAITING:
            deque(self._pieces.popleft(), maxlen=0)
        self._pieces.append(piece)
        if not self._turning:
            self._turning = True
            self._later(0.0, self._turn)

    def _turn(self) -> None:
        end = self._clock.monotonic() + SLICE
        try:
            while self._pieces and self._clock.monotonic() < end:
                if next(self._pieces[0], _DONE) is _DONE:
                    self._pieces.popleft()
        finally:  # a step that raises is the loop's to report, and costs no other piece anything
            self._turning = bool(self._pieces)
            if self._turning:
                self._later(PAUSE, self._turn)
