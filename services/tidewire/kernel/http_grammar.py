"""Pieces of HTTP's grammar as regular expressions, which take time in proportion to their input (RFC 9110, section 5.6).

Runs of one kind of character are possessive (`++`, `*+`): where a match fails behind one, no shorter run is tried.
"""

from __future__ import annotations

from typing import Final

TCHAR: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]"
TOKEN: Final = rf"{TCHAR}++"


def list_of(item: str) -> str:
    """Return the expression of a list with commas: empty elements do not count, but one must be there that is not."""
    return rf"[ \t,]*+{item}(?:[ \t]*+,[ \t,]*+{item})*[ \t,]*+"
