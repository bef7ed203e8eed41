from __future__ import annotations

import math
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from tidewire.platform.metrics import LATENCY_BUCKETS, Counter, Gauge, Histogram, Registry

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def families(*metrics: Counter | Histogram | Gauge) -> dict[str, Metric]:
    """What Prometheus' own parser reads from the exposition, by name."""
    registry = Registry()
    registry.add(metrics)
    found = list(text_string_to_metric_families(registry.exposition().decode()))
    assert len({family.name for family in found}) == len(found)
    return {family.name: family for family in found}


def samples(family: Metric) -> Samples:
    """Values by name and labels."""
    return {(sample.name, tuple(sorted(sample.labels.items()))): sample.value for sample in family.samples}


def value(family: Metric, suffix: str = "", **labels: str) -> float:
    """One value; it must be there."""
    return samples(family)[family.name + suffix, tuple(sorted(labels.items()))]


# Counters.


def test_counter_without_labels_is_there_from_the_start() -> None:
    """So that a rate exists before the first case; it grows by one, or by what is said."""
    counter = Counter("tidewire_things", "Things that happened.")
    assert value(families(counter)["tidewire_things"], "_total") == 0
    counter.inc()
    counter.inc(2.5)
    family = families(counter)["tidewire_things"]
    assert (family.type, family.documentation) == ("counter", "Things that happened.")
    assert value(family, "_total") == 3.5


def test_counter_counts_each_combination_of_labels() -> None:
    """Those that never happened are not there."""
    counter = Counter("tidewire_commands", "x", ["method", "code"])
    assert samples(families(counter)["tidewire_commands"]) == {}
    counter.inc(1, ("publish", "0"))
    counter.inc(2, ("publish", "0"))
    counter.inc(1, ("publish", "100"))
    family = families(counter)["tidewire_commands"]
    assert value(family, "_total", method="publish", code="0") == 3
    assert value(family, "_total", method="publish", code="100") == 1
    assert len(family.samples) == 2


def test_label_values_and_help_are_escaped() -> None:
    """Whatever stands in them."""
    nasty = 'a"b\\c\nd é'
    counter = Counter("tidewire_things", f"Help: {nasty}", ["label"])
    counter.inc(1, (nasty,))
    family = families(counter)["tidewire_things"]
    assert value(family, "_total", label=nasty) == 1
    assert "\\c\nd é" in family.documentation


# Histograms.


def test_histogram_without_labels_is_there_from_the_start() -> None:
    """With every bucket at zero."""
    family = families(Histogram("tidewire_seconds", "x"))["tidewire_seconds"]
    assert family.type == "histogram"
    bounds = [sample.labels["le"] for sample in family.samples if sample.name.endswith("_bucket")]
    assert [float(bound) for bound in bounds] == [*LATENCY_BUCKETS, math.inf]
    assert set(samples(family).values()) == {0}


def test_value_on_a_bound_belongs_to_it() -> None:
    """`le` is less or equal."""
    histogram = Histogram("tidewire_sizes", "x", bounds=(1, 10, 100))
    for number in (0, 1, 1.5, 10, 100, 101, 1e9):
        histogram.observe(number)
    family = families(histogram)["tidewire_sizes"]
    buckets = [value(family, "_bucket", le=bound) for bound in ("1.0", "10.0", "100.0", "+Inf")]
    assert buckets == [2, 4, 5, 7]
    assert value(family, "_count") == 7
    assert value(family, "_sum") == 213.5 + 1e9


def test_values_that_are_equal_are_noted_together() -> None:
    """As if each were noted by itself, also where that is the first of its labels."""
    together, each = (Histogram("tidewire_sizes", "x", bounds=(1, 10), labels=["method"]) for _ in range(2))
    for number, count in ((0.5, 3), (10, 2), (11, 4), (10, 1)):
        together.observe(number, ("publish",), count)
        for _ in range(count):
            each.observe(number, ("publish",))
    family = families(together)["tidewire_sizes"]
    assert value(family, "_count", method="publish") == 10
    assert value(family, "_sum", method="publish") == 75.5
    assert samples(family) == samples(families(each)["tidewire_sizes"])


def test_histogram_keeps_labels_apart() -> None:
    """One histogram for each combination."""
    histogram = Histogram("tidewire_seconds", "x", bounds=(1.0,), labels=["method"])
    histogram.observe(0.5, ("publish",))
    histogram.observe(2.0, ("rpc",))
    family = families(histogram)["tidewire_seconds"]
    assert value(family, "_bucket", method="publish", le="1.0") == 1
    assert value(family, "_bucket", method="rpc", le="1.0") == 0
    assert value(family, "_bucket", method="rpc", le="+Inf") == 1
    assert value(family, "_sum", method="rpc") == 2.0


@given(st.lists(st.floats(0, 20, allow_nan=False)))
def test_buckets_are_cumulative(values: list[float]) -> None:
    """Each counts all that lies at or below it; the last is the count."""
    histogram = Histogram("tidewire_seconds", "x")
    for each in values:
        histogram.observe(each)
    family = families(histogram)["tidewire_seconds"]
    for bound in (*LATENCY_BUCKETS, math.inf):
        le = "+Inf" if bound == math.inf else repr(bound)
        assert value(family, "_bucket", le=le) == sum(each <= bound for each in values)
    assert value(family, "_count") == len(values)
    assert value(family, "_sum") == pytest.approx(sum(values))


# Gauges.


def test_gauge_is_read_at_each_scrape() -> None:
    """Not when it is made."""
    numbers = iter([1.0, 2.0])
    gauge = Gauge("tidewire_connections", "x", lambda: next(numbers))
    registry = Registry()
    registry.add([gauge])
    assert b"tidewire_connections 1.0" in registry.exposition()
    assert b"tidewire_connections 2.0" in registry.exposition()


def test_gauge_may_have_labels() -> None:
    """A mapping of label values to numbers."""
    read: Mapping[tuple[str, ...], float] = {("0.1.0",): 1.0, ("0.2.0",): 2.0}
    family = families(Gauge("tidewire_build_info", "x", lambda: read, ["version"]))["tidewire_build_info"]
    assert family.type == "gauge"
    assert value(family, version="0.1.0") == 1
    assert value(family, version="0.2.0") == 2


# The process.


def test_process_is_measured_too() -> None:
    """Memory, CPU, open files and their limit."""
    found = families()
    assert value(found["process_resident_memory_bytes"]) > 1_000_000
    assert value(found["process_cpu_seconds"], "_total") > 0
    assert value(found["process_open_fds"]) > 0
    assert value(found["process_max_fds"]) >= value(found["process_open_fds"])


def test_registries_are_apart() -> None:
    """Two apps in one process do not meet, so tests do not either."""
    assert "tidewire_things" in families(Counter("tidewire_things", "x"))
    assert "tidewire_things" not in families()
