from __future__ import annotations

import pytest

from tidewire.kernel.fnv import fnv1a32


@pytest.mark.parametrize(
    ("data", "value"),
    [(b"", 0x811C9DC5), (b"a", 0xE40C292C), (b"foobar", 0xBF9CF968), (b"\xff\x00\x00\x01", 0xC48FB86D)],
)
def test_hash_is_fnv1a(data: bytes, value: int) -> None:
    """The published vectors; that nats-server's is the same shows tests/integration/test_mapping.py."""
    assert fnv1a32(data) == value
