"""The garbage collector of a process that keeps very many objects for long.

A full collection looks at every object that was there before: thousands of connections hold the loop for long, and each time that
the number of objects has grown by a quarter there is one. They would find next to nothing: connections are freed with the
last reference to them.
"""

from __future__ import annotations

import gc

FULL_COLLECTION_AFTER = 1000
"""Collections of the middle generation, each after 7,000 more objects: some 100,000 connections that come and stay."""


def settle() -> None:
    """Take what is there now for permanent, and make full collections rare. Call it once, before the first client."""
    gc.collect()
    gc.freeze()
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, FULL_COLLECTION_AFTER)
