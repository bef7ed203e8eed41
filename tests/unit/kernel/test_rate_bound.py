from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tidewire.kernel.gcra import give_back, grant
from tidewire.kernel.rate_bound import BLOCKS, Terms, excess, lease_excess
from tidewire.kernel.token_bucket import ROUNDING, Allowance


def test_the_bound_is_what_flows_in_the_time_of_a_lease_or_what_edges_hold() -> None:
    """Whichever is less; each bucket that begins anew adds its burst."""
    terms = Terms(Allowance(100, 50), lease_size=5, lease_time=2)
    assert lease_excess(terms) == 200
    assert lease_excess(terms, edges=3) == 30
    assert lease_excess(terms, edges=1000) == 200
    assert excess(terms, edges=3, anew=2) == 130


events = st.lists(
    st.tuples(
        st.floats(0, 0.7),
        st.sampled_from(["lease", "spend", "spend", "return", "crash", "restart", "move"]),
        st.integers(0, 2),
        st.integers(1, 12),
    ),
    max_size=80,
)


@settings(max_examples=300)
@given(st.integers(1, 50), st.integers(1, 30), st.integers(1, 8), st.floats(0.1, 2), events)
def test_no_window_has_more_than_the_rule_and_the_bound(
    rate: int, burst: int, size: int, lease_time: float, happened: list[tuple[float, str, int, int]]
) -> None:
    """Three edges with leases of two replicas: they spend, return, crash; replicas begin anew, and keys move between them."""
    terms = Terms(Allowance(rate, burst), size, lease_time)
    buckets = [0.0, 0.0]
    home, now = 0, 1000.0
    leases: dict[int, list[list[Any]]] = {0: [], 1: [], 2: []}
    spent: list[tuple[float, int]] = []
    anew: list[float] = []
    for pause, what, edge, count in happened:
        now += pause
        held = leases[edge] = [each for each in leases[edge] if each[0] and now < each[1] + lease_time]
        if what == "lease" and len(held) < BLOCKS:
            granted = grant(terms.allowance, buckets[home], now, size)
            buckets[home] = granted.full_at
            held.append([granted.tokens, now, home])
        elif what == "spend" and held:
            used = min(count, held[0][0])
            held[0][0] -= used
            spent.append((now, used))
        elif what == "return" and held:
            tokens, since, where = held.pop()
            buckets[where] = give_back(terms.allowance, buckets[where], tokens, now - since)
        elif what == "crash":
            leases[edge] = []
        elif what in {"restart", "move"}:
            buckets[home] = 0.0 if what == "restart" else buckets[home]
            home = 1 - home if what == "move" else home
            anew.append(now)
    for start in range(len(spent)):
        total = 0
        for when, used in spent[start:]:
            total += used
            begin = spent[start][0]
            fresh = sum(begin - lease_time <= each <= when for each in anew)
            allowed = burst + rate * (when - begin + 4 * ROUNDING) + excess(terms, 3, fresh)
            assert total <= allowed + 1e-6
