"""Which keys of a JSON Web Key Set (RFC 7517) may check signatures. Whoever serves the set is not believed to be careful."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import msgspec

from tidewire.edge.key_material import LONGEST_KID, PublicKey, UnusableKey, algorithms_for, read_jwk
from tidewire.edge.wire.json_codec import clean_json

LARGEST_SET = 262_144
"""Bytes."""
MOST_KEYS = 100

_PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
"""Members of RFC 7518 that a public key has not: who publishes one has lost the key."""


class UnusableSet(ValueError):
    """The answer is no key set at all."""


class SetKey(msgspec.Struct, frozen=True):
    """A usable key of a set and the algorithms that its kind and its own `alg` allow."""

    key: PublicKey
    algorithms: frozenset[str]


class KeySet(msgspec.Struct, frozen=True):
    """The usable keys by kid, and why each of the others is none (one text per key, without the key)."""

    keys: Mapping[str, SetKey] = {}
    ignored: tuple[str, ...] = ()


class _Document(msgspec.Struct):
    keys: list[Any]


_document = msgspec.json.Decoder(_Document).decode


def read_set(body: bytes) -> KeySet:
    """Return the usable keys; a `kid` that occurs twice is none. Raises UnusableSet."""
    clean = clean_json(body)
    if clean is None:
        raise UnusableSet("not JSON")
    try:
        entries = _document(clean).keys
    except msgspec.ValidationError as error:
        raise UnusableSet(f"no key set: {error}") from None
    if len(entries) > MOST_KEYS:
        raise UnusableSet(f"over {MOST_KEYS} keys")
    kids = Counter(entry["kid"] for entry in entries if isinstance(entry, dict) and _kid(entry))
    keys: dict[str, SetKey] = {}
    ignored: list[str] = []
    for entry in entries:
        try:
            key = _read_key(entry, kids)
        except UnusableKey as error:
            ignored.append(str(error))
        else:
            keys[entry["kid"]] = key
    return KeySet(keys, tuple(ignored))


def _kid(entry: Mapping[str, Any]) -> bool:
    kid = entry.get("kid")
    return isinstance(kid, str) and 0 < len(kid) <= LONGEST_KID


def _read_key(entry: object, kids: Mapping[str, int]) -> SetKey:
    if not isinstance(entry, dict):
        raise UnusableKey("no object")
    if not _kid(entry):
        raise UnusableKey(f"kid is no text of 1 to {LONGEST_KID} characters")
    if kids[entry["kid"]] > 1:
        raise UnusableKey("another key has its kid")
    if entry.get("use", "sig") != "sig":
        raise UnusableKey("use is not sig")
    operations = entry.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        raise UnusableKey("key_ops without verify")
    if not _PRIVATE.isdisjoint(entry):
        raise UnusableKey("has private members")
    key = read_jwk(entry)
    fitting = frozenset[str](algorithms_for(key))
    if "alg" in entry and entry["alg"] not in fitting:
        raise UnusableKey("alg does not fit the key")
    return SetKey(key, frozenset([entry["alg"]]) if "alg" in entry else fitting)
