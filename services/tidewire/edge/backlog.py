"""Commands that wait in line behind one that cannot be judged yet. Bounded in commands and in bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tidewire.edge.policies.filters import size_of

if TYPE_CHECKING:
    from tidewire.edge.wire.commands import Command

MAX_BYTES = 64 * 1024
"""Of the frames that arrive while a connection waits, besides the one that began it."""
NODE_COST = 128
"""Bytes that a node of a tags filter takes in memory; three are enough for it on the wire."""


class Backlog:
    """The line of one connection, of at most `limit` commands; it exists only while something waits."""

    __slots__ = ("_commands", "_limit", "_size", "_unfolded")

    def __init__(self, limit: int) -> None:
        self._commands: list[Command] = []
        self._limit = limit
        self._size = 0
        self._unfolded = 0

    def add(self, commands: Sequence[Command], size: int) -> Sequence[Command]:
        """Let the commands of a frame of `size` bytes wait, in order; return those for which there is no room.

        Filters count with what they take in memory, too.
        """
        unfolded = NODE_COST * sum(map(_nodes, commands))
        if self._size + size + self._unfolded + unfolded > MAX_BYTES:
            return commands
        room = self._limit - len(self._commands)
        self._commands += commands[:room]
        self._size += size
        self._unfolded += unfolded
        return commands[room:]

    def take(self) -> tuple[list[Command], int]:
        """Return what waits, in order, with its size, and forget it."""
        commands, self._commands = self._commands, []
        return commands, self._size


def _nodes(command: Command) -> int:
    tf = command.subscribe.tf if command.subscribe is not None else None
    return 0 if tf is None else size_of(tf, MAX_BYTES // NODE_COST)
