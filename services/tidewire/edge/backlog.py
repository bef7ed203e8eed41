"""Commands that wait in line behind one that cannot be judged yet. Bounded in commands and in bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tidewire.edge.wire.commands import Command

MAX_BYTES = 64 * 1024
"""Of the frames that arrive while a connection waits, besides the one that began it."""


class Backlog:
    """The line of one connection; it exists only while something waits."""

    __slots__ = ("_commands", "_limit", "_size")

    def __init__(self, limit: int) -> None:
        self._commands: list[Command] = []
        self._limit = limit
        self._size = 0

    def add(self, command: Command, size: int) -> bool:
        """Let a command wait; False, and it does not, beyond the bounds. `size` is that of the frame it came in."""
        if len(self._commands) > self._limit or self._size + size > MAX_BYTES:
            return False
        self._commands.append(command)
        self._size += size
        return True

    def take(self) -> tuple[list[Command], int]:
        """Return what waits, in order, with its size, and forget it."""
        commands, self._commands = self._commands, []
        return commands, self._size
