"""What a cluster has: its streams, the bucket and the record, as far as a plan needs to know. Pure."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from tidewire.kernel.meta import Held, Meta
from tidewire.kernel.streams import GENERATION, LEFT, namespace_of, parts_of
from tidewire.storage.wanted import StreamConfig


class Stream(msgspec.Struct, frozen=True):
    """One stream. `holds`: of the namespaces that are to leave it, those of which it has messages."""

    config: StreamConfig
    messages: int = 0
    holds: frozenset[str] = frozenset()

    @property
    def tokens(self) -> frozenset[str]:
        """The namespaces whose publications it takes."""
        found = (namespace_of(subject) for subject in self.config.get("subjects", ()))
        return frozenset(token for token in found if token is not None)

    @property
    def left(self) -> frozenset[str]:
        """The namespaces that it held once."""
        return frozenset(self.metadata.get(LEFT, "").split())

    @property
    def generation(self) -> int:
        """The life that it was said to begin."""
        text = self.metadata.get(GENERATION, "")
        return int(text) if text.isdigit() else 0

    @property
    def metadata(self) -> dict[str, str]:
        """What is written on it."""
        found: dict[str, str] = self.config.get("metadata") or {}
        return found


class Found(msgspec.Struct, frozen=True):
    """A cluster: streams of ours by name, the bucket's configuration, and the record."""

    streams: dict[str, Stream]
    bucket: StreamConfig | None = None
    held: Held | None = None

    @property
    def meta(self) -> Meta | None:
        """The record."""
        return None if self.held is None else self.held.meta

    @property
    def moving(self) -> frozenset[str]:
        """Namespaces whose move has begun."""
        return frozenset(() if self.meta is None else self.meta.moving)

    def profiles_of(self, token: str) -> frozenset[str]:
        """Return the profiles that have, or once had, a namespace: as the record says, and as streams show."""
        recorded = None if self.meta is None else self.meta.namespaces.get(token)
        shown = {profile for profile, stream in self._by_profile() if token in stream.tokens | stream.holds}
        return frozenset(shown if recorded is None else {recorded, *shown})

    @property
    def tokens(self) -> frozenset[str]:
        """All namespaces that have streams."""
        recorded = {} if self.meta is None else self.meta.namespaces
        return frozenset(recorded).union(*(stream.tokens | stream.holds for stream in self.streams.values()))

    def _by_profile(self) -> Iterator[tuple[str, Stream]]:
        for name, stream in self.streams.items():
            parts = parts_of(name)
            if parts is not None:
                yield parts[0], stream
