from __future__ import annotations

from typing import Any

import pytest

from tests.support.protocol import protocol
from tidewire.edge.attendance import NOBODY, Attendance, attendance_of
from tidewire.edge.config import ChannelOptions
from tidewire.edge.policies.claims import Override
from tidewire.edge.policies.permissions import Namespace
from tidewire.kernel.config import decode

ALL = {"presence": True, "join_leave": True, "force_push_join_leave": True}


def attendance(
    options: dict[str, Any], override: Override | None = None, channel: str = "a", **verdict: bool
) -> Attendance:
    """What it is in a namespace with these options."""
    namespace = Namespace(decode(ChannelOptions, options))
    verdict = {"wishes": False, "announced": True, **verdict}
    return attendance_of(channel, namespace, override or Override(), **verdict)


@protocol("option.occupancy", "option.presence", "option.join_leave", "option.force_push_join_leave")
@pytest.mark.parametrize(
    ("options", "override", "verdict", "expected"),
    [
        ({}, {}, {}, Attendance(counted=True)),
        ({"occupancy": False}, {}, {}, NOBODY),
        ({"occupancy": False, "presence": True}, {}, {}, Attendance(counted=True, kept=True)),
        ({"presence": True}, {}, {"announced": False}, NOBODY),
        ({"join_leave": True}, {}, {}, Attendance(counted=True, kept=True, told=True)),
        ({"join_leave": True}, {}, {"announced": False}, Attendance(told=True)),
        ({"join_leave": True}, {}, {"announced": False, "wishes": True}, Attendance(told=True, hears=True)),
        ({"presence": True}, {}, {"wishes": True}, Attendance(counted=True, kept=True)),
        (ALL, {}, {}, Attendance(counted=True, kept=True, told=True, hears=True)),
        (ALL, {"presence": False}, {}, Attendance(counted=True, told=True, hears=True)),
        (ALL, {"join_leave": False}, {}, Attendance(counted=True, kept=True, hears=True, by_token=True)),
        (ALL, {"force_push_join_leave": False}, {}, Attendance(counted=True, kept=True, told=True)),
        (
            {},
            {"presence": True, "join_leave": True},
            {},
            Attendance(counted=True, kept=True, told=True, by_token=True),
        ),
        (ALL, {"presence": False, "join_leave": False}, {}, Attendance(counted=True, hears=True)),
        ({}, {"force_push_join_leave": True}, {"announced": False}, Attendance(hears=True)),
    ],
    ids=str,
)
def test_namespace_token_and_wish_decide(
    options: dict[str, Any], override: dict[str, bool], verdict: dict[str, bool], expected: Attendance
) -> None:
    """The token's word counts before the namespace's; all subscriptions share one object of each kind."""
    found = attendance(options, Override(**override), **verdict)
    assert found == expected
    assert found is attendance(options, Override(**override), **verdict)
    assert (found is NOBODY) == (expected == NOBODY)


def test_patterns_are_no_channels() -> None:
    """Nobody is in one."""
    assert attendance({**ALL, "allow_wildcards": True}, channel="stocks.*", wishes=True) is NOBODY
    assert attendance(ALL, channel="stocks.*") is not NOBODY
