from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from prometheus_client.core import Metric

from tidewire.platform.exposition import Collection, Merge, Snapshot, decode
from tidewire.platform.metrics import Counter, Gauge, Histogram, Registry

Exposed = Counter | Histogram | Gauge
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def snapshot(*metrics: Exposed, life: str = "first") -> Snapshot:
    """What a worker with these metrics answers, as it comes off the wire."""
    registry = Registry()
    registry.add(metrics)
    found = decode(registry.snapshot())
    return Snapshot(life, found.families)


def counter(value: float, *labels: str) -> Counter:
    """A counter of things."""
    made = Counter("things", "Things.", ["kind"] if labels else [])
    made.inc(value, labels)
    return made


def gauge(value: float, merge: Merge = Merge.SUM) -> Gauge:
    """A gauge of a level."""
    return Gauge("level", "A level.", lambda: value, merge=merge)


def samples(families: Sequence[Metric], name: str) -> Samples:
    """Values of one family by name and labels."""
    found = next((each for each in families if each.name == name), None)
    if found is None:
        return {}
    return {(each.name, tuple(each.labels.items())): each.value for each in found.samples}


def merged(collection: Collection, **answers: Snapshot | None) -> list[Metric]:
    """One scrape."""
    return list(collection.merged(answers))


def total(families: Sequence[Metric]) -> float:
    """The things of all workers."""
    return samples(families, "things")["things_total", ()]


def test_counters_are_summed_for_each_combination_of_labels() -> None:
    """Also those that one worker alone has; the type and the help stay."""
    both = merged(Collection(), a=snapshot(counter(1, "x"), counter(0, "z")), b=snapshot(counter(2, "x")))
    assert samples(both, "things")["things_total", (("kind", "x"),)] == 3
    (family,) = [each for each in both if each.name == "things"]
    assert (family.type, family.documentation) == ("counter", "Things.")


def test_histograms_are_summed_bucket_by_bucket() -> None:
    """So that quantiles are those of all workers together."""
    made = []
    for value in (0.5, 5.0):
        histogram = Histogram("seconds", "Time.", (1.0, 10.0))
        histogram.observe(value)
        made.append(snapshot(histogram))
    found = samples(merged(Collection(), a=made[0], b=made[1]), "seconds")
    buckets = [found["seconds_bucket", (("le", bound),)] for bound in ("1.0", "10.0", "+Inf")]
    assert buckets == [1, 2, 2]
    assert (found["seconds_count", ()], found["seconds_sum", ()]) == (2, 5.5)


@pytest.mark.parametrize(("rule", "expected"), [(Merge.SUM, 7), (Merge.MIN, 3), (Merge.MAX, 4)])
def test_a_gauge_says_what_its_values_are_together(rule: Merge, expected: float) -> None:
    """Sum unless it says otherwise."""
    both = merged(Collection(), a=snapshot(gauge(3, rule)), b=snapshot(gauge(4, rule)))
    assert samples(both, "level") == {("level", ()): expected}


def test_infinity_survives() -> None:
    """The age of what never was."""
    found = merged(Collection(), a=snapshot(gauge(math.inf, Merge.MAX)), b=snapshot(gauge(1, Merge.MAX)))
    assert samples(found, "level") == {("level", ()): math.inf}


def test_what_belongs_to_a_process_is_kept_apart() -> None:
    """With the worker as label, and no sum."""
    found = merged(Collection(), a=snapshot(), b=snapshot())
    memory = samples(found, "process_resident_memory_bytes")
    assert list(memory) == [("process_resident_memory_bytes", (("worker", each),)) for each in "ab"]


def test_a_silent_worker_keeps_its_counts_and_loses_its_gauges() -> None:
    """A sum that went back would be a restart to Prometheus; a level that is not known is none."""
    collection = Collection()
    b = snapshot(counter(2), gauge(2))
    assert total(merged(collection, a=snapshot(counter(1), gauge(1)), b=b)) == 3
    found = merged(collection, a=None, b=b)
    assert total(found) == 3
    assert samples(found, "level") == {("level", ()): 2}
    assert [labels for _, labels in samples(found, "process_open_fds")] == [(("worker", "b"),)]


def test_counts_of_ended_workers_stay_in_the_sum() -> None:
    """Over any number of lives, and each of them once; those of the process itself begin anew."""
    collection = Collection()
    for life in ("first", "second", "third"):
        for value in (4, 5):
            merged(collection, a=snapshot(counter(value), gauge(value), life=life))
    found = merged(collection, a=snapshot(counter(1), gauge(1), life="fourth"))
    assert total(found) == 16
    assert samples(found, "level") == {("level", ()): 1}
    assert samples(found, "process_cpu_seconds")["process_cpu_seconds_total", (("worker", "a"),)] < 1e6
    assert len(samples(found, "process_cpu_seconds")) == 1


def test_who_never_answered_is_in_nothing() -> None:
    """A worker that has just been started."""
    assert total(merged(Collection(), a=snapshot(counter(1)), b=None)) == 1
