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
RANDOM: Final = 12
"""Bytes of an id that is random: 96 bits, to be guessed within the duplicate window, online."""
_POOL: Final = 256
"""Texts that are made at once."""


def keyed_id(secret: bytes, channel: str, user: str, key: str) -> bytes:
    """Return the id that an application's idempotency key stands for: the same for the same user on the same channel only."""
    parts = [text.encode(errors="surrogatepass") for text in (channel, user, key)]
    message = b"".join(b"%d:%b" % (len(part), part) for part in parts)
    return hmac.new(secret, message, hashlib.sha256).hexdigest()[:ID_HEX].encode()


class Minter:
    """Makes texts of hexadecimal digits that nobody can guess and that never come again."""

    __slots__ = ("_minted",)

    def __init__(self) -> None:
        self._minted: list[bytes] = []

    def mint(self) -> bytes:
        """Return random digits; of 10^12 texts two are alike once in 100,000 times."""
        return self.mint_all(1)[0]

    def mint_all(self, count: int) -> list[bytes]:
        """Return so many, at least one."""
        if len(self._minted) < count:
            size = RANDOM * max(_POOL, count)
            self._minted = secrets.token_bytes(size).hex("-", RANDOM).encode().split(b"-")
        minted = self._minted[-count:]
        del self._minted[-count:]
        return minted
