from __future__ import annotations

from typing import Any

import pytest

from tests.fakes.clock import ManualClock
from tests.fakes.edge import edge_config
from tests.support.protocol import protocol
from tidewire.edge import rules as rules_module
from tidewire.edge.rules import Rules
from tidewire.kernel.errors import ReplyError


def made(**changes: Any) -> Rules:
    """Rules of a configuration."""
    return Rules(edge_config(**changes), ManualClock(), "9.8.7")


def test_limits_are_those_of_the_configuration_in_seconds_and_counts() -> None:
    """No unit is converted on the way."""
    rules = made(
        client={
            "channel_limit": 3,
            "inflight_limit": 4,
            "ping_interval": "10s",
            "pong_timeout": "2s",
            "expired_close_delay": "500ms",
            "expired_sub_close_delay": "1500ms",
            "single_connection": "refuse",
            "allow_anonymous_connect_without_token": True,
        }
    )
    assert (rules.version, rules.channel_limit, rules.inflight_limit) == ("9.8.7", 3, 4)
    assert (rules.ping_seconds, rules.expired_close_delay, rules.allow_anonymous) == (10, 0.5, True)
    assert (rules.expired_sub_close_delay, rules.single_connection) == (1.5, "refuse")
    assert not made().allow_anonymous
    assert made().single_connection == "off"


@protocol("command.send")
@pytest.mark.parametrize(
    ("send", "named", "anonymous"),
    [
        ({}, False, False),
        ({"allow_for_anonymous": True}, False, False),
        ({"enabled": True}, True, False),
        ({"enabled": True, "allow_for_anonymous": True}, True, True),
    ],
)
def test_may_send(send: dict[str, bool], named: bool, anonymous: bool) -> None:
    """Off by default; anonymous users need their own flag on top."""
    assert made(send=send).may_send("alice") is named
    assert made(send=send).may_send("") is anonymous


@pytest.mark.parametrize(
    ("personal", "user", "channel"),
    [
        ({}, "alice", None),
        ({"enabled": True}, "", None),
        ({"enabled": True}, "alice", "#alice"),
        ({"enabled": True, "namespace": "users"}, "alice", "users:#alice"),
        ({"namespace": "users"}, "alice", None),
    ],
)
def test_personal_channel(personal: dict[str, Any], user: str, channel: str | None) -> None:
    """For users with a name, where it is on."""
    assert made(client={"subscribe_to_user_personal_channel": personal}).personal_channel(user) == channel


@pytest.mark.parametrize("user", ["a,b", "a#b", "#", ",", "a,"])
def test_user_id_that_would_name_others_has_no_personal_channel(user: str) -> None:
    """Text behind the last `#` is a list of users."""
    rules = made(client={"subscribe_to_user_personal_channel": {"enabled": True, "namespace": "users"}})
    found = rules.personal_channel(user)
    assert isinstance(found, ReplyError)
    assert found.code == 107


def test_configure_that_fails_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions never meet the limits of one configuration with the policies of another."""
    found = made()
    before = {name: getattr(found, name) for name in Rules.__slots__}

    def fail(_config: object) -> None:
        raise RuntimeError("a mistake")

    monkeypatch.setattr(rules_module, "RpcPolicy", fail)
    with pytest.raises(RuntimeError):
        found.configure(edge_config(client={"channel_limit": 3}, send={"enabled": True}))
    assert {name: getattr(found, name) for name in Rules.__slots__} == before
