from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.edge import edge_config
from tests.support.protocol import protocol
from tidewire.edge.policies.rpc import RpcPolicy

METHODS = [
    {"name": "open"},
    {"name": "guests", "allow_for_anonymous": True},
    {"name": "staff", "allow_for_client": False},
]
EVERYTHING = {"name": "*", "allow_for_anonymous": True}


def code(method: str, user: str = "alice", *methods: dict[str, Any], enabled: bool = True) -> int:
    """The error's code, 0 for yes."""
    policy = RpcPolicy(edge_config(rpc={"enabled": enabled, "methods": list(methods)}).rpc)
    problem = policy.may_call(method, user)
    return 0 if problem is None else problem.code


@protocol("command.rpc", "error.108")
def test_switched_off_nothing_can_be_called() -> None:
    """108 for every method, permitted or not; those that would be ours are not found, as ever."""
    assert code("open", "alice", *METHODS, enabled=False) == 108
    assert code("other", "alice", *METHODS, enabled=False) == 108
    assert code("tw.x", "alice", *METHODS, enabled=False) == 104


@protocol("command.rpc")
@pytest.mark.parametrize(
    ("method", "user", "expected"),
    [
        ("open", "alice", 0),
        ("open", "", 103),
        ("guests", "", 0),
        ("guests", "alice", 0),
        ("staff", "alice", 103),
        ("staff", "", 103),
        ("other", "alice", 103),
        ("OPEN", "alice", 103),
        ("*", "alice", 103),
    ],
)
def test_permission_per_method(method: str, user: str, expected: int) -> None:
    """What is not listed is not allowed; names are exact."""
    assert code(method, user, *METHODS) == expected


@protocol("command.rpc")
def test_star_serves_methods_without_a_rule_of_their_own() -> None:
    """A rule of its own is never widened by it."""
    assert code("other", "", *METHODS, EVERYTHING) == 0
    assert code("staff", "alice", *METHODS, EVERYTHING) == 103
    assert code("open", "", *METHODS, EVERYTHING) == 103


@protocol("error.104", "error.107")
@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("tw.presence", 104),
        ("tw.", 104),
        ("tw", 0),
        ("", 107),
        ("m" * 255, 0),
        ("m" * 256, 107),
        ("é" * 128, 107),
        ("\ud800", 107),
    ],
)
def test_names_that_cannot_be_called(method: str, expected: int) -> None:
    """`tw.` is the edge's own; a name has 1 to 255 bytes of UTF-8."""
    assert code(method, "alice", EVERYTHING) == expected


@given(st.text())
def test_every_name_gets_a_verdict(method: str) -> None:
    """Total on what clients may send."""
    assert code(method, "alice", EVERYTHING) in {0, 104, 107}
