"""Settings of storage: the profiles that namespaces with history choose from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Final, Literal

from msgspec import Meta, field

from tidewire.kernel.config import Duration, Problem, Section, duration, repeated

DEFAULT_PROFILE: Final = "default"
LEAST_MESSAGES: Final = 100


def window_is_within_age(profile: StorageProfile) -> Iterator[Problem]:
    """JetStream refuses to remember ids for longer than their publications."""
    if profile.duplicate_window > profile.max_age:
        yield Problem("duplicate_window", "may not be longer than max_age")


class StorageProfile(Section, frozen=True, kw_only=True):
    """What the streams of a profile promise. `tidewire migrate` makes them so; a change takes effect by it."""

    checks = (window_is_within_age,)

    name: Annotated[
        str,
        Meta(
            pattern="^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
            max_length=32,
            description="Its name: lower-case letters, digits and `-`. It is part of the streams' names.",
            extra={"hint": "a name holds lower-case letters, digits and - between them"},
        ),
    ] = DEFAULT_PROFILE
    storage: Annotated[
        Literal["file", "memory"],
        Meta(
            description="`file`: survives restarts of nats-server. `memory`: for history and the last value only, as "
            "positions would not survive: its namespaces cannot have recovery or positioning."
        ),
    ] = "file"
    replicas: Annotated[
        int,
        Meta(
            ge=1,
            le=5,
            description="On how many servers each publication is stored before it is acknowledged. 3 in production: an "
            "acknowledged publication then survives the loss of any one server.",
        ),
    ] = 1
    max_age: Annotated[
        Duration,
        Meta(
            description="How long publications are kept. `history_ttl` of a namespace may only be shorter.",
            extra={"at_least": "1s", "at_most": "8760h"},
        ),
    ] = duration("24h")
    max_messages: Annotated[
        int,
        Meta(
            ge=LEAST_MESSAGES,
            le=10_000_000,
            description="Most publications of a channel. `history_size` of a namespace may only be smaller.",
        ),
    ] = 1000
    max_bytes: Annotated[
        int,
        Meta(
            ge=0,
            description="Most bytes of one stream (there is one for each partition): beyond it the oldest publications of "
            "all its channels go first. 0 = what the server has.",
        ),
    ] = 0
    duplicate_window: Annotated[
        Duration,
        Meta(
            description="How long a publication's id is remembered, so that a repeated one is stored once. The edge goes on "
            "trying an unanswered publication for less than half of it. Each id costs 0.25 to 0.4 KB on every server.",
            extra={"at_least": "10s", "at_most": "1h"},
        ),
    ] = duration("30s")
    message_ttl: Annotated[
        bool,
        Meta(
            description="Whether a publication may have a lifetime of its own (`Nats-TTL`). One that ended in the middle would "
            "break the proof that nothing is missing, so such namespaces cannot have recovery or positioning."
        ),
    ] = False

    @property
    def recoverable(self) -> bool:
        """Whether positions in its channels can be proven."""
        return self.storage == "file" and not self.message_ttl


def profile_names_differ(storage: StorageConfig) -> Iterator[Problem]:
    """A name stands for one profile."""
    yield from repeated("profiles", storage.profiles, "name")


class StorageConfig(Section, frozen=True, kw_only=True):
    """Where channels with history are stored."""

    checks = (profile_names_differ,)

    profiles: Annotated[
        tuple[StorageProfile, ...],
        Meta(min_length=1, max_length=16, description="The profiles. Most deployments have one or two."),
    ] = field(default_factory=lambda: (StorageProfile(),))

    def find(self, name: str) -> StorageProfile | None:
        """Return the profile of this name."""
        return next((profile for profile in self.profiles if profile.name == name), None)
