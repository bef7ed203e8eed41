"""The standard library's JSON parser, strict. Its form in Python runs, too, and guides the fuzzer: it sees nothing of C."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from json import decoder, scanner
from typing import Any

PARSER: tuple[Callable[..., Any], ...] = (
    decoder.py_scanstring,  # type: ignore[attr-defined]
    decoder.JSONObject,  # type: ignore[attr-defined]
    decoder.JSONArray,  # type: ignore[attr-defined]
    scanner.py_make_scanner,  # type: ignore[attr-defined]
)
"""What to instrument."""


def _refuse(constant: str) -> None:
    raise ValueError(constant)


_PARSER = json.JSONDecoder(parse_constant=_refuse)


@cache
def _guide() -> json.JSONDecoder:
    """Made once its parts are instrumented."""
    parser = json.JSONDecoder(parse_constant=_refuse)
    parser.parse_string = decoder.py_scanstring  # type: ignore[attr-defined]
    parser.scan_once = scanner.py_make_scanner(parser)  # type: ignore[attr-defined]
    return parser


def value_of(text: str) -> Any:
    r"""Return the value of a JSON text (RFC 8259). Raises ValueError and RecursionError; NaN and the like are no JSON.

    The verdict is that of the parser in C: the one in Python takes an underscore in `\u00_0`.
    """
    with suppress(ValueError, RecursionError):
        _guide().decode(text)
    return _PARSER.decode(text)


def repeats_a_name(text: str) -> bool:
    """Return whether an object of a JSON text has two members of one name: RFC 8259, section 4, leaves open what that means."""
    repeated = False

    def look(pairs: list[tuple[str, Any]]) -> None:
        nonlocal repeated
        repeated = repeated or len({name for name, _ in pairs}) < len(pairs)

    json.loads(text, object_pairs_hook=look)
    return repeated


def depth_of(value: Any) -> int:
    """Return how many arrays and objects stand inside each other."""
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(depth_of, value), default=0) if isinstance(value, list) else 0


def mended(value: Any) -> Any:
    """Return a value with U+FFFD for each lone surrogate, as parsers other than Python's read them."""
    if isinstance(value, str):
        return "".join("\ufffd" if "\ud800" <= letter <= "\udfff" else letter for letter in value)
    if isinstance(value, list):
        return [mended(each) for each in value]
    if isinstance(value, dict):
        return {mended(name): mended(each) for name, each in value.items()}
    return value
