"""Fossil deltas: what turns one text into another, as the Centrifuge SDKs apply it.

The format is Fossil's (fossil-scm.org, "The Fossil Delta Format"): the target's size and a line end; then copies out of
the base, `size@offset,`, and literals, `size:bytes`; then the target's checksum and `;`. Numbers have 64 digits.

The search is for publications that differ in a few places. What is the same at both ends is found first; then what comes
about as far behind the last copy as the text that it did not have; after some misses, what is anywhere in the base. All of
it has a bound: of windows, of misses, of blocks that are known of a base, of copies; and the steps grow where nothing is
found. So the work is linear in the two sizes at worst.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

BLOCK = 8
"""Bytes that must be the same before anything is made of it."""
MIN_COPY = 9
"""From how many bytes on a copy pays: beyond its own command, and the head of the literal that it parts from another."""
SLACK = 24
NEAR = 256
"""The next copy is looked for up to twice as far from the end of the last one as in the target, at most `NEAR`, and `SLACK`:
most edits are small, and farther away other parts of a text begin alike."""
PATIENCE = 24
"""Misses in a row before the whole base is looked at."""
MAX_BLOCKS = 4096
"""Blocks that are known of the whole base, at even distances."""
MISSES_PER_STEP = 64
"""After as many more misses the step from one place to the next grows by 2."""
MAX_MISSES = 2048
"""In all, however many copies lie between them, each of which begins the steps anew: a miss takes microseconds. As many as a
text of 64 KiB takes of which nothing is in the base. What then follows is one literal up to the end that is the same."""
MAX_COPIES = 512
"""Between the two ends; what they leave is one literal. A delta of so many pieces saves little, and costs the reader, too."""

_DIGITS = tuple(
    bytes([digit]) for digit in b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~"
)


class Copy(NamedTuple):
    """`size` bytes of the target, from `at` on, are those of the base from `source` on."""

    at: int
    source: int
    size: int

    @property
    def end(self) -> int:
        """Where it ends in the target."""
        return self.at + self.size


def create(base: bytes, target: bytes) -> bytes:
    """Return the delta that makes `target` of `base`; it may be larger than the target.

    Where both are UTF-8 the delta is, too: no literal begins or ends inside a character.
    """
    parts = [_number(len(target)), b"\n"]
    written = 0
    for copy in _copies(base, target):
        _literal(parts, target[written : copy.at])
        parts += _number(copy.size), b"@", _number(copy.source), b","
        written = copy.end
    _literal(parts, target[written:])
    parts += _number(checksum(target)), b";"
    return b"".join(parts)


def checksum(data: bytes) -> int:
    """Return the sum, modulo 2**32, of the big-endian numbers of 4 bytes that the data make, filled up with zeros.

    Added up in lanes of 8 bytes, one half to the other until one is left: by a few operations on long numbers.
    """
    lanes = (len(data) + 7) // 8
    number = int.from_bytes(data.ljust(8 * lanes, b"\0"), "big")
    mask = int.from_bytes(b"\0\0\0\0\xff\xff\xff\xff" * lanes, "big")
    number = (number & mask) + (number >> 32 & mask)
    while lanes > 1:
        lanes = (lanes + 1) // 2
        number = (number >> 64 * lanes) + (number & (1 << 64 * lanes) - 1)
    return number & 0xFFFFFFFF


def _number(value: int) -> bytes:
    return _DIGITS[value] if value < 64 else _number(value >> 6) + _DIGITS[value & 63]


def _literal(parts: list[bytes], text: bytes) -> None:
    if text:
        parts += _number(len(text)), b":", text


def _copies(base: bytes, target: bytes) -> Iterator[Copy]:
    """Yield what of the target is in the base, in the target's order."""
    head = _whole(target, Copy(0, 0, _common_start(base, 0, target, 0, min(len(base), len(target)))))
    if head.size < MIN_COPY:
        head = Copy(0, 0, 0)
    size = _common_end(base, len(base), target, len(target), min(len(base), len(target) - head.end))
    tail = _whole(target, Copy(len(target) - size, len(base) - size, size))
    if tail.size < MIN_COPY:
        tail = Copy(len(target), len(base), 0)
    if head.size:
        yield head
    yield from islice(_between(base, target, head.end, tail.at), MAX_COPIES)
    if tail.size:
        yield tail


def _between(base: bytes, target: bytes, start: int, end: int) -> Iterator[Copy]:
    """Yield copies between these places of the target, of which the first is also the end of the first copy in the base."""
    known: dict[bytes, int] = {}
    at = free = near = start
    misses = total = 0
    while at + BLOCK <= end and total < MAX_MISSES:
        block = target[at : at + BLOCK]
        source = base.find(block, near, near + 2 * min(at - free, NEAR) + SLACK)
        if source < 0 and misses >= PATIENCE:
            known = known or _blocks(base)
            source = known.get(block, -1)
        copy = None if source < 0 else _grown(base, target, Copy(at, source, BLOCK), free, end)
        if copy is not None and copy.size >= MIN_COPY:
            yield copy
            at = free = copy.end
            near, misses = copy.source + copy.size, 0
        else:
            misses += 1
            total += 1
            # Odd, or it might miss the distance between the blocks for ever.
            at += 1 + misses // MISSES_PER_STEP * 2


def _blocks(base: bytes) -> dict[bytes, int]:
    """Return where the blocks of the base are, at most `MAX_BLOCKS` of them, at even distances."""
    distance = max(BLOCK, len(base) // MAX_BLOCKS + 1)
    return {base[at : at + BLOCK]: at for at in range(0, len(base), distance)}


def _grown(base: bytes, target: bytes, copy: Copy, free: int, end: int) -> Copy:
    """Return the largest copy around this one that stays between `free` and `end`."""
    at, source, _ = copy
    size = _common_start(base, source, target, at, min(len(base) - source, end - at))
    before = _common_end(base, source, target, at, min(source, at - free))
    return _whole(target, Copy(at - before, source - before, size + before))


def _whole(target: bytes, copy: Copy) -> Copy:
    """Return the part of a copy that cuts no character; of data that is not UTF-8, at most 3 bytes less at each end."""
    start, end = copy.at, copy.end
    while start < min(end, copy.at + 3) and _continues(target, start):
        start += 1
    while end > max(start, copy.end - 3) and _continues(target, end):
        end -= 1
    return Copy(start, copy.source + start - copy.at, end - start)


def _continues(text: bytes, at: int) -> bool:
    """Whether a character that began before reaches over this place."""
    return at < len(text) and text[at] & 0xC0 == 0x80


def _common_start(one: bytes, here: int, other: bytes, there: int, most: int) -> int:
    """Return how many bytes, at most `most`, are the same from these places on."""
    size, window = 0, 64
    while size < most:
        until = min(size + window, most)
        mine, theirs = one[here + size : here + until], other[there + size : there + until]
        if mine != theirs:
            return until - _bytes_of(int.from_bytes(mine, "big") ^ int.from_bytes(theirs, "big"))
        size, window = until, window * 2
    return size


def _common_end(one: bytes, here: int, other: bytes, there: int, most: int) -> int:
    """Return how many bytes, at most `most`, are the same before these places."""
    size, window = 0, 64
    while size < most:
        until = min(size + window, most)
        mine, theirs = one[here - until : here - size], other[there - until : there - size]
        if mine != theirs:
            return until - _bytes_of(int.from_bytes(mine, "little") ^ int.from_bytes(theirs, "little"))
        size, window = until, window * 2
    return size


def _bytes_of(number: int) -> int:
    return (number.bit_length() + 7) // 8
