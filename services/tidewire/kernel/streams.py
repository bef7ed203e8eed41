"""Where channels with history are stored: names of streams and subjects, and the epoch of a stream's life.

The publications of a partition whose namespaces share a storage profile are one JetStream stream. Its sequences are the
offsets of its channels: they grow, and are not dense. What it has stored, JetStream publishes again on `tw.out`.
"""

from __future__ import annotations

import hashlib
from typing import Final

LAYOUT: Final = 1
"""The version of everything in this module, stored in the cluster: a process that knows another one refuses to start."""
META_BUCKET: Final = "TW_META"
"""The key-value bucket that holds what all processes must agree on (`tidewire migrate` makes it)."""
GENERATION: Final = "tw_gen"
"""Of a stream's metadata: how often it was said to begin a new life, as a decimal number; absent = 0."""

EPOCH_BYTES: Final = 6


def stream_name(profile: str, partition: int) -> str:
    """Return `TW_<profile>_<p>`."""
    return f"TW_{profile}_{partition}"


def captured(namespace: str, partition: int) -> str:
    """Return `tw.in.<p>.<namespace>.>`, what the stream takes of a namespace (`_`: channels without one)."""
    return f"tw.in.{partition}.{namespace}.>"


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
