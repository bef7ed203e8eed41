"""Which extension both sides agree on: permessage-deflate or none (RFC 6455, section 9.1; RFC 7692, section 7.1)."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from tidewire.edge.deflate import LARGEST_WINDOW
from tidewire.kernel.http_grammar import TCHAR, TOKEN, list_of

DEFLATE = "permessage-deflate"
ANSWER = f"{DEFLATE}; server_no_context_takeover; client_no_context_takeover"
"""Neither side keeps a context, which a server may ask for whatever was offered."""

# A quoted value holds a token, too: so nothing but a delimiter looks like one.
_VALUE = rf'(?:{TOKEN}|"(?:\\?{TCHAR})+")'
_PARAMETER = rf"{TOKEN}(?:[ \t]*+=[ \t]*+{_VALUE})?"
_OFFERS = re.compile(list_of(rf"{TOKEN}(?:[ \t]*+;[ \t]*+{_PARAMETER})*"))

_WINDOWS = frozenset(map(str, range(8, LARGEST_WINDOW + 1)))
_TAKEN = {
    "server_no_context_takeover": frozenset({""}),
    "client_no_context_takeover": frozenset({""}),
    "server_max_window_bits": _WINDOWS - {"8"},  # which zlib cannot keep
    "client_max_window_bits": _WINDOWS | {""},
}
"""Values that each parameter of an offer may have, "" for none (sections 7.1.1 and 7.1.2)."""


class Agreement(msgspec.Struct, frozen=True):
    """The answer to the offers, and the bits of the window to compress with: 9 to 15."""

    answer: str
    window_bits: int


def agree_on_deflate(values: Sequence[str]) -> Agreement | None:
    """Return what is agreed on by the first offer that can be kept, of those in the fields' `values`; None: nothing.

    Raises:
        ValueError: One is no value of a Sec-WebSocket-Extensions field.
    """
    if not all(map(_OFFERS.fullmatch, values)):
        raise ValueError("no list of extensions")
    for offer in ",".join(values).split(","):
        name, *parameters = (part.strip(" \t") for part in offer.split(";"))
        if name == DEFLATE and (asked := _asked(parameters)) is not None:
            return _agreement(asked)
    return None


def _asked(parameters: Sequence[str]) -> dict[str, str] | None:
    """Return what an offer asks for, by name; None where one is unknown, stands twice or has a value that it cannot."""
    asked: dict[str, str] = {}
    for parameter in parameters:
        name, _, quoted = parameter.partition("=")
        name, value = name.rstrip(" \t"), quoted.replace("\\", "").strip(' \t"')
        if name in asked or value not in _TAKEN.get(name, ()):
            return None
        asked[name] = value
    return asked


def _agreement(asked: dict[str, str]) -> Agreement:
    windows = [
        f"; {name}={asked[name]}"
        for name in ("server_max_window_bits", "client_max_window_bits")
        if asked.get(name)
    ]
    return Agreement(ANSWER + "".join(windows), int(asked.get("server_max_window_bits", LARGEST_WINDOW)))
