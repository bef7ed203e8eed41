"""What the doctor says: one finding for each check. Pure."""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

import msgspec

DAY: Final = 86_400.0
RENEWAL: Final = 14 * DAY
"""Seconds before its end in which a certificate should have been renewed."""
NOT_TOLD: Final = "this system does not tell"


class Level(enum.Enum):
    """How a check ended. SKIP: it could not be made, and the finding says why."""

    OK = "ok"
    SKIP = "skip"
    WARN = "warn"
    FAIL = "fail"


class Finding(msgspec.Struct, frozen=True):
    """What one check found, why that matters, and what to do: commands and settings, ready to be copied."""

    check: str
    level: Level
    found: str
    why: str = ""
    do: tuple[str, ...] = ()


_GRAVITY: Final = tuple(Level)
_UNITS: Final = ("bytes", "KiB", "MiB", "GiB")


def worst(findings: Iterable[Finding]) -> Level:
    """Return the gravest level; OK where there are no findings."""
    return max((finding.level for finding in findings), key=_GRAVITY.index, default=Level.OK)


def ok(check: str, found: str) -> Finding:
    """Return the finding that all is well."""
    return Finding(check, Level.OK, found)


def skip(check: str, why: str) -> Finding:
    """Return the finding that a check could not be made."""
    return Finding(check, Level.SKIP, why)


def warn(check: str, found: str, why: str, *do: str) -> Finding:
    """Return the finding that an edge works, but not in every weather."""
    return Finding(check, Level.WARN, found, why, do)


def fail(check: str, found: str, why: str, *do: str) -> Finding:
    """Return the finding that an edge would not start, not carry its connections, or not be safe."""
    return Finding(check, Level.FAIL, found, why, do)


def size(count: float) -> str:
    """Return a number of bytes in the unit that suits it."""
    unit = next((unit for unit in _UNITS if count < 1024 ** (_UNITS.index(unit) + 1)), _UNITS[-1])
    scaled = count / 1024 ** _UNITS.index(unit)
    return f"{scaled:.3g} {unit}" if scaled < 100 else f"{scaled:.0f} {unit}"


def rounded(number: float) -> int:
    """Return the next multiple of 65,536, for tables of the kernel."""
    return math.ceil(number / 65_536) * 65_536


def certificate(check: str, where: str, end: float, now: float) -> Finding:
    """Return the finding on a certificate that ends at `end`, both in Unix time."""
    day = datetime.fromtimestamp(end, UTC).date().isoformat()
    if end <= now:
        return fail(check, f"{where}: expired on {day}", "connections with it are refused", "renew it")
    found = f"{where}: until {day}"
    if end - now < RENEWAL:
        return warn(
            check,
            found,
            f"{(end - now) / DAY:.0f} days are left",
            "renew it now, and find out why nobody did",
        )
    return ok(check, found)
