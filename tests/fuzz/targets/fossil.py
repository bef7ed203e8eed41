"""Deltas beside the official SDK, which applies them. Input: the base's length in two bytes, the base, then the target."""

from __future__ import annotations

from centrifuge.fossil import apply_delta

from tidewire.kernel.fossil import create

LONGEST = 600


def check(data: bytes) -> None:
    """Demand the target, from the delta of the base and from that of what the two together are, and text of texts."""
    size = int.from_bytes(data[:2], "big")
    base, target = data[2 : 2 + size], data[2 + size :]
    for one, other in ((base, target), (target + base, target + target)):
        delta = create(one, other)
        assert apply_delta(one, delta) == other
        if _is_text(one) and _is_text(other):
            assert _is_text(delta)


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _seed(base: bytes | str, target: bytes | str) -> bytes:
    one, other = (each.encode() if isinstance(each, str) else each for each in (base, target))
    return len(one).to_bytes(2, "big") + one + other


_QUOTE = (
    '{"items":[{"symbol":"AAPL","price":187.25,"open":true},{"symbol":"MSFT","price":402.1,"open":true}]}'
)
SEEDS = [
    _seed("", ""),
    _seed("", "abc"),
    _seed("abcdefghij", ""),
    _seed(_QUOTE, _QUOTE),
    _seed(_QUOTE, _QUOTE.replace("187.25", "187.3")),
    _seed(_QUOTE, _QUOTE.replace("true", "false").replace("402.1", "1402.15")),
    _seed(_QUOTE, _QUOTE[50:] + _QUOTE[:50]),
    _seed("0123456789é0123456789", "0123456789è0123456789"),
    _seed("0123456789é0123456789", "0123456789©0123456789"),
    _seed("日本語" * 9 + "x" + "😀😁" * 9, "😀😁" * 9 + "日本語" * 9),
    _seed(b"\x80" * 40, b"\x80" * 15 + b"\xbf" + b"\x80" * 20),
    _seed(bytes(range(256)), bytes(reversed(range(256)))),
    _seed(b"ab" * 60, b"ab" * 20 + b"c" + b"ba" * 25),
]
