"""The rights of the edges' NATS user, each as a subject on which it can be tried without anybody minding. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

import msgspec

from tidewire.kernel.nats_config import STORED, edge_user
from tidewire.kernel.subjects import PROBE, encode_token

Verb = Literal["publish", "subscribe"]

_METHOD: Final = "tw."
"""How names of methods begin that no application can have."""
_OWN: Final = ("tw.in.", "tw.pub.", "tw.out.", "tw.ctl.", "tw.pres.", "$JS.")
"""Where only edges, services or JetStream listen: an empty message for no channel and no node, without a reply, is nothing there."""


class Right(msgspec.Struct, frozen=True):
    """One line of the user's permissions: `subject` as nats-server has it, a queue group after a space."""

    verb: Verb
    subject: str
    purpose: str

    @property
    def is_heard(self) -> bool:
        """Whether backends would hear a message that tries it."""
        return self.verb == "publish" and not self.subject.startswith(_OWN)

    def trial(self, nonce: str) -> tuple[str, str]:
        """Return a subject within the right, and the queue group, on which nobody else publishes or listens.

        A whole wildcard would bring the mesh's traffic here, and a member of `tw-map` would take messages from the edges.
        """
        pattern, _, queue = self.subject.partition(" ")
        if not pattern.endswith((">", "*")):
            return pattern, queue
        prefix = pattern.rstrip(">*").removesuffix(".")
        match prefix:
            case "tw.in" | "tw.out":
                return f"{prefix}.0.{PROBE}.{nonce}", queue
            case "tw.rpc" | "tw.hook":
                return f"{prefix}.{encode_token(f'{_METHOD}{nonce}')}", queue
            case "tw.pub" | "tw.ev":
                return f"{prefix}.{PROBE}.{nonce}", queue
        return f"{prefix.replace('*', nonce)}.{nonce}", queue


FORGE: Final = Right("publish", STORED, "nobody: what is there counts as stored")
"""The right that nobody may have."""


def needed(user: str) -> Iterator[Right]:
    """Return what the edges' user needs; those first that tell whether others can be tried unheard."""
    described = edge_user(user)
    for subject, purpose in described.publish:
        yield Right("publish", subject, purpose)
    for subject, purpose in described.subscribe:
        yield Right("subscribe", subject, purpose)
