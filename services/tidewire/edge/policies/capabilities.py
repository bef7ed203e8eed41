"""What a token lets its bearer do on channels, beside what the namespace lets everyone do (claims `caps` and `allow`).

The claim is Centrifugo PRO's: entries are tried in order, the first that covers the channel decides alone. A private
channel (`$`) and a user-limited one (`#`) are covered by an entry that names them only, since whoever wrote
`chat:*` did not think of them.
"""

from __future__ import annotations

import enum
from functools import lru_cache
from typing import Any

import msgspec
import re2

from tidewire.kernel.channels import is_restricted

ANY = "*"
REST = ">"
"""In a pattern: everything that follows."""
MAX_ENTRIES = 64
MAX_CHANNELS = 256
MAX_REGEXES = 16
MAX_LENGTH = 8192
"""Characters of all channels of all entries together."""
REGEX_MEMORY = 2**15
"""Bytes that one compiled expression may use, its cache of states included."""
CACHED_REGEXES = 512
"""Compiled expressions that are kept: 16 MiB at most."""


class Capability(enum.Enum):
    """What may be done on a channel."""

    SUBSCRIBE = "sub"
    PUBLISH = "pub"
    PRESENCE = "prs"
    HISTORY = "hst"


class Match(enum.Enum):
    """How the channels of an entry are meant: as names, with `*` for any text, or as expressions of RE2."""

    EXACT = ""
    WILDCARD = "wildcard"
    REGEX = "regex"


class Entry(msgspec.Struct, frozen=True):
    """One object of the claim `caps`."""

    channels: frozenset[str]
    allow: frozenset[Capability]
    match: Match = Match.EXACT

    def covers(self, channel: str) -> bool:
        """Return whether this entry speaks of the channel."""
        match self.match:
            case Match.EXACT:
                return channel in self.channels
            case _ if is_restricted(channel):
                return False
            case Match.WILDCARD:
                return any(_fits(wildcard, channel) for wildcard in self.channels)
            case Match.REGEX:
                return any(compiled(regex).fullmatch(channel) for regex in self.channels)

    def covers_pattern(self, pattern: str) -> bool:
        """Return whether this entry speaks of every channel that the pattern of a wildcard subscription stands for.

        A `*` of the pattern can only be met by a `*` of the entry, which takes whatever the pattern's may stand for.
        Whether an expression covers another is not asked.
        """
        return self.match is not Match.REGEX and self.covers(pattern)

    def may_touch(self, pattern: str) -> bool:
        """Return whether this entry may speak of a channel that the pattern stands for; in doubt it does."""
        wide = pattern.replace(REST, ANY)
        return self.match is not Match.EXACT or any(_fits(wide, channel) for channel in self.channels)


class Capabilities(msgspec.Struct, frozen=True):
    """The entries of one token."""

    entries: tuple[Entry, ...] = ()

    @classmethod
    def on(cls, channel: str, allow: frozenset[Capability]) -> Capabilities:
        """Return those of a subscription token: on its own channel only."""
        return cls((Entry(frozenset([channel]), allow),)) if allow else NONE

    def allows(self, capability: Capability, channel: str) -> bool:
        """Return whether the first entry that covers the channel has this capability."""
        return next((capability in entry.allow for entry in self.entries if entry.covers(channel)), False)

    def allows_pattern(self, pattern: str) -> bool:
        """Return whether a wildcard subscription such as `stocks:nasdaq.*` is allowed.

        As for `allows`, the first entry decides: one without `sub` that may touch the pattern forbids it.
        """
        for entry in self.entries:
            if Capability.SUBSCRIBE not in entry.allow and entry.may_touch(pattern):
                return False
            if entry.covers_pattern(pattern):
                return True
        return False


NONE = Capabilities()


def flaw(entries: tuple[Entry, ...]) -> str | None:
    """Return why the claim `caps` cannot be used; None: it can."""
    channels = [channel for entry in entries for channel in entry.channels]
    regexes = [regex for entry in entries if entry.match is Match.REGEX for regex in entry.channels]
    for what, number, most in (
        ("entries", len(entries), MAX_ENTRIES),
        ("channels", len(channels), MAX_CHANNELS),
        ("regular expressions", len(regexes), MAX_REGEXES),
        ("characters", sum(map(len, channels)), MAX_LENGTH),
    ):
        if number > most:
            return f"caps: over {most} {what}"
    return next((why for regex in regexes if (why := _regex_flaw(regex))), None)


def _regex_flaw(regex: str) -> str | None:
    try:
        compiled(regex)
    except re2.error as error:
        reason = error.args[0]
        return f"caps: no regular expression: {reason.decode() if isinstance(reason, bytes) else reason}"
    return None


@lru_cache(CACHED_REGEXES)
def compiled(regex: str) -> Any:  # noqa: ANN401 - google-re2 ships no type information
    """Return the expression, made once. Raises re2.error for what is none."""
    options = re2.Options()
    options.max_mem = REGEX_MEMORY
    options.log_errors = False
    return re2.compile(regex, options)


def _fits(wildcard: str, text: str) -> bool:
    """Return whether the text is the wildcard with any text, also none, for each `*`. Takes the leftmost fit of each part."""
    first, *others = wildcard.split(ANY)
    if not others:
        return text == wildcard
    *middle, last = others
    if len(first) + len(last) > len(text) or not (text.startswith(first) and text.endswith(last)):
        return False
    start, end = len(first), len(text) - len(last)
    for part in middle:
        found = text.find(part, start, end)
        if found < 0:
            return False
        start = found + len(part)
    return True
