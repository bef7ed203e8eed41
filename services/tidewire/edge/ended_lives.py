"""Lives of streams that live messages have shown to be over, while the history service may not have seen that yet. Pure.

Who is let go then comes back at once with its position. A page of the life that is over would recover it there, though the
stream is another one: it has missed something, and would be told that it has not.
"""

from __future__ import annotations

from typing import Final

from tidewire.kernel.wheel import Wheel

DOUBT_TICKS: Final = 50
"""How long pages of such a life are not believed. The service hears the same messages, and looks at its streams each second."""


class EndedLives:
    """Epochs, each for its time: at most one of each stream that begins another life meanwhile."""

    def __init__(self) -> None:
        self._epochs: set[str] = set()
        self._wheel: Wheel[str] = Wheel()

    def __len__(self) -> int:
        return len(self._epochs)

    def __contains__(self, epoch: str) -> bool:
        return epoch in self._epochs

    def add(self, epoch: str) -> None:
        """Believe no page of this life from now on."""
        if epoch not in self._epochs:
            self._epochs.add(epoch)
            self._wheel.add(epoch, DOUBT_TICKS)

    def tick(self) -> None:
        """Let `timers.TICK` seconds pass."""
        self._epochs.difference_update(self._wheel.advance())
