"""By how much a rule was exceeded, over whichever window it was most."""

from __future__ import annotations

from collections.abc import Sequence

from tidewire.kernel.token_bucket import Allowance


class Spent:
    """The publications of one user that were taken, and when the rule may have begun anew."""

    def __init__(self) -> None:
        self.taken: list[tuple[float, float]] = []

    def most_over(self, allowance: Allowance, anew: Sequence[tuple[float, float]] = ()) -> float:
        """Return by how much the rule was exceeded at most over any window, in one pass.

        A window reaches from when its first publication was sent to when its last one was answered. It may have `burst` more
        for each bucket that began anew in it: twice in each of the times `anew`, in which a key moves away and back.
        """
        most, best = float("-inf"), float("-inf")
        for number, (sent, done) in enumerate(sorted(self.taken)):
            ended = 2 * sum(end <= sent for _, end in anew)
            begun = 2 * sum(begin <= done for begin, _ in anew)
            best = max(best, allowance.rate * sent - number + allowance.burst * ended)
            most = max(most, number + 1 - allowance.rate * done - allowance.burst * begun + best)
        return most - allowance.burst
