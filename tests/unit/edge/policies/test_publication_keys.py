from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidewire.edge.policies.publication_keys import MAX_KEY_BYTES, key_problem


@pytest.mark.parametrize(
    "key", [b"k", b"host 1", "größe".encode(), b"a:b\\\"'%", b"x" * MAX_KEY_BYTES, "😀".encode() * 64]
)
def test_keys(key: bytes) -> None:
    """Text, that no part of the way changes."""
    assert key_problem(key) is None


@pytest.mark.parametrize(
    ("key", "why"),
    [
        (b"", "a key has 1 to 256 bytes"),
        (b"x" * (MAX_KEY_BYTES + 1), "a key has 1 to 256 bytes"),
        (b"a\r\nTw-V: 2", "a key has no control characters, and no space at its ends"),
        (b"a\n", "a key has no control characters, and no space at its ends"),
        (b"\x00", "a key has no control characters, and no space at its ends"),
        (b"a\x7f", "a key has no control characters, and no space at its ends"),
        (b"a\tb", "a key has no control characters, and no space at its ends"),
        (b" a", "a key has no control characters, and no space at its ends"),
        (b"a ", "a key has no control characters, and no space at its ends"),
        (b"\xff", "a key is UTF-8"),
        ("\ud800".encode(errors="surrogatepass"), "a key is UTF-8"),
    ],
)
def test_what_is_no_key(key: bytes, why: str) -> None:
    """Each with its reason."""
    assert key_problem(key) == why


@given(st.binary(max_size=300))
def test_no_key_ends_a_header(key: bytes) -> None:
    """Whatever passes stands on one line and is read back as it is."""
    if key_problem(key) is None:
        assert b"Tw-Key: %b\r\n".replace(b"%b", key).splitlines() == [b"Tw-Key: " + key]
        assert key.strip(b" \t") == key
