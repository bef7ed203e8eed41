from __future__ import annotations

from random import Random

import pytest

from tests.chaos.spent import Spent
from tidewire.kernel.token_bucket import Allowance

RULE = Allowance(20, 40)


def drawn(seed: int) -> Spent:
    """Publications that each take up to half a second."""
    dice = Random(seed)
    spent = Spent()
    for _ in range(100):
        sent = dice.uniform(0, 3)
        spent.taken.append((sent, sent + dice.uniform(0, 0.5)))
    return spent


def twice(begin: float, end: float, apart: list[tuple[float, float]]) -> float:
    """How long a window is, and what of it is in `apart` once more."""
    return end - begin + sum(max(0.0, min(end, e) - max(begin, b)) for b, e in apart)


def over(spent: Spent, anew: list[tuple[float, float]], apart: list[tuple[float, float]]) -> float:
    """The same by asking each window."""
    taken = sorted(spent.taken)
    return max(
        count
        - RULE.rate * twice(taken[first][0], done, apart)
        - RULE.burst
        * (1 + 2 * (sum(b <= done for b, _ in anew) - sum(e <= taken[first][0] for _, e in anew)))
        for first in range(len(taken))
        for count, (_, done) in enumerate(taken[first:], 1)
    )


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("anew", [[], [(1.0, 1.5)], [(0.2, 0.6), (2.0, 2.4)]])
@pytest.mark.parametrize("apart", [[], [(0.1, 0.4), (1.2, 2.9)]])
def test_one_pass_finds_the_worst_window(
    seed: int, anew: list[tuple[float, float]], apart: list[tuple[float, float]]
) -> None:
    """Where buckets began anew, or a key had two of them, and where not."""
    spent = drawn(seed)
    assert spent.most_over(RULE, anew, apart) == pytest.approx(over(spent, anew, apart))


def test_the_burst_is_no_excess() -> None:
    """Forty at once are as the rule has it, and the next one is not."""
    spent = Spent()
    spent.taken = [(1.0, 1.0)] * 40
    assert spent.most_over(RULE) == pytest.approx(0)
    spent.taken.append((1.0, 1.0))
    assert spent.most_over(RULE) == pytest.approx(1)
    assert spent.most_over(RULE, [(0.5, 1.5)]) < 0, "a bucket that began anew has its burst"
    spent.taken.append((2.0, 2.0))
    assert spent.most_over(RULE, apart=[(0.0, 1.5)]) == pytest.approx(1), (
        "of the window at 1.0 s nothing is longer"
    )
