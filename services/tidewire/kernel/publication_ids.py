"""Ids by which JetStream knows a publication again (`Nats-Msg-Id`): nobody who should not can make one that is used.

JetStream remembers the ids of a whole stream, so an id that is guessed swallows the publication of any channel in it.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Final

ID_HEX: Final = 32
"""Letters of an id that is made of a key: 128 bits."""
RANDOM_HEX: Final = 16
"""Letters of an id that are random: 64 bits, to be guessed within the duplicate window, online."""
_POOL: Final = 256
"""Texts that are made at once."""


def keyed_id(secret: bytes, channel: str, user: str, key: str) -> str:
    """Return the id that an application's idempotency key stands for: the same for the same user on the same channel only."""
    parts = [text.encode(errors="surrogatepass") for text in (channel, user, key)]
    message = b"".join(b"%d:%b" % (len(part), part) for part in parts)
    return hmac.new(secret, message, hashlib.sha256).hexdigest()[:ID_HEX]


class Minter:
    """Makes texts of letters, digits and `-` that nobody can guess and that never come again."""

    __slots__ = ("_count", "_minted")

    def __init__(self) -> None:
        self._count = 0
        self._minted: list[str] = []

    def mint(self) -> str:
        """Return 16 random letters, and behind a `-` a number that no other has."""
        if not self._minted:
            self._mint_more()
        return self._minted.pop()

    def _mint_more(self) -> None:
        pool = secrets.token_hex(_POOL * RANDOM_HEX // 2)
        count = self._count
        self._count += _POOL
        self._minted = [
            f"{pool[number * RANDOM_HEX : (number + 1) * RANDOM_HEX]}-{count + number:x}"
            for number in range(_POOL)
        ]
