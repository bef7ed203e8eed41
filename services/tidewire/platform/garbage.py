"""The garbage collector of a process that keeps very many objects for long.

A full collection looks at every object that was there before: thousands of connections hold the loop for long, and each time that
the number of objects has grown by a quarter there is one. They would find next to nothing: connections are freed with the
last reference to them.
"""

from __future__ import annotations

import gc

YOUNG = 10_000
"""Objects that are new when these are looked at. With Python's 700, those of a thousand publications that JetStream has not
acknowledged yet are looked at twice, for nothing: a few per cent of what a publication costs."""
MIDDLE = 2
"""Collections of the young before a middle one, which holds the loop for as long as 30,000 objects take: 1 to 3 ms."""
FULL_COLLECTION_AFTER = 250
"""Collections of the middle generation, each after 30,000 more objects: some 100,000 connections that come and stay."""


def settle() -> None:
    """Take what is there now for permanent, and make full collections rare. Call it once, before the first client."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, MIDDLE, FULL_COLLECTION_AFTER)
