"""How full the caches of pure functions are; each has a bound, beyond which the least recently used entry goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidewire.edge import subscribed, upgrade
from tidewire.edge.policies import capabilities, client_address, filters
from tidewire.edge.policies.permissions import CHANNELS_KNOWN, PUBLISHERS_KNOWN
from tidewire.edge.wire import json_codec, protobuf_replies
from tidewire.kernel import subjects
from tidewire.platform.metrics import Gauge

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tidewire.edge.rules import Rules

_CACHES = {
    "channel_subjects": subjects.in_subject,
    "subject_channels": subjects.channel_of,
    "method_subjects": subjects.rpc_subject,
    "json_info": json_codec.known_info,
    "protobuf_info": protobuf_replies.known_info,
    "recovered_info": subscribed.known_info,
    "capability_regexes": capabilities.compiled,
    "tag_numbers": filters.parsed,
    "addresses": client_address.canonical_form,
    "header_tokens": upgrade.tokens_of,
}


def cache_metrics(rules: Rules) -> list[Gauge]:
    """Return how many entries each cache has, and how many it may have."""
    return [
        Gauge(
            "tidewire_cache_entries",
            "Entries of a cache. At its bound the least recently used one goes, and is made again when it is wanted.",
            lambda: {(name,): float(entries) for name, entries, _ in _sizes(rules)},
            ["cache"],
        ),
        Gauge(
            "tidewire_cache_max_entries",
            "The bound of a cache.",
            lambda: {(name,): float(bound) for name, _, bound in _sizes(rules)},
            ["cache"],
        ),
    ]


def _sizes(rules: Rules) -> Iterator[tuple[str, int, int]]:
    channels, publishers = rules.namespaces.known
    yield "channel_namespaces", channels, CHANNELS_KNOWN
    yield "publishers", publishers, PUBLISHERS_KNOWN
    for name, cache in _CACHES.items():
        info = cache.cache_info()
        yield name, info.currsize, info.maxsize or 0
