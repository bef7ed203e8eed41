"""The bench of rate limits: it runs, small, and every decision that it counts found a token."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from pathlib import Path

from bench.ratelimit import rows
from bench.ratelimit.__main__ import HEAD, lines, works


def test_decisions_of_an_edge_are_counted() -> None:
    """One user and many, one rule and two."""
    for users, rules in ((1, 1), (300, 1), (1, 2)):
        row = rows.at_the_edge(users, rules, 2_000)
        assert row.count >= 1_500
        assert row.seconds > 0


def test_the_service_answers_in_each_way(tmp_path: Path) -> None:
    """500 keys a call, one, and a gateway's; each has a line of the table."""
    with ExitStack() as stack:
        service = rows.Service(tmp_path, stack, None)
        assert service.run(partial(rows.batched, calls=2)).count == 2 * rows.BATCH
        assert service.run(partial(rows.single, calls=5)).count == 5
        row = service.run(partial(rows.envoy, calls=5))
        assert row.count == 5
        names = works(service, rows.Sizes())
    made = lines({name: [row] for name in names})
    assert [line[0] for line in made] == [*names]
    assert all(len(line) == len(HEAD) for line in made)
