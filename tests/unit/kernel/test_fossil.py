"""Deltas beside the official Python SDK, which applies them."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any, SupportsIndex

import pytest
from centrifuge.fossil import apply_delta
from centrifuge.fossil import checksum as checksum_of_sdk
from hypothesis import given
from hypothesis import strategies as st

from tidewire.kernel import fossil
from tidewire.kernel.fossil import checksum, create

pieces = st.lists(
    st.binary(max_size=40) | st.sampled_from([b"the same again and again", bytes(70)]), max_size=12
)
characters = st.sampled_from(["a", "é", "日本語", "😀", "{}", "the same again ", "😀😁" * 9, "ÿ" * 20])
texts = st.lists(characters | st.text(max_size=20), max_size=12).map("".join)


@given(pieces, pieces, st.permutations(range(12)))
def test_the_sdk_makes_the_target_of_the_base(
    base: list[bytes], target: list[bytes], order: list[int]
) -> None:
    """Whatever the bytes; also where pieces of the base come again in another order, with others between."""
    before = b"".join(base)
    mixed = [*base, *target]
    after = b"".join(mixed[place] for place in order if place < len(mixed))
    for one, other in ((before, after), (after, before), (before, before), (before, b""), (b"", before)):
        assert apply_delta(one, create(one, other)) == other


@given(texts, texts, st.integers(0, 300), st.integers(0, 300))
def test_delta_of_two_texts_is_a_text(base: str, patch: str, start: int, end: int) -> None:
    """No character is cut, whichever bytes two characters have in common: é and è begin, é and ũ end alike."""
    target = base[:start] + patch + base[end:]
    delta = create(base.encode(), target.encode())
    assert apply_delta(base.encode(), delta.decode().encode()) == target.encode()


@pytest.mark.parametrize(
    ("base", "target"),
    [
        ("0123456789é0123456789", "0123456789è0123456789"),
        ("0123456789é0123456789", "0123456789©0123456789"),
        ("0123456789ĩ0123456789", "0123456789é0123456789"),
        ("0123456789😀0123456789", "0123456789😁0123456789"),
        ("日" * 30 + "x" + "本" * 30, "日" * 30 + "本" * 30),
    ],
)
def test_characters_that_share_bytes_stay_whole(base: str, target: str) -> None:
    """Their first bytes, or their last."""
    delta = create(base.encode(), target.encode())
    assert apply_delta(base.encode(), delta) == target.encode()
    assert "@" in delta.decode()


@given(st.binary(max_size=400))
def test_checksum_is_the_sdks(data: bytes) -> None:
    """Also of what ends inside a number."""
    assert checksum(data) == checksum_of_sdk(data)


def test_checksum_carries_over() -> None:
    """Beyond 32 bits, and from one lane of the sum into none other."""
    for size in (4, 8, 12, 4096, 4100, 70_000):
        data = b"\xff" * size
        assert checksum(data) == checksum_of_sdk(data)


@pytest.mark.parametrize(
    ("base", "target", "delta"),
    [
        (b"", b"", b"0\n0;"),
        (b"", b"abc", b"3\n3:abc1XObC0;"),
        (b"abcdefghij", b"", b"0\n0;"),
        (b"abcdefghij" * 2, b"abcdefghijXabcdefghij", b"L\nA@0,1:XA@A,1Y~U~w;"),
        (b"abcdefghij" * 7, b"abcdefghij" * 7, b"16\n16@0,XCgk6;"),
        (b"0123456789" + b"abcdefghijklmnop" * 2, b"abcdefghijklmnop", b"G\nG@Q,2TdQMd;"),
    ],
)
def test_form(base: bytes, target: bytes, delta: bytes) -> None:
    """Size, copies, literals, checksum; numbers of several digits."""
    assert create(base, target) == delta
    assert apply_delta(base, delta) == target


def quotes(chance: random.Random, count: int) -> dict[str, Any]:
    """What a channel of prices carries."""
    items = [
        {
            "id": number,
            "symbol": f"S{chance.randrange(1000)}",
            "price": chance.randrange(10**5) / 100,
            "open": True,
        }
        for number in range(count)
    ]
    return {"items": items, "time": chance.randrange(10**12)}


@pytest.mark.parametrize(
    ("count", "changed", "most"), [(1, 1, 50), (20, 1, 70), (20, 20, 400), (800, 5, 200)]
)
def test_few_changes_make_a_small_delta(count: int, changed: int, most: int) -> None:
    """In documents of 100 bytes to 50 KiB."""
    chance = random.Random(7)
    before = quotes(chance, count)
    after = json.loads(json.dumps(before))
    for item in chance.sample(after["items"], changed):
        item["price"] = chance.randrange(10**5) / 100
    base, target = json.dumps(before).encode(), json.dumps(after).encode()
    delta = create(base, target)
    assert apply_delta(base, delta) == target
    assert len(delta) <= most


def test_what_has_moved_far_is_found() -> None:
    """Parts in another order, and a part behind one that was taken out."""
    chance = random.Random(7)
    one, two, three = (chance.randbytes(5000) for _ in range(3))
    for base, target in (
        (one + two + three, three + one + two),
        (b"<" + one + two + b">", b"(" + two + b")"),
    ):
        delta = create(base, target)
        assert apply_delta(base, delta) == target
        assert len(delta) < 200


class Watched(bytes):
    """Counts the bytes that are looked at. A slice of it is plain bytes."""

    seen = 0

    def __getitem__(self, key: SupportsIndex | slice) -> Any:
        found = super().__getitem__(key)
        type(self).seen += len(found) if isinstance(found, bytes) else 1
        return found

    def find(self, sub: Any, start: Any = None, end: Any = None) -> int:
        type(self).seen += end - start
        return super().find(sub, start, end)


def attacks(size: int) -> Iterator[tuple[bytes, bytes]]:
    """What would make a search of this kind do the most, bases and targets of about this size."""
    chance = random.Random(7)
    same = b"a" * size
    yield same, b"a" * (size // 2) + b"b" + b"a" * (size // 2)
    for run in (8, 9, 10, 200):  # hits too small to use; as many copies as there may be; long ones
        yield same, (b"a" * run + b"b") * (size // run)
        yield (b"a" * run + b"c") * (size // run), (b"a" * run + b"b") * (size // run)
        yield b"\x80" * size, (b"\x80" * run + b"\xbf") * (size // run)
    yield b"A" + b"\x80" * size + b"B", b"C" + b"\x80" * size + b"D"  # one character, if it were UTF-8
    yield b"A" + b"\x80" * size + b"B", b"C" + b"\x80" * size + b"\xbfD"
    yield chance.randbytes(size), chance.randbytes(size)
    blocks = [chance.randbytes(8) for _ in range(size // 8)]
    yield b"".join(blocks), b"".join(reversed(blocks))
    yield b"".join(blocks), b"-".join(chance.sample(blocks, len(blocks)))
    for run in (
        100,
        400,
    ):  # small copies, each of which begins the search anew, and as much as is found nowhere between them
        marks = [chance.randbytes(12) for _ in range(size // (run + 12))]
        yield (
            b"<" + b"".join(mark + b"a" * run for mark in marks) + b"<",
            b">" + b"".join(mark + (b"aaaaaac" * run)[:run] for mark in marks) + b">",
        )


@pytest.mark.parametrize("number", range(20))
def test_work_is_linear_whatever_the_texts(number: int) -> None:
    """Counted in bytes that are looked at: 16 times the size is no more than 16 times the work, and no byte costs much."""
    costs = []
    for size in (16_384, 262_144):
        base, target = list(attacks(size))[number]
        Watched.seen = 0
        delta = create(Watched(base), Watched(target))
        costs.append(Watched.seen)
        assert apply_delta(base, delta) == target
    assert costs[1] <= 20 * costs[0]
    assert costs[1] <= 20 * 262_144


def test_blocks_and_copies_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a base of any size takes in memory, and the pieces of a delta."""
    assert len(fossil._blocks(random.Random(7).randbytes(10**6))) <= fossil.MAX_BLOCKS
    before, after = ((b"some words and then %b again" % letter) * 2000 for letter in (b"a", b"b"))
    monkeypatch.setattr(fossil, "MAX_COPIES", 10)
    delta = create(before, after)
    assert delta.count(b"@") <= 12
    assert apply_delta(before, delta) == after
