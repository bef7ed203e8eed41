"""What a subscription means for presence: who learns of it, and of what it learns itself. Pure."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Final

import msgspec

from tidewire.kernel.channels import is_pattern

if TYPE_CHECKING:
    from tidewire.edge.policies.claims import Override
    from tidewire.edge.policies.permissions import Namespace


class Attendance(msgspec.Struct, frozen=True, gc=False):
    """A live subscription is announced to the presence service as a member (`kept`) or only as somebody (`counted`).

    Its join and leave are told to other subscribers (`told`), by the word of its token and not of the namespace's options where
    that is `by_token`; and it `hears` of theirs.
    """

    counted: bool = False
    kept: bool = False
    told: bool = False
    hears: bool = False
    by_token: bool = False


_ALL: Final = {
    each: Attendance(*each) for each in product((False, True), repeat=len(Attendance.__struct_fields__))
}
"""One of each, which all subscriptions share."""
NOBODY: Final = _ALL[False, False, False, False, False]
"""Presence has nothing to do with it, and it costs nothing."""


def attendance_of(
    channel: str, namespace: Namespace, override: Override, *, wishes: bool, announced: bool
) -> Attendance:
    """Return it for a subscription: `wishes` for joins and leaves, with the right to; `announced` where there is a service.

    A token that hides a client from presence hides it from the service altogether: its leave is then not told where its
    edge dies. Without that, where joins and leaves are told the service knows who is there, for the same case.
    """
    options = namespace.options
    if options.allow_wildcards and is_pattern(channel):
        return NOBODY
    told = _either(override.join_leave, options.join_leave)
    kept = announced and _either(override.presence, options.presence or told)
    hears = _either(override.force_push_join_leave, options.force_push_join_leave) or (wishes and told)
    by_token = kept and override.join_leave is not None
    return _ALL[announced and (kept or options.occupancy), kept, told, hears, by_token]


def _either(override: bool | None, option: bool) -> bool:
    return option if override is None else override
