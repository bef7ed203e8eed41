"""Live messages that never arrive, although the connection is as it was: what core NATS may do at any time."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

EOL = b"\r\n"
MESSAGES = (b"MSG ", b"HMSG ")


class Losses:
    """What a NATS server sends, through any number of connections; of messages on `prefix` a share is lost."""

    def __init__(self, prefix: bytes, dice: Random) -> None:
        self.share = 0.0
        self.lost = 0
        self._prefix = prefix
        self._dice = dice

    def connection(self) -> Callable[[bytes], bytes]:
        """Return what takes the bytes of one connection as they come, and returns those that arrive."""
        waiting = bytearray()

        def take(data: bytes) -> bytes:
            waiting.extend(data)
            arrived = bytearray()
            while size := _frame(waiting):
                if not self._is_lost(waiting):
                    arrived += waiting[:size]
                del waiting[:size]
            return bytes(arrived)

        return take

    def _is_lost(self, frame: bytearray) -> bool:
        if not frame.startswith(MESSAGES):
            return False
        subject = frame.split(b" ", 2)[1]
        lost = subject.startswith(self._prefix) and self._dice.random() < self.share
        self.lost += lost
        return lost


def _frame(waiting: bytearray) -> int:
    """Return the size of the frame that it begins with, 0 while that is not whole: a line, and a message's payload."""
    end = waiting.find(EOL)
    if end < 0:
        return 0
    size = end + len(EOL)
    if waiting.startswith(MESSAGES):
        size += int(waiting[:end].rpartition(b" ")[2]) + len(EOL)
    return size if size <= len(waiting) else 0
