"""The rate of handshakes, shared between client addresses: none can use it up alone. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tidewire.edge.addresses import Tally, network

if TYPE_CHECKING:
    from tidewire.kernel.token_bucket import Allowance

SHARE: Final = 4
"""Tokens that an address may take for each one that it leaves: many clients may be behind one."""


class FairRate:
    """One bucket for all, from which an address takes no more than SHARE times what it leaves.

    What an address took counts for as long as an empty bucket takes to fill. So one address alone leaves a fifth of the
    burst to the others, two leave a ninth, and where nobody else comes it still gets the whole rate over time (a dynamic
    threshold, Choudhury and Hahne 1998). It holds as many addresses as there are tokens in two bursts.
    """

    __slots__ = ("_forget_at", "_full_at", "_taken")

    def __init__(self) -> None:
        self._full_at = 0.0
        self._forget_at = 0.0
        self._taken = Tally()

    def __len__(self) -> int:
        return len(self._taken)

    def take(self, address: str, allowance: Allowance, now: float) -> bool:
        """Take a token for an address, "" for nobody in particular, who has no share; False where there is none for it."""
        if now >= self._forget_at:
            self._taken = Tally()
            self._forget_at = now + allowance.burst / allowance.rate
        key = network(address)
        if key and self._taken[key] >= SHARE * allowance.left(self._full_at, now):
            return False
        self._full_at, wait = allowance.take(self._full_at, now)
        if key and not wait:
            self._taken.add(key)
        return not wait
