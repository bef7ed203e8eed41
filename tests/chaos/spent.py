"""By how much a rule was exceeded, over whichever window it was most."""

from __future__ import annotations

from collections.abc import Sequence

from tidewire.kernel.token_bucket import Allowance


class Spent:
    """The publications of one user that were taken, and when the rule may have begun anew."""

    def __init__(self) -> None:
        self.taken: list[tuple[float, float]] = []

    def most_over(
        self,
        allowance: Allowance,
        anew: Sequence[tuple[float, float]] = (),
        apart: Sequence[tuple[float, float]] = (),
    ) -> float:
        """Return by how much the rule was exceeded at most over any window, in one pass.

        A window reaches from when its first publication was sent to when its last one was answered. It may have `burst` more
        for each bucket that began anew in it: twice in each of the times `anew`, in which a key moves away and back. And it
        has the rate twice in the times `apart`, in which edges ask different replicas for a key.
        """
        most, best = float("-inf"), float("-inf")
        for number, (sent, done) in enumerate(sorted(self.taken)):
            ended = 2 * sum(end <= sent for _, end in anew)
            begun = 2 * sum(begin <= done for begin, _ in anew)
            before = allowance.rate * (sent + _until(sent, apart)) + allowance.burst * ended
            after = allowance.rate * (done + _until(done, apart)) + allowance.burst * begun
            best = max(best, before - number)
            most = max(most, number + 1 - after + best)
        return most - allowance.burst


def _until(moment: float, spans: Sequence[tuple[float, float]]) -> float:
    """Return how much of these spans, of which none overlap, is before a moment."""
    return sum(max(0.0, min(end, moment) - begin) for begin, end in spans)
