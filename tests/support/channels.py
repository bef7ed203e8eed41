"""Channels for tests: the vectors that docs/nats-interop.md shows, and any others that clients could think of."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import msgspec
from hypothesis import strategies as st

PAGE = Path(__file__).resolve().parents[2] / "docs" / "nats-interop.md"
MAX_BYTES = 255
PARTITIONS_OF_VECTORS = 16

_VECTOR = re.compile(r'^\| `(".*")` \| `([^`]+)` \| (\d+) \|', re.MULTILINE)
_REFUSED = re.compile(r'^\| `(".*")` \| (?!`)', re.MULTILINE)
_FOREIGN = re.compile(r"^\| `([^`\"]+)` \| no channel:", re.MULTILINE)

NASTY = (
    "$",
    ":",
    "#",
    ",",
    ".",
    "..",
    "%",
    "%25",
    "%2E",
    "*",
    ">",
    " ",
    "\r\n",
    "\0",
    "\t",
    "_",
    "-",
    "tw",
    "é",
    "😀",
)
"""Pieces that mean something to the encoding, to NATS or to the protocol."""


class Vector(msgspec.Struct, frozen=True):
    """A channel, its subject tokens, and its partition of 16."""

    channel: str
    tokens: str
    partition: int


def vectors() -> list[Vector]:
    """Return the rows of the page's table; channels stand there as JSON strings."""
    found = [Vector(json.loads(row[0]), row[1], int(row[2])) for row in _VECTOR.findall(PAGE.read_text())]
    assert len(found) >= 30, "the table of vectors is not where it was"
    return found


def refused() -> list[str]:
    """Return the names that the page calls impossible."""
    found = [json.loads(name) for name in _REFUSED.findall(PAGE.read_text())]
    assert len(found) >= 6, "the table of refused names is not where it was"
    return found


def foreign() -> list[str]:
    """Return what stands on the page as subject tokens that are no channel's."""
    found = _FOREIGN.findall(PAGE.read_text())
    assert len(found) >= 6, "the table of foreign subjects is not where it was"
    return found


_letters = st.characters(exclude_categories=["Cs"])
_pieces = st.lists(
    st.sampled_from(NASTY) | st.text(_letters, min_size=1, max_size=4), min_size=1, max_size=12
)
_names = st.text(_letters, min_size=1, max_size=255) | _pieces.map("".join)
_namespaces = st.from_regex(r"[-a-zA-Z0-9][-a-zA-Z0-9_]{1,9}", fullmatch=True)

texts = st.text(st.characters(), max_size=40) | _pieces.map("".join)
"""Anything, lone surrogates included."""


def channels() -> st.SearchStrategy[str]:
    """Return channels that may exist: 1 to 255 bytes of UTF-8, in a namespace or in none, private or not."""
    namespaced = st.builds("{}{}:{}".format, st.sampled_from(["", "$"]), _namespaces, _names)
    plain = st.builds("{}{}".format, st.sampled_from(["", "$"]), _names.filter(lambda name: ":" not in name))
    return (namespaced | plain.filter(lambda name: name != "$")).filter(
        lambda c: len(c.encode()) <= MAX_BYTES
    )


def random_channels(count: int, seed: int) -> list[str]:
    """Return different channels of all kinds, always the same for a seed; for tests that cannot draw one by one."""
    dice = random.Random(seed)
    found: dict[str, None] = {}
    while len(found) < count:
        length = dice.choice((1, 2, 5, 20))
        name = "".join(
            dice.choice(NASTY)
            if dice.random() < 0.4
            else chr(dice.choice((dice.randrange(128), dice.randrange(0xD800))))
            for _ in range(length)
        )
        prefix = dice.choice(("", "$"))
        namespace = dice.choice(("chat:", "live:", "a-b_c9:", ""))
        channel = prefix + namespace + (name if namespace else name.replace(":", "") or "x")
        if len(channel.encode()) <= MAX_BYTES and channel != "$":
            found[channel] = None
    return list(found)
