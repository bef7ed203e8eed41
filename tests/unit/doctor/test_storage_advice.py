from __future__ import annotations

import pytest

from tests.fakes.doctor import named
from tidewire.doctor.facts import StorageFacts
from tidewire.doctor.findings import Level
from tidewire.doctor.storage_advice import advise_storage

PARTITIONS = "nats.partitions is 8, and the cluster has 16 for its whole life: set that"
CREATE = "create  TW_default_0 to 15       file, 1 copy: chat"
UPDATE = "update  TW_default_0 to 15       takes live"


def test_without_history_nothing_is_said() -> None:
    """Nothing is needed."""
    assert list(advise_storage(StorageFacts())) == []


@pytest.mark.parametrize(
    ("check", "facts", "level", "found"),
    [
        ("TW_META", {}, Level.OK, "as configured: chat"),
        ("TW_META", {"problem": "JetStream is away"}, Level.FAIL, "JetStream is away"),
        ("TW_META", {"differing": (PARTITIONS,)}, Level.FAIL, PARTITIONS),
        ("streams", {"work": None}, Level.SKIP, "this NATS user may not list them"),
        ("streams", {"work": ()}, Level.OK, "as configured"),
        ("streams", {"work": (UPDATE,)}, Level.WARN, "update TW_default_0 to 15 takes live"),
        (
            "streams",
            {"work": (UPDATE, CREATE)},
            Level.FAIL,
            "update TW_default_0 to 15 takes live; create TW_def",
        ),
    ],
)
def test_each_state_has_its_level_and_its_cure(
    check: str, facts: dict[str, object], level: Level, found: str
) -> None:
    """Whoever is told that something is wrong is told why, and what to do."""
    finding = named(list(advise_storage(StorageFacts(namespaces=("chat",), **facts))), check)
    assert finding.level is level
    assert finding.found.startswith(found)
    assert bool(finding.why and finding.do) == (level in {Level.WARN, Level.FAIL})


def test_each_mismatch_is_a_finding_of_its_own() -> None:
    """With the command that mends it; a number of partitions is mended in the configuration alone."""
    facts = StorageFacts(namespaces=("chat",), differing=(PARTITIONS, "namespace chat has no stream yet"))
    numbers, streams, _ = advise_storage(facts)
    assert numbers.do == ("set nats.partitions, and nats-server's mapping",)
    assert streams.do[0].startswith("tidewire migrate --dry-run")
