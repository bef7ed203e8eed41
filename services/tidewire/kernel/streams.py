"""Where channels with history are stored: names of streams and subjects, and the epoch of a stream's life.

The publications of a partition whose namespaces share a storage profile are one JetStream stream. Its sequences are the
offsets of its channels: they grow, and are not dense. What it has stored, JetStream publishes again on `tw.out`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any, Final

LAYOUT: Final = 1
"""The version of everything in this module, stored in the cluster: a process that knows another one refuses to start."""
META_BUCKET: Final = "TW_META"
"""The key-value bucket that holds what all processes must agree on (`tidewire migrate` makes it)."""
META_STREAM: Final = f"KV_{META_BUCKET}"
"""The stream behind the bucket."""
META_SUBJECT: Final = f"$KV.{META_BUCKET}"
META_DOORS: Final = "tw.meta"
"""The bucket takes nothing on META_SUBJECT, where it can be read, but on `tw.meta.<random>`: JetStream acknowledges a
publication on any subject that its publisher names, so whoever may publish could overwrite what all agree on."""
GENERATION: Final = "tw_gen"
"""Of a stream's metadata: the life that it was said to begin, as a decimal number that grows; absent = 0.

It holds the milliseconds since 1970 of when that was said: a counter that was restored with its stream would give an
epoch a second time.
"""
LEFT: Final = "tw_left"
"""Of a stream's metadata: namespaces that it held once, separated by spaces. One that comes back begins a new generation:
what was published to it meanwhile is not in this stream, and nothing there would show it."""

EPOCH_BYTES: Final = 6

_NAME: Final = re.compile(r"TW_([-a-z0-9]+)_(0|[1-9][0-9]*)")
_DOOR: Final = re.compile(r"(tw\.meta\.[0-9a-f]{32})\.>")
_CAPTURED: Final = re.compile(r"tw\.in\.[0-9]+\.([-a-zA-Z0-9_]+)\.>")


def stream_name(profile: str, partition: int) -> str:
    """Return `TW_<profile>_<p>`."""
    return f"TW_{profile}_{partition}"


def parts_of(stream: str) -> tuple[str, int] | None:
    """Return profile and partition of a stream's name; None where it is not one of ours."""
    found = _NAME.fullmatch(stream)
    return None if found is None else (found[1], int(found[2]))


def captured(namespace: str, partition: int) -> str:
    """Return `tw.in.<p>.<namespace>.>`, what the stream takes of a namespace (`_`: channels without one)."""
    return f"tw.in.{partition}.{namespace}.>"


def namespace_of(subject: str) -> str | None:
    """Return the namespace of what `captured` returned; None for any other subject."""
    found = _CAPTURED.fullmatch(subject)
    return None if found is None else found[1]


def door_of(config: Mapping[str, Any]) -> str | None:
    """Return under which subject the stream behind the bucket takes what is written; None where it has no such door yet."""
    found = [_DOOR.fullmatch(subject) for subject in config.get("subjects", ())]
    return next((door[1] for door in found if door is not None), None)


def new_door(secret: str) -> str:
    """Return a door that nobody guesses who does not know this secret, nor the secret who knows the door."""
    return f"{META_DOORS}.{hashlib.blake2b(secret.encode(), digest_size=16, person=b'door').hexdigest()}"


def vacant(profile: str, partition: int) -> str:
    """Return what a stream takes that holds no namespace any more: JetStream wants a subject, and nobody publishes here."""
    return f"tw.in.{partition}._tw.vacant.{profile}"


def republish(partition: int) -> tuple[str, str]:
    """Return source and destination of what the stream publishes again: `tw.in.<p>.>` and `tw.out.<p>.>`."""
    return f"tw.in.{partition}.>", f"tw.out.{partition}.>"


def epoch_of(stream: str, created: str, generation: int, nonce: str = "") -> str:
    """Return the epoch of a stream's channels, 12 letters: another one says that offsets mean other publications.

    `created` is what STREAM.INFO says. It alone would not do, since a memory stream that was lost and a folder that was
    restored keep it and count anew. `nonce` is what was noted when that was found out; `generation` is the operator's word.
    """
    life = f"{stream}\n{created}\n{generation}\n{nonce}".encode()
    return hashlib.blake2b(life, digest_size=EPOCH_BYTES).hexdigest()
