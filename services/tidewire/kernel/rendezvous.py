"""Which of several places a key belongs to: rendezvous hashing (highest random weight, Thaler and Ravishankar 1998). Pure.

Each key has an order of all places. Where one goes, only its keys move, each to the next place of its own order.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b


def ranking(key: bytes, places: Sequence[str]) -> list[int]:
    """Return the indexes of `places` in the key's order. Whoever has the same places, in whatever order, agrees."""
    weights = [blake2b(key, digest_size=8, key=_secret(place.encode())).digest() for place in places]
    return sorted(range(len(places)), key=lambda index: (weights[index], places[index]), reverse=True)


def _secret(place: bytes) -> bytes:
    """Return a place's name as blake2b takes it for a key: names in a cluster differ at their beginning, and may be longer."""
    return place if len(place) <= blake2b.MAX_KEY_SIZE else blake2b(place).digest()
