"""How a stream differs from the one that is wanted, and which differences JetStream or its messages stand against. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from tidewire.storage.wanted import StreamConfig

_NANOSECONDS: Final = 1_000_000_000
_LIMITS: Final = ("max_age", "max_bytes", "max_msgs", "max_msgs_per_subject")
"""Where less would throw messages away; 0 or -1: no limit."""
_FIXED: Final = ("storage", "retention")
_ONE_WAY: Final = ("allow_msg_ttl", "deny_delete", "deny_purge")
"""What JetStream never takes back once it is on."""
_DERIVED: Final = ("subjects", "metadata", "name")
_DURATIONS: Final = ("max_age", "duplicate_window")


class Difference(msgspec.Struct, frozen=True):
    """One setting: what it is, and what it is to be."""

    setting: str
    found: Any
    wanted: Any

    def __str__(self) -> str:
        """`max_age 24h -> 1h`, as a person reads it."""
        if self.setting in {"republish", "subject_transform"}:
            return self.setting  # each partition has its own, and the door is nobody's business
        shown: Callable[[Any], str] = _seconds if self.setting in _DURATIONS else str
        return f"{self.setting} {shown(self.found)} -> {shown(self.wanted)}"

    @property
    def impossible(self) -> bool:
        """Whether JetStream refuses to change it."""
        return self.setting in _FIXED or (self.setting in _ONE_WAY and self.found is True)

    @property
    def loses(self) -> bool:
        """Whether messages that are there might go."""
        if self.setting not in _LIMITS:
            return False
        return _limit(self.wanted) < _limit(self.found)


def differences(found: StreamConfig, wanted: StreamConfig) -> Iterator[Difference]:
    """Yield each setting of `wanted` that `found` does not have; subjects and metadata apart.

    What `wanted` does not speak of (placement, compression) is the operator's.
    """
    for setting, value in wanted.items():
        if setting not in _DERIVED and _given(found, setting) != value:
            yield Difference(setting, _given(found, setting), value)


def _given(config: StreamConfig, setting: str) -> Any:  # noqa: ANN401 - as in JetStream's JSON
    """What older servers leave out is off."""
    return config.get(setting, False)


def _limit(value: int) -> float:
    return value if value > 0 else float("inf")


def _seconds(value: int) -> str:
    return f"{value / _NANOSECONDS:g}s" if value else "none"
