from __future__ import annotations

from typing import Any

from prometheus_client.metrics_core import Metric

from tests.fakes.clock import ManualClock
from tests.fakes.edge import rules
from tidewire.edge.cache_telemetry import cache_metrics
from tidewire.kernel.subjects import SUBJECT_CACHE, in_subject


def values(family: Metric) -> dict[Any, float]:
    """By cache."""
    return {sample.labels["cache"]: sample.value for sample in family.samples}


def test_each_cache_tells_its_entries_and_its_bound() -> None:
    """Of pure functions, for the whole process; that of namespaces begins anew with each configuration."""
    known = rules(ManualClock())
    entries, bounds = cache_metrics(known)
    in_subject.cache_clear()
    assert values(entries.collect())["channel_subjects"] == 0
    assert values(entries.collect())["channel_namespaces"] == 0
    in_subject("chat:a", 16)
    known.namespaces.find("chat:a")
    known.namespaces.find("chat:b")
    assert values(entries.collect())["channel_subjects"] == 1
    assert values(entries.collect())["channel_namespaces"] == 2
    assert values(bounds.collect())["channel_subjects"] == SUBJECT_CACHE
    assert all(values(bounds.collect()).values())
    assert values(bounds.collect()).keys() == values(entries.collect()).keys()
