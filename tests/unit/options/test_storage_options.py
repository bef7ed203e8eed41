from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.support.config import KEY, problems
from tidewire.kernel.config import decode
from tidewire.options.storage_options import StorageConfig, StorageProfile


def profile(**settings: object) -> dict[str, object]:
    """A configuration with one storage profile."""
    return {**KEY, "storage": {"profiles": [settings]}}


@pytest.mark.parametrize("name", ["", "Fast", "a_b", "-a", "a-", "a.b", "a*", "a b", "ä", "a" * 33])
def test_names_fit_into_the_names_of_streams(name: str) -> None:
    """A dot, a wildcard or a space would be another subject of JetStream's API."""
    [line] = problems(profile(name=name))
    assert line.startswith("storage.profiles[0].name: ")


@pytest.mark.parametrize("name", ["a", "fast", "r3-file", "0", "a" * 32])
def test_good_names_pass(name: str) -> None:
    """Lower-case letters and digits, and `-` between them."""
    assert decode(StorageConfig, {"profiles": [{"name": name}]}).find(name) is not None


@pytest.mark.parametrize(
    ("config", "line"),
    [
        ({**KEY, "storage": {"profiles": []}}, "storage.profiles: expected at least 1 item"),
        (
            {**KEY, "storage": {"profiles": [{}, {"name": "b"}, {}]}},
            "storage.profiles[2].name: 'default' is profiles[0] already",
        ),
        (profile(storage="disk"), "storage.profiles[0].storage: expected one of file, memory, got 'disk'"),
        (profile(replicas=0), "storage.profiles[0].replicas: expected int >= 1"),
        (profile(replicas=6), "storage.profiles[0].replicas: expected int <= 5"),
        (profile(max_age="500ms"), "storage.profiles[0].max_age: expected at least 1s, got 500ms"),
        (profile(max_messages=99), "storage.profiles[0].max_messages: expected int >= 100"),
        (profile(max_bytes=-1), "storage.profiles[0].max_bytes: expected int >= 0"),
        (
            profile(duplicate_window="9s"),
            "storage.profiles[0].duplicate_window: expected at least 10s, got 9s",
        ),
        (
            profile(max_age="20s"),
            "storage.profiles[0].duplicate_window: may not be longer than max_age",
        ),
        (
            profile(duplicate_window="2h"),
            "storage.profiles[0].duplicate_window: expected at most 1h, got 2h",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_rules_are_checked(config: Mapping[str, object], line: str) -> None:
    """Each rule about a profile has its problem, with the path of the setting."""
    assert line in problems(config)


@pytest.mark.parametrize(
    ("storage", "message_ttl", "recoverable"),
    [("file", False, True), ("file", True, False), ("memory", False, False), ("memory", True, False)],
)
def test_positions_are_proven_where_messages_go_oldest_first_and_survive(
    storage: str, message_ttl: bool, recoverable: bool
) -> None:
    """Nothing may end in the middle, and nothing may count anew."""
    settings = {"storage": storage, "message_ttl": message_ttl}
    assert decode(StorageProfile, settings).recoverable is recoverable


def test_a_profile_that_is_not_there_is_not_found() -> None:
    """The default one is, without a line of configuration."""
    assert StorageConfig().find("fast") is None
    assert StorageConfig().find("default") == StorageProfile()
