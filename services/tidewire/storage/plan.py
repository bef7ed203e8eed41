"""From what is wanted and what is found to the steps between, in the only order that JetStream takes. Pure.

A plan is made from the state of the cluster alone, so one that was cut short anywhere goes on by being made again:

1. The bucket and a record with the number of partitions, which is fixed for good.
2. Namespaces that leave a profile are marked as moving, and edges get time to stop publishing to them.
3. Their subjects leave the old streams, and only then may they join others.
4. Streams are created and updated.
5. What is left of them in old streams is purged, and streams without namespaces go.
6. The record says where everything is now, and marks nothing any more: so what is marked is not yet done.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from tidewire.kernel.meta import LOOKS, REFRESH, Meta, called
from tidewire.kernel.streams import (
    GENERATION,
    LAYOUT,
    LEFT,
    META_STREAM,
    META_SUBJECT,
    captured,
    door_of,
    new_door,
    parts_of,
)
from tidewire.storage.differences import Difference, differences
from tidewire.storage.found import Found, Stream
from tidewire.storage.steps import Create, Delete, Keep, Plan, Purge, Record, Refusal, Settle, Step, Update
from tidewire.storage.wanted import LAYOUT_KEY, StreamConfig, Wanted, bucket_config, subjects_of

HEARD: Final = REFRESH + sum(LOOKS) + 3.0
"""Seconds within which every edge that works has read a new record."""


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """What a person wants done beyond the configuration, and what a plan cannot make up by itself."""

    secret: str
    """Of a record that has none yet."""
    now: int
    """Milliseconds since 1970."""
    moves: frozenset[str] = frozenset()
    """Namespaces that may lose what is stored of them to change their profile."""
    renewed: frozenset[str] = frozenset()
    """Profiles whose streams begin a new generation."""
    settle: float | None = None
    """Seconds that edges get to stop; None: as many as they may need."""


def make_plan(wanted: Wanted, found: Found, orders: Orders) -> Plan:
    """Return the steps from `found` to `wanted`."""
    return _Planner(wanted, found, orders).plan()


class _Planner:
    def __init__(self, wanted: Wanted, found: Found, orders: Orders) -> None:
        self._wanted = wanted
        self._found = found
        self._orders = orders
        self._leaving = frozenset(
            token for token in found.tokens if found.profiles_of(token) - {wanted.namespaces.get(token)}
        )
        self._meta = found.meta or Meta(partitions=wanted.partitions, namespaces={}, secret=orders.secret)
        self._refusals: list[Refusal] = [*self._unfit(), *self._unasked()]

    def plan(self) -> Plan:
        if not self._wanted.namespaces and self._found.bucket is None and not self._found.streams:
            return Plan((), ())
        remaining = {name: self._without_leaving(name, each) for name, each in self._found.streams.items()}
        steps = [
            *self._bucket(),
            *self._stop(),
            *self._leave(remaining),
            *self._build(remaining),
            *self._clear(),
            *self._record(),
        ]
        return Plan(tuple(steps), tuple(dict.fromkeys(self._refusals)))

    # ------------------------------------------------------------------ what stands against it

    def _unfit(self) -> Iterator[Refusal]:
        meta, partitions = self._meta, self._wanted.partitions
        if meta.layout != LAYOUT:
            yield Refusal(f"the cluster has layout {meta.layout}, and this release works with {LAYOUT}")
        if meta.partitions != partitions:
            yield Refusal(
                f"nats.partitions is {partitions}, and the cluster has {meta.partitions} for its whole life"
            )
        for token in sorted(self._orders.moves - self._found.tokens - self._wanted.namespaces.keys()):
            yield Refusal(f"--move: nothing is known of {called(token)}")

    def _unasked(self) -> Iterator[Refusal]:
        """What gives publications up needs a word, but for what was begun with one."""
        for token in sorted(self._leaving - self._found.moving - self._orders.moves):
            target = self._wanted.namespaces.get(token)
            old = ", ".join(sorted(self._found.profiles_of(token) - {target}))
            if target is not None:
                yield Refusal(
                    f"{called(token)} is in profile {old}, and storage_profile is {target}: --move {token} moves it; what "
                    f"is stored of it is given up, and for about {self._seconds():.0f} s nobody can publish to it",
                    yields=True,
                )
            elif any(token in stream.holds for stream in self._found.streams.values()):
                yield Refusal(
                    f"{called(token)} has no history in this configuration, and profile {old} holds publications of it: "
                    "--force gives them up",
                    yields=True,
                )

    def _judge(self, profile: str, stream: Stream, changes: Iterable[Difference]) -> None:
        for change in changes:
            if change.impossible:
                self._refusals.append(
                    Refusal(
                        f"profile {profile}: {change}: JetStream cannot change that: make another profile, and move its "
                        "namespaces there"
                    )
                )
            elif change.loses and stream.messages:
                self._refusals.append(
                    Refusal(
                        f"profile {profile}: {change} may throw stored publications away: --force does it",
                        yields=True,
                    )
                )

    # ------------------------------------------------------------------ the record

    def _bucket(self) -> Iterator[Step]:
        found = self._found.bucket
        door = (found and door_of(found)) or new_door(self._orders.secret)
        config = bucket_config(self._wanted.replicas, door)
        if found is None:
            yield Create(stream=META_STREAM, config=config, text=f"key-value bucket, {_copies(config)}")
        elif changes := list(differences(found, config)):
            yield Update(stream=META_STREAM, config={**found, **config}, text=", ".join(map(str, changes)))
        else:
            yield Keep(stream=META_STREAM)
        if self._found.meta is None:
            yield Record(meta=self._meta, text=f"{self._meta.partitions} partitions, for good")

    def _stop(self) -> Iterator[Step]:
        if not self._leaving:
            return
        if not self._leaving <= set(self._meta.moving):
            self._meta = msgspec.structs.replace(
                self._meta, moving=tuple(sorted(self._leaving.union(self._meta.moving)))
            )
            yield Record(meta=self._meta, text=f"moving: {_names(self._meta.moving)}")
        if any(stream.tokens & self._leaving for stream in self._found.streams.values()):
            seconds = self._seconds()
            yield Settle(
                seconds=seconds, text=f"{seconds:g} s, until edges have stopped publishing and trying again"
            )

    def _seconds(self) -> float:
        if self._orders.settle is not None:
            return self._orders.settle
        streams = self._found.streams.values()
        windows = [each.config.get("duplicate_window", 0) for each in streams if each.tokens & self._leaving]
        return HEARD + max(windows, default=0) / 2e9

    def _record(self) -> Iterator[Step]:
        meta = msgspec.structs.replace(self._meta, namespaces=self._wanted.namespaces, moving=())
        if meta != self._meta:
            placed = ", ".join(f"{token} in {profile}" for token, profile in sorted(meta.namespaces.items()))
            yield Record(meta=meta, text=placed or "no namespace with history")

    # ------------------------------------------------------------------ the streams

    def _without_leaving(self, name: str, stream: Stream) -> Stream:
        profile, partition = _parts(name)
        gone = stream.tokens - self._wanted.tokens(profile)
        if not gone:
            return stream
        left = stream.left | gone
        config = {
            **stream.config,
            "subjects": subjects_of(stream.tokens - gone, profile, partition),
            "metadata": {**stream.metadata, LEFT: " ".join(sorted(left))},
        }
        return msgspec.structs.replace(stream, config=config)

    def _leave(self, remaining: dict[str, Stream]) -> Iterator[Step]:
        for name, stream in self._found.streams.items():
            gone = stream.tokens - remaining[name].tokens
            if gone:
                yield Update(stream=name, config=remaining[name].config, text=f"gives up {_names(gone)}")

    def _build(self, remaining: dict[str, Stream]) -> Iterator[Step]:
        for name, config in self._wanted.streams.items():
            stream = remaining.get(name)
            if stream is None:
                yield from self._create(name, config)
            else:
                yield from self._update(name, stream, config)

    def _create(self, name: str, config: StreamConfig) -> Iterator[Step]:
        if self._found.bucket is not None:
            yield _forget(
                name
            )  # an earlier stream of this name would make the new one look as if it had gone back
        yield Create(
            stream=name,
            config=config,
            text=f"{_copies(config)}: {_names(self._wanted.tokens(_parts(name)[0]))}",
        )

    def _update(self, name: str, stream: Stream, config: StreamConfig) -> Iterator[Step]:
        profile, partition = _parts(name)
        tokens = self._wanted.tokens(profile)
        changes = list(differences(stream.config, config))
        self._judge(profile, stream, changes)
        joining = tokens - stream.tokens
        renewed = (
            profile in self._orders.renewed
            or self._is_forgotten
            or bool(joining & stream.left)
            or _thinned(stream, changes)
        )
        metadata = self._metadata(stream, tokens, renewed=renewed)
        texts = [*map(str, changes)]
        if joining:
            texts.append(f"takes {_names(joining)}")
        if renewed:
            texts.append("begins a new generation")
        if not texts and metadata == stream.metadata:
            yield Keep(stream=name, text=f"{_copies(config)}: {_names(tokens)}")
            return
        merged = {
            **stream.config,
            **config,
            "subjects": subjects_of(tokens, profile, partition),
            "metadata": metadata,
        }
        yield Update(stream=name, config=merged, text="; ".join(texts) or "metadata")
        if renewed:
            yield _forget(name)

    @property
    def _is_forgotten(self) -> bool:
        """Whether the record is gone, or never came to its end, and with it the notes which streams have gone back."""
        return self._found.meta is None or not self._found.meta.namespaces

    def _metadata(self, stream: Stream, tokens: frozenset[str], *, renewed: bool) -> dict[str, str]:
        metadata = {**stream.metadata, LAYOUT_KEY: str(LAYOUT)}
        if LEFT in metadata:
            metadata[LEFT] = " ".join(sorted(stream.left - tokens))
        if renewed:
            metadata[GENERATION] = str(max(stream.generation + 1, self._orders.now))
        return metadata

    def _clear(self) -> Iterator[Step]:
        wanted = self._wanted.streams
        for name, stream in self._found.streams.items():
            profile, partition = _parts(name)
            if name in wanted:
                for token in sorted(stream.holds - self._wanted.tokens(profile)):
                    yield Purge(
                        stream=name,
                        subject=captured(token, partition),
                        text=f"what it holds of {called(token)}",
                    )
            else:
                if stream.messages and not stream.holds:
                    self._refusals.append(
                        Refusal(
                            f"{name} is of no use, and holds {stream.messages} messages: --force deletes it",
                            yields=True,
                        )
                    )
                yield Delete(stream=name, text="no namespace is stored there")


def _parts(name: str) -> tuple[str, int]:
    parts = parts_of(name)
    if parts is None:
        raise AssertionError(f"{name} is no stream of ours")
    return parts


def _thinned(stream: Stream, changes: Iterable[Difference]) -> bool:
    """Whether channels lose publications from the middle of the stream, which it would not show after the next change."""
    return bool(stream.messages) and any(
        change.loses and change.setting == "max_msgs_per_subject" for change in changes
    )


def _forget(stream: str) -> Purge:
    """What the history service has noted of a stream's earlier life."""
    return Purge(stream=META_STREAM, subject=f"{META_SUBJECT}.*.{stream}", text="notes of an earlier life")


def _copies(config: StreamConfig) -> str:
    replicas = config["num_replicas"]
    return f"{config['storage']}, {replicas} {'copy' if replicas == 1 else 'copies'}"


def _names(tokens: Iterable[str]) -> str:
    return ", ".join(sorted(tokens))
