"""The verdicts on a token other than its claims."""

from __future__ import annotations

import enum

import msgspec

SHOWN = 40
"""Characters of a piece of a token that the log may hold: anyone can send any."""
LONGEST_WHY = 200
"""Characters of a reason, which may hold a piece of the token."""


class TokenProblem(enum.Enum):
    """Why a token is refused."""

    EXPIRED = "expired"
    INVALID = "invalid"
    UNAVAILABLE = "unavailable"
    """The issuer's keys cannot be had at the moment: the same token may be good later."""


class KeyWanted(msgspec.Struct, frozen=True):
    """The token names a key that may be the issuer's: fetch `source` (ports.KeyFetcher), then judge the token again.

    The second verdict is final: claims or a TokenProblem.
    """

    source: str


class Refused(Exception):
    """The token is no good; `why` is for the log."""

    def __init__(self, why: str, problem: TokenProblem = TokenProblem.INVALID) -> None:
        why = why if len(why) <= LONGEST_WHY else f"{why[:LONGEST_WHY]}..."
        self.why = why if why.isprintable() else repr(why)
        super().__init__(self.why)
        self.problem = problem


def shown(text: str) -> str:
    """Return a kid, or another piece of a token, fit for a log."""
    return repr(text) if len(text) <= SHOWN else f"{text[:SHOWN]!r}..."
