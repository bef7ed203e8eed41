from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.support.config import KEY, problems


@pytest.mark.parametrize(
    ("config", "line"),
    [
        (
            {**KEY, "dev": {"edges": [{"port": 8000}, {"port": 9000, "internal_port": 4222}]}},
            "dev.edges[1].port: 9000 is edges[0].internal_port already",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_rules_are_checked(config: Mapping[str, object], line: str) -> None:
    """Two processes of the dev mesh cannot share a port."""
    assert line in problems(config)
