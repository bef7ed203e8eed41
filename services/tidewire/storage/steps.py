"""What a migration consists of: steps that can each be done again, and say what they do. Pure."""

from __future__ import annotations

import msgspec

from tidewire.kernel.meta import Meta
from tidewire.kernel.streams import META_BUCKET
from tidewire.storage.wanted import StreamConfig


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One step: the stream or record that it is about, a verb, and what it says beside them."""

    verb: str
    stream: str
    text: str = ""


class Keep(Step, frozen=True, kw_only=True):
    """Nothing is to be done."""

    verb: str = "keep"


class Create(Step, frozen=True, kw_only=True):
    """A stream that is not there."""

    verb: str = "create"
    config: StreamConfig


class Update(Step, frozen=True, kw_only=True):
    """A stream gets another configuration."""

    verb: str = "update"
    config: StreamConfig


class Delete(Step, frozen=True, kw_only=True):
    """A stream goes, with what it holds."""

    verb: str = "delete"


class Purge(Step, frozen=True, kw_only=True):
    """All messages of a subject go."""

    verb: str = "purge"
    subject: str


class Record(Step, frozen=True, kw_only=True):
    """What all processes must agree on is written."""

    verb: str = "record"
    stream: str = META_BUCKET
    meta: Meta


class Settle(Step, frozen=True, kw_only=True):
    """Nothing is done for a time, in which edges hear of the record and their retries end."""

    verb: str = "wait"
    stream: str = META_BUCKET
    seconds: float


class Refusal(msgspec.Struct, frozen=True):
    """Why a migration does not begin; `yields`: it does with --force."""

    text: str
    yields: bool = False


class Plan(msgspec.Struct, frozen=True):
    """Steps in their order, and what stands against them."""

    steps: tuple[Step, ...]
    refusals: tuple[Refusal, ...]

    @property
    def work(self) -> tuple[Step, ...]:
        """The steps that change something."""
        return tuple(step for step in self.steps if not isinstance(step, Keep))

    def against(self, *, force: bool) -> list[str]:
        """Return what still stands against it."""
        return [refusal.text for refusal in self.refusals if not (force and refusal.yields)]
