"""What may be the key of a publication, by which it is conflated: text that survives a NATS header as it is."""

from __future__ import annotations

import re
from typing import Final

MAX_KEY_BYTES: Final = 256
_UNFIT: Final = re.compile(rb"[\x00-\x1f\x7f]|^ | $")
"""Control characters, which could end the header and begin another, and spaces that header parsers take away."""


def key_problem(key: bytes) -> str | None:
    """Return why this is no key, None where it is one."""
    if not 0 < len(key) <= MAX_KEY_BYTES:
        return f"a key has 1 to {MAX_KEY_BYTES} bytes"
    if _UNFIT.search(key):
        return "a key has no control characters, and no space at its ends"
    try:
        key.decode()
    except UnicodeDecodeError:
        return "a key is UTF-8"
    return None
