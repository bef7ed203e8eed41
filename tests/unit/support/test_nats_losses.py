from __future__ import annotations

from random import Random

import pytest

from tests.support.nats_losses import Losses

BYTES = (
    b'INFO {"a":1}\r\nPING\r\nMSG tw.out.0.chat.a 1 5\r\nMSG x\r\n'
    b"HMSG tw.out.0.chat.b 2 12 14\r\nNATS/1.0\r\n\r\nab\r\nMSG _INBOX.1 3 reply 0\r\n\r\n+OK\r\n"
)
REST = b'INFO {"a":1}\r\nPING\r\nMSG _INBOX.1 3 reply 0\r\n\r\n+OK\r\n'


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize(("share", "arrives", "lost"), [(0.0, BYTES, 0), (1.0, REST, 2)])
def test_whole_messages_are_lost(size: int, share: float, arrives: bytes, lost: int) -> None:
    """However the bytes come, and of the wanted subjects only."""
    losses = Losses(b"tw.out.", Random(1))
    losses.share = share
    take = losses.connection()
    pieces = [BYTES[start : start + size] for start in range(0, len(BYTES), size)]
    assert b"".join(map(take, pieces)) == arrives
    assert losses.lost == lost
