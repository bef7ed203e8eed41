"""The value types of settings: `Duration`, `Secret` and `Text`. Pure."""

from __future__ import annotations

import hmac
import math
import re
from typing import Final, Self

import msgspec

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")

DURATION_PATTERN: Final = r"^(\d+(\.\d+)?(ms|s|m|h))+$|^\d+(\.\d+)?$"
"""What a duration may look like as text (also valid as an ECMA 262 pattern, for the JSON Schema)."""

_DURATION: Final = re.compile(DURATION_PATTERN)


class Duration(float):
    """A span of time in seconds, a plain `float` for arithmetic.

    Written `25s`, `500ms`, `1m`, `2h`, `1h30m`, or as a plain number of seconds.
    """

    __slots__ = ()

    @classmethod
    def parse(cls, value: object) -> Duration:
        """The duration that `value` (text or a number of seconds) stands for; ValueError or TypeError if none."""
        if isinstance(value, str):
            return cls(_seconds(value))
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError(f"expected a duration such as 25s, 500ms or 1m, got {type(value).__name__}")
        if not math.isfinite(value) or value < 0:
            raise ValueError("a duration is zero or more")
        return cls(value)

    def __str__(self) -> str:
        """The shortest usual notation: `25s`, `500ms`, `1m`, `24h`."""
        if not self:
            return "0s"
        if self < 1:
            return f"{self * 1000:.6g}ms"
        for unit in ("h", "m"):
            if self % _UNITS[unit] == 0:
                return f"{int(self / _UNITS[unit])}{unit}"
        return f"{float(self):.10g}s"

    def __repr__(self) -> str:
        """`Duration('25s')`."""
        return f"Duration('{self}')"


def _seconds(text: str) -> float:
    if not _DURATION.fullmatch(text):
        raise ValueError(f"expected a duration such as 25s, 500ms or 1m, got {text!r}")
    parts = _PART.findall(text)
    return sum(float(number) * _UNITS[unit] for number, unit in parts) if parts else float(text)


def duration(text: str) -> Duration:
    """The default of a Struct's field, written as in the configuration file.

    A factory and not a plain default, since msgspec cannot put a default of its user's type in a JSON Schema.
    """
    default: Duration = msgspec.field(default_factory=lambda: Duration.parse(text))
    return default


class Secret:
    """A text that never shows itself: `str`, `repr` and `format` are masked, only `reveal()` gives it."""

    __slots__ = ("_text",)

    def __init__(self, text: str = "") -> None:
        """Keep `text`; the empty text means "not set" and is false."""
        self._text = text

    def reveal(self) -> str:
        """The secret itself, for the one place that needs it."""
        return self._text

    def __bool__(self) -> bool:
        """Whether a secret is set."""
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        """Equality in constant time; a Secret equals only a Secret."""
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._text.encode(), other.reveal().encode())

    def __hash__(self) -> int:
        """As for the text."""
        return hash(self._text)

    def __repr__(self) -> str:
        """`Secret('***')`, or `Secret('')` when none is set."""
        return f"Secret('{self}')"

    def __str__(self) -> str:
        """`***`, or nothing when none is set."""
        return "***" if self._text else ""


def secret() -> Secret:
    """A Struct field's default: no secret; a factory for the reason given at `duration`."""
    default: Secret = msgspec.field(default_factory=Secret)
    return default


class Text(str):
    """A value from a place that knows only text, such as the environment.

    Numbers and booleans may be read from it, which YAML's own strings are not taken for. `origin` names the place
    and is added to a problem's message.
    """

    __slots__ = ("origin",)
    origin: str

    def __new__(cls, value: str, origin: str) -> Self:
        """The text `value` that came from `origin`, for example `TIDEWIRE_HTTP_PORT`."""
        self = super().__new__(cls, value)
        self.origin = origin
        return self


def from_plain(wanted: type, value: object) -> Duration | Secret:
    """Build a `Duration` or `Secret` from plain data (msgspec's `dec_hook`).

    Raises ValueError or TypeError if it does not fit; msgspec turns both into its ValidationError.
    """
    if wanted is Duration:
        return Duration.parse(value)
    if wanted is Secret:
        if not isinstance(value, str):
            raise TypeError(f"expected text, got {type(value).__name__}; put it in quotes")
        return Secret(value)
    raise NotImplementedError(f"no configuration type {wanted!r}")
