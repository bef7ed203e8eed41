"""Commands that wait in line behind one that cannot be judged yet. Bounded in commands and in bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tidewire.edge.wire.commands import Command

MAX_BYTES = 64 * 1024
"""Of the frames that arrive while a connection waits, besides the one that began it."""


class Backlog:
    """The line of one connection, of at most `limit` commands; it exists only while something waits."""

    __slots__ = ("_commands", "_limit", "_size")

    def __init__(self, limit: int) -> None:
        self._commands: list[Command] = []
        self._limit = limit
        self._size = 0

    def add(self, commands: Sequence[Command], size: int) -> Sequence[Command]:
        """Let the commands of a frame of `size` bytes wait, in order; return those for which there is no room."""
        if self._size + size > MAX_BYTES:
            return commands
        room = self._limit - len(self._commands)
        self._commands += commands[:room]
        self._size += size
        return commands[room:]

    def take(self) -> tuple[list[Command], int]:
        """Return what waits, in order, with its size, and forget it."""
        commands, self._commands = self._commands, []
        return commands, self._size
