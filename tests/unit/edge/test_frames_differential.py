from __future__ import annotations

import random
import zlib
from itertools import pairwise

from hypothesis import event, given, settings
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from tests.support.compared_frames import compare
from tests.support.protocol import protocol

LIMIT = 1000

texts = st.one_of(st.text(max_size=12).map(str.encode), st.binary(max_size=12), st.just("€".encode()[:2]))
payloads = st.one_of(texts, st.sampled_from([b"x" * 125, b"x" * 126, b"\xff" * 127, bytes(LIMIT + 1)]))
closes = st.builds(lambda code, reason: code.to_bytes(2, "big") + reason, st.integers(990, 5010), texts)
first_bytes = st.one_of(
    st.builds(lambda opcode, fin: fin | opcode, st.sampled_from(list(Opcode)), st.sampled_from([0, 0x80])),
    st.integers(0, 255),
)


def frame(first: int, payload: bytes, mask: bytes) -> bytes:
    """A masked frame, whatever its first byte says."""
    whole = Frame(Opcode.BINARY, payload).serialize(mask=False)
    head = bytes((first, whole[1] | 0x80)) + whole[2 : len(whole) - len(payload)]
    return head + mask + bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))


masks = st.sampled_from([b"\x00\x00\x00\x00", b"\x37\xfa\x21\x3d"])
controls = st.one_of(
    st.builds(frame, st.sampled_from([0x89, 0x8A]), st.binary(max_size=5), masks),
    st.builds(frame, st.just(0x88), st.one_of(closes, st.binary(max_size=3)), masks),
)
parts = st.builds(frame, first_bytes, payloads, masks)


def deflated(data: bytes, level: int, strategy: int, flush: int) -> bytes:
    """A compressed payload, also one that ends in a final block or in the middle (RFC 7692, section 7.2.3)."""
    deflate = zlib.compressobj(level, zlib.DEFLATED, -15, strategy=strategy)
    whole = deflate.compress(data) + deflate.flush(flush)
    return whole.removesuffix(b"\x00\x00\xff\xff")


compressed = st.builds(
    deflated,
    st.one_of(texts, st.sampled_from([b"x" * LIMIT, b"x" * (LIMIT + 1), bytes(100_000)])),
    st.sampled_from([0, 1, 9]),
    st.sampled_from([zlib.Z_DEFAULT_STRATEGY, zlib.Z_FIXED]),
    st.sampled_from([zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH, zlib.Z_FINISH]),
)


@st.composite
def messages(draw: st.DrawFn, *, deflate: bool) -> bytes:
    """A message in good order, in fragments, with control frames between them; compressed or not."""
    rsv = 0x40 if deflate and draw(st.booleans()) else 0
    whole = draw(compressed if rsv else payloads)
    cuts = sorted(draw(st.lists(st.integers(0, len(whole)), max_size=3)))
    bounds = [0, *cuts, len(whole)]
    opcode, data = draw(st.sampled_from([0x1, 0x2])) | rsv, b""
    for index, (begin, end) in enumerate(pairwise(bounds)):
        fin = 0x80 if index == len(cuts) else 0
        data += frame(fin | (opcode if index == 0 else 0), whole[begin:end], draw(masks))
        if not fin and draw(st.booleans()):
            data += draw(controls)
    return data


def streams(*, deflate: bool) -> st.SearchStrategy[bytes]:
    """Frames in good and in bad order, now and then with a byte changed, cut off anywhere."""

    def damaged(frames: list[bytes], chance: random.Random, changes: int) -> bytes:
        data = bytearray(b"".join(frames))
        for _ in range(changes if data else 0):
            data[chance.randrange(len(data))] = chance.randrange(256)
        return bytes(data[: chance.randint(0, len(data))] if changes > 1 else data)

    steps = st.one_of(messages(deflate=deflate), messages(deflate=deflate), parts, controls)
    return st.builds(
        damaged,
        st.lists(steps, min_size=1, max_size=5),
        st.randoms(use_true_random=False),
        st.sampled_from([0, 0, 0, 1, 2, 3]),
    )


def chunks(data: bytes, chance: random.Random) -> list[bytes]:
    """The same bytes as TCP may cut them."""
    found = []
    longest = chance.choice([1, 7, 200, len(data) + 1])
    while data:
        size = chance.randint(1, longest)
        found.append(data[:size])
        data = data[size:]
    return found


@protocol("transport.websocket", "message.utf8", "message.size")
@settings(max_examples=400)
@given(streams(deflate=False), st.randoms(use_true_random=False))
def test_verdicts_are_those_of_websockets(data: bytes, chance: random.Random) -> None:
    """Messages, pongs, and the code of the close, on frames in good and in bad order, chunked anyhow."""
    event(f"closed with {min(3000, compare(chunks(data, chance), LIMIT, deflate=False))}")


@protocol("transport.deflate")
@settings(max_examples=400)
@given(streams(deflate=True), st.randoms(use_true_random=False))
def test_verdicts_with_compression_are_those_of_websockets(data: bytes, chance: random.Random) -> None:
    """The same with permessage-deflate."""
    event(f"closed with {min(3000, compare(chunks(data, chance), LIMIT, deflate=True))}")


@given(st.lists(st.binary(max_size=40), max_size=6), st.randoms(use_true_random=False))
def test_random_bytes(pieces: list[bytes], chance: random.Random) -> None:
    """Few get further than the first frame."""
    compare(chunks(b"".join(pieces), chance), LIMIT, deflate=chance.random() < 0.5)
