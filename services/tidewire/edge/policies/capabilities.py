"""Placeholder."""
from __future__ import annotations
import enum


class Capability(enum.Enum):
    SUBSCRIBE = "sub"
    PUBLISH = "pub"
    PRESENCE = "prs"
    HISTORY = "hst"


class Capabilities:
    __slots__ = ()

    def allows(self, capability: Capability, channel: str) -> bool:
        return False

    def allows_pattern(self, pattern: str) -> bool:
        return False


NONE = Capabilities()
