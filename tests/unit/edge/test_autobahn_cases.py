"""The Autobahn Testsuite's cases as tables, by their numbers: what a peer sends, and what it must get.

They run without the suite, which needs Python 2.7 (docs/conformance.md). The suite sends many of them whole, by frame and by
byte under different numbers; here each is sent in these three ways.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator

import pytest

from tests.support.compared_frames import said
from tests.support.protocol import protocol
from tidewire.edge.deflate import deflate
from tidewire.edge.frames import FrameReader

LIMIT = 1 << 20
MASK = b"\x37\xfa\x21\x3d"
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
PROTOCOL_ERROR, NOT_UTF8, NO_CODE = 1002, 1007, 1005
HELLO = b"Hello, world!"


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0) -> bytes:
    """A frame of a client; `rsv` holds the three bits as a number, as the suite writes them."""
    size = len(payload)
    if size < 126:
        length = bytes((0x80 | size,))
    else:
        length = b"\xfe" + size.to_bytes(2, "big") if size < 65_536 else b"\xff" + size.to_bytes(8, "big")
    mask = int.from_bytes((MASK * (size // 4 + 1))[:size], "big")
    masked = (int.from_bytes(payload, "big") ^ mask).to_bytes(size, "big")
    return bytes((0x80 * fin | rsv << 4 | opcode,)) + length + MASK + masked


def fragments(opcode: int, *parts: bytes) -> list[bytes]:
    """The frames of one message."""
    last = len(parts) - 1
    return [frame(opcode if at == 0 else CONTINUATION, part, fin=at == last) for at, part in enumerate(parts)]


def close(code: int, reason: bytes = b"") -> bytes:
    """A close frame."""
    return frame(CLOSE, code.to_bytes(2, "big") + reason)


def pongs(*payloads: bytes) -> bytes:
    """What answers pings."""
    return b"".join(bytes((0x8A, len(payload))) + payload for payload in payloads)


def by(size: int, data: bytes) -> Iterator[bytes]:
    """Pieces of that many bytes."""
    return (data[at : at + size] for at in range(0, len(data), size))


class Case:
    """What is sent, and the messages, pongs and close code (0: none) that come of it."""

    def __init__(self, sent: Iterable[bytes], *messages: bytes, pongs: bytes = b"", code: int = 0) -> None:
        self.sent = list(sent)
        self.messages = list(messages)
        self.pongs = pongs
        self.code = code


SIZES = (0, 125, 126, 127, 128, 65_535, 65_536)
FIVE = [b"fragment%d" % number for number in range(1, 6)]
KOSME = bytes.fromhex("cebae1bdb9cf83cebcceb5")
"""Five Greek letters, of which one has three bytes."""
TEN_PINGS = [b"payload-%d" % number for number in range(10)]

FRAMING = {
    "1.1 text": Case([frame(TEXT, b"*" * size) for size in SIZES], *(b"*" * size for size in SIZES)),
    "1.2 binary": Case(
        [frame(BINARY, b"\xfe" * size) for size in SIZES], *(b"\xfe" * size for size in SIZES)
    ),
}
PINGS = {
    "2.1": Case([frame(PING)], pongs=pongs(b"")),
    "2.2": Case([frame(PING, HELLO)], pongs=pongs(HELLO)),
    "2.3": Case([frame(PING, b"\x00\xff\xfe\xfd")], pongs=pongs(b"\x00\xff\xfe\xfd")),
    "2.4, 2.6": Case([frame(PING, b"\xfe" * 125)], pongs=pongs(b"\xfe" * 125)),
    "2.5": Case([frame(PING, b"\xfe" * 126)], code=PROTOCOL_ERROR),
    "2.7": Case([frame(PONG)]),
    "2.8": Case([frame(PONG, b"unasked")]),
    "2.9": Case([frame(PONG, b"unasked"), frame(PING, HELLO)], pongs=pongs(HELLO)),
    "2.10, 2.11": Case([frame(PING, each) for each in TEN_PINGS], pongs=pongs(*TEN_PINGS)),
}
RESERVED = {
    **{
        f"3.{rsv} {kind}": Case(
            [frame(TEXT, HELLO), frame(kind, b"", rsv=rsv), frame(PING)], HELLO, code=1002
        )
        for rsv in range(1, 8)
        for kind in (TEXT, BINARY, PING, CLOSE)
    },
    **{
        f"4.{section}.{opcode - first + 1}": Case(
            [frame(TEXT, HELLO), frame(opcode, HELLO), frame(PING)], HELLO, code=PROTOCOL_ERROR
        )
        for section, first in ((1, 3), (2, 11))
        for opcode in range(first, first + 5)
    },
}
FRAGMENTATION = {
    "5.1": Case(fragments(PING, b"fragment1", b"fragment2"), code=PROTOCOL_ERROR),
    "5.2": Case(fragments(PONG, b"fragment1", b"fragment2"), code=PROTOCOL_ERROR),
    "5.3-5.5": Case(fragments(TEXT, *FIVE[:2]), b"fragment1fragment2"),
    "5.6-5.8": Case(
        [frame(TEXT, b"a", fin=False), frame(PING, b"ping"), frame(CONTINUATION, b"b")],
        b"ab",
        pongs=pongs(b"ping"),
    ),
    "5.9-5.11": Case([frame(CONTINUATION, b"nothing"), frame(TEXT, HELLO)], code=PROTOCOL_ERROR),
    "5.12-5.14": Case([frame(CONTINUATION, b"nothing", fin=False), frame(TEXT, HELLO)], code=PROTOCOL_ERROR),
    "5.15": Case(
        [*fragments(TEXT, *FIVE[:2]), frame(CONTINUATION, FIVE[2], fin=False), frame(TEXT, FIVE[3])],
        b"fragment1fragment2",
        code=PROTOCOL_ERROR,
    ),
    "5.16": Case([frame(CONTINUATION, FIVE[0], fin=False), *fragments(TEXT, *FIVE[1:3])] * 2, code=1002),
    "5.17": Case([frame(CONTINUATION, FIVE[0]), *fragments(TEXT, *FIVE[1:3])] * 2, code=PROTOCOL_ERROR),
    "5.18": Case([frame(TEXT, FIVE[0], fin=False), frame(TEXT, FIVE[1])], code=PROTOCOL_ERROR),
    "5.19, 5.20": Case(
        [
            *fragments(TEXT, *FIVE)[:2],
            frame(PING, b"pongme 1!"),
            *fragments(TEXT, *FIVE)[2:4],
            frame(PING, b"pongme 2!"),
            fragments(TEXT, *FIVE)[4],
        ],
        b"".join(FIVE),
        pongs=pongs(b"pongme 1!", b"pongme 2!"),
    ),
}


def letters(*ranges: tuple[int, int]) -> list[bytes]:
    """Each byte of the ranges, a space behind it."""
    return [b"".join(bytes((byte, 0x20)) for byte in range(*each)) for each in ranges]


def noncharacters() -> Iterator[bytes]:
    """U+FFFE, U+FFFF, and the last two of each plane."""
    for plane in range(17):
        yield chr(plane << 16 | 0xFFFE).encode()
        yield chr(plane << 16 | 0xFFFF).encode()


INCOMPLETE = [
    *(b"\xc0", b"\xe0\x80", b"\xf0\x80\x80", b"\xf8\x80\x80\x80", b"\xfc\x80\x80\x80\x80"),
    *(b"\xdf", b"\xef\xbf", b"\xf7\xbf\xbf", b"\xfb\xbf\xbf\xbf", b"\xfd\xbf\xbf\xbf\xbf"),
]
SURROGATES = [b"\xed\xa0\x80", b"\xed\xad\xbf", b"\xed\xae\x80", b"\xed\xaf\xbf"]
LOW_SURROGATES = [b"\xed\xb0\x80", b"\xed\xbe\x80", b"\xed\xbf\xbf"]
UTF8 = {
    "6.5": ["hello$world", "hello¢world", "hello€world", "hello\U00024b62world", KOSME],
    "6.6 whole": [KOSME[:end] for end in (2, 5, 7, 9, 11)],
    "6.7": ["\0", "\x80", "\u0800", "\U00010000"],
    "6.9": ["\x7f", "\u07ff", "\uffff", "\U0010ffff"],
    "6.11": ["\ud7ff", "\ue000", "\ufffd", "\U0010ffff"],
    "6.22": list(noncharacters()),
    "6.23": [chr(letter) for letter in range(0xFFF9, 0x10000)],
}
NO_UTF8 = {
    "6.3": [KOSME + b"\xed\xa0\x80" + b"edited"],
    "6.6 cut": [KOSME[:end] for end in (1, 3, 4, 6, 8, 10)],
    "6.8": [b"\xf8\x88\x80\x80\x80", b"\xfc\x84\x80\x80\x80\x80"],
    "6.10": [b"\xf7\xbf\xbf\xbf", b"\xfb\xbf\xbf\xbf\xbf", b"\xfd\xbf\xbf\xbf\xbf\xbf"],
    "6.11": [b"\xf4\x90\x80\x80"],
    "6.12": [b"\x80", b"\xbf", *((b"\x80\xbf" * 3)[:size] for size in range(2, 7)), bytes(range(0x80, 0xBF))],
    "6.13": letters((0xC0, 0xDF), (0xE0, 0xEF), (0xF0, 0xF7), (0xF8, 0xFB), (0xFC, 0xFD)),
    "6.14": INCOMPLETE,
    "6.15": [b"".join(INCOMPLETE)],
    "6.16": [b"\xfe", b"\xff", b"\xfe\xfe\xff\xff"],
    "6.17": [b"\xc0\xaf", *(bytes((lead,)) + b"\x80" * more + b"\xaf" for lead, more in
                            ((0xE0, 1), (0xF0, 2), (0xF8, 3), (0xFC, 4)))],
    "6.18": [b"\xc1\xbf", b"\xe0\x9f\xbf", b"\xf0\x8f\xbf\xbf", b"\xf8\x87\xbf\xbf\xbf", b"\xfc\x83\xbf\xbf\xbf\xbf"],
    "6.19": [bytes((lead,)) + b"\x80" * more for lead, more in
             ((0xC0, 1), (0xE0, 2), (0xF0, 3), (0xF8, 4), (0xFC, 5))],
    "6.20": [*SURROGATES, *LOW_SURROGATES],
    "6.21": [high + low for high in SURROGATES for low in LOW_SURROGATES],
}  # fmt: skip
OUT_OF_RANGE = b"\xf4\x90\x80\x80"
TEXTS = {
    "6.1.1, 6.1.2": Case([frame(TEXT), *fragments(TEXT, b"", b"", b"")], b"", b""),
    "6.1.3": Case(fragments(TEXT, b"", b"middle frame payload", b""), b"middle frame payload"),
    "6.2": Case(
        [frame(TEXT, KOSME), *fragments(TEXT, KOSME[:5], KOSME[5:]), *fragments(TEXT, *(bytes((b,)) for b in KOSME))],
        *[KOSME] * 3,
    ),
    "6.4.1": Case(fragments(TEXT, KOSME, OUT_OF_RANGE, b"edited")[:2], code=NOT_UTF8),
    "6.4.2": Case(fragments(TEXT, KOSME + OUT_OF_RANGE[:1], OUT_OF_RANGE[1:2], b"\x80\x80edited")[:2], code=NOT_UTF8),
    **{
        f"{name}.{number}": Case([frame(TEXT, text if isinstance(text, bytes) else text.encode())],
                                 text if isinstance(text, bytes) else text.encode())
        for name, texts in UTF8.items()
        for number, text in enumerate(texts)
    },
    **{
        f"{name}.{number} no UTF-8, {form}": Case(sent, code=NOT_UTF8)
        for name, texts in NO_UTF8.items()
        for number, text in enumerate(texts)
        for form, sent in (("whole", [frame(TEXT, text)]), ("cut", fragments(TEXT, text[:1], text[1:])))
    },
}  # fmt: skip
CLOSES = {
    "7.1.1": Case([frame(TEXT, HELLO), close(1000)], HELLO, code=1000),
    "7.1.2": Case([close(1000), frame(CLOSE)], code=1000),
    "7.1.3": Case([close(1000), frame(PING)], code=1000),
    "7.1.4": Case([close(1000), frame(TEXT, HELLO)], code=1000),
    "7.1.5": Case([frame(TEXT, FIVE[0], fin=False), close(1000), frame(CONTINUATION, FIVE[1])], code=1000),
    "7.1.6": Case(
        [frame(TEXT, b"BAsd7&jh23" * 26_214), frame(TEXT, HELLO), close(1000), frame(PING)],
        b"BAsd7&jh23" * 26_214,
        HELLO,
        code=1000,
    ),
    "7.3.1": Case([frame(CLOSE)], code=NO_CODE),
    "7.3.2": Case([frame(CLOSE, b"a")], code=PROTOCOL_ERROR),
    "7.3.3": Case([close(1000)], code=1000),
    "7.3.4": Case([close(1000, HELLO)], code=1000),
    "7.3.5": Case([close(1000, b"*" * 123)], code=1000),
    "7.3.6": Case([close(1000, b"*" * 124)], code=PROTOCOL_ERROR),
    "7.5.1": Case([close(1000, KOSME + b"\xed\xa0\x80edited")], code=NOT_UTF8),
    **{
        f"7.7 {code}": Case([close(code)], code=code)
        for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999)
    },
    **{
        f"7.9, 7.13 {code}": Case([close(code)], code=PROTOCOL_ERROR)
        for code in (0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999, 5000, 65_535)
    },
}
MEBI = b"BAsd7&jh23 " * 95_325
LARGE = {
    "9.1, 9.2": Case([frame(TEXT, MEBI), frame(BINARY, MEBI)], MEBI, MEBI),
    **{
        f"9.3, 9.4, 10.1 by {size}": Case(
            [each for opcode in (TEXT, BINARY) for each in fragments(opcode, *by(size, MEBI))], MEBI, MEBI
        )
        for size in (64, 256, 1300, 4096, 65_536)
    },
}
CASES = {**FRAMING, **PINGS, **RESERVED, **FRAGMENTATION, **TEXTS, **CLOSES}


def outcome(chunks: Iterable[bytes], *, deflate: bool = False) -> tuple[list[bytes], bytes, int]:
    """Messages, pongs and close code that come of these reads."""
    reader = FrameReader(LIMIT, deflate=deflate)
    messages: list[bytes] = []
    owed = b""
    for chunk in chunks:
        messages += reader.feed(chunk)
        owed += reader.outgoing()
    return messages, *said(owed)


@protocol("transport.websocket", "message.utf8", "transport.ws_ping")
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_case_in_one_read_by_frame_and_by_byte(case: Case) -> None:
    """What a peer gets does not depend on how its bytes come."""
    expected = (case.messages, case.pongs, case.code)
    whole = b"".join(case.sent)
    assert outcome([whole]) == expected
    assert outcome(case.sent) == expected
    assert outcome(by(1 if len(whole) < 10_000 else 997, whole)) == expected


@protocol("message.size")
@pytest.mark.parametrize("case", LARGE.values(), ids=LARGE)
@pytest.mark.parametrize("chop", [64, 2048, 65_536])
def test_large_messages_in_reads_of_any_size(case: Case, chop: int) -> None:
    """Sections 9.5 and 9.6, for messages of 9.1 to 9.4 and 10.1."""
    assert outcome(by(chop, b"".join(case.sent))) == (case.messages, b"", 0)


@protocol("transport.deflate")
@pytest.mark.parametrize("size", [16, 64, 256, 1024, 4096, 8192, 16_384, 32_768, 65_536, 131_072])
@pytest.mark.parametrize("window", [9, 15])
@pytest.mark.parametrize("pieces", [1, 4], ids=["whole", "fragments"])
def test_compressed_messages_of_the_sizes_of_12_and_13(size: int, window: int, pieces: int) -> None:
    """Text and binary, repetitive and not; 13.* varies the parameters that `test_extensions.py` negotiates."""
    for payload in (b"BAsd7&jh23" * (size // 10 + 1), zlib.compress(MEBI)[: size // 4], bytes(size)):
        packed = deflate(payload, window)
        step = len(packed) // pieces + 1
        first, *rest = [packed[at : at + step] for at in range(0, len(packed), step)]
        sent = [frame(BINARY, first, fin=not rest, rsv=4)]
        sent += [frame(CONTINUATION, part, fin=part is rest[-1]) for part in rest]
        assert outcome(by(1021, b"".join(sent)), deflate=True) == ([payload], b"", 0)
