"""What one edge is among several of one configuration."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from tidewire.edge.config import EdgeConfig


def _all_of_it(config: EdgeConfig) -> EdgeConfig:
    return config


class Seat(msgspec.Struct, frozen=True):
    """A place among the edges that share a public port.

    `portion` returns what this edge takes of a configuration that is written for all: its part of the limits, its name. At
    `socket`, the path of a Unix socket, it answers who has the internal port.
    """

    socket: str = ""
    portion: Callable[[EdgeConfig], EdgeConfig] = _all_of_it


ALONE = Seat()
"""One edge that shares nothing: the whole configuration, and an internal port of its own."""
