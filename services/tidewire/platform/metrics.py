"""Metrics as plain numbers, turned into Prometheus families only when somebody scrapes.

The client library's own counters take a lock for each increment; an edge counts millions a second in one thread, so the
numbers are kept here and the library does what it is good at: naming, escaping and exposition.
"""

from __future__ import annotations

import secrets
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.utils import floatToGoString

from tidewire.platform.exposition import Merge, Snapshot, encode, family

CONTENT_TYPE = CONTENT_TYPE_LATEST
LATENCY_BUCKETS = (
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
)
"""Seconds; the upper ends lie around the 50 ms and 100 ms that applications are promised."""

Read = Callable[[], "float | Mapping[tuple[str, ...], float]"]


class Counter:
    """A number that only grows, one for each combination of label values."""

    __slots__ = ("_help", "_labels", "_name", "values")

    def __init__(self, name: str, help_text: str, labels: Sequence[str] = ()) -> None:
        self._name = name
        self._help = help_text
        self._labels = tuple(labels)
        self.values: defaultdict[tuple[str, ...], float] = defaultdict(float)
        if not labels:
            self.values[()] = 0.0

    def inc(self, amount: float = 1, labels: tuple[str, ...] = ()) -> None:
        """Add to the number of these label values."""
        self.values[labels] += amount

    def collect(self) -> Metric:
        """Return the Prometheus family."""
        family = CounterMetricFamily(self._name, self._help, labels=self._labels)
        for labels, value in self.values.items():
            family.add_metric(labels, value)
        return family


class Histogram:
    """How often values fell where, one histogram for each combination of label values."""

    __slots__ = ("_bounds", "_help", "_labels", "_name", "_series")

    def __init__(
        self, name: str, help_text: str, bounds: Sequence[float] = LATENCY_BUCKETS, labels: Sequence[str] = ()
    ) -> None:
        self._name = name
        self._help = help_text
        self._bounds = tuple(bounds)
        self._labels = tuple(labels)
        self._series: dict[tuple[str, ...], list[float]] = {}
        if not labels:
            self._series[()] = self._empty()

    def observe(self, value: float, labels: tuple[str, ...] = (), count: int = 1) -> None:
        """Note a value, or so many that are equal."""
        series = self._series.get(labels)
        if series is None:
            series = self._series[labels] = self._empty()
        series[bisect_left(self._bounds, value)] += count
        series[-1] += value * count

    def _empty(self) -> list[float]:
        return [0.0] * (len(self._bounds) + 2)  # a count for each bucket, one above them all, and the sum

    def collect(self) -> Metric:
        """Return the Prometheus family."""
        family = HistogramMetricFamily(self._name, self._help, labels=self._labels)
        names = [*map(floatToGoString, self._bounds), "+Inf"]
        for labels, series in self._series.items():
            buckets = list(zip(names, accumulate(series[:-1]), strict=True))
            family.add_metric(labels, buckets, sum_value=series[-1])
        return family


class Gauge:
    """A number that is read when somebody asks; `merge` says what the numbers of several workers are together."""

    __slots__ = ("_help", "_labels", "_name", "_read", "merge")

    def __init__(
        self,
        name: str,
        help_text: str,
        read: Read,
        labels: Sequence[str] = (),
        merge: Merge = Merge.SUM,
    ) -> None:
        self.merge = merge
        self._name = name
        self._help = help_text
        self._read = read
        self._labels = tuple(labels)

    def collect(self) -> Metric:
        """Return the Prometheus family."""
        family = GaugeMetricFamily(self._name, self._help, labels=self._labels)
        value = self._read()
        for labels, number in value.items() if isinstance(value, Mapping) else [((), value)]:
            family.add_metric(labels, number)
        return family


class Total:
    """A number that only grows and is kept elsewhere: read when somebody asks."""

    __slots__ = ("_help", "_labels", "_name", "_read")

    def __init__(self, name: str, help_text: str, read: Read, labels: Sequence[str] = ()) -> None:
        self._name = name
        self._help = help_text
        self._read = read
        self._labels = tuple(labels)

    def collect(self) -> Metric:
        """Return the Prometheus family."""
        family = CounterMetricFamily(self._name, self._help, labels=self._labels)
        value = self._read()
        for labels, number in value.items() if isinstance(value, Mapping) else [((), value)]:
            family.add_metric(labels, number)
        return family


def metrics_of(owner: object) -> list[Counter | Histogram]:
    """Return the counters and histograms that an object has as attributes."""
    return [value for value in vars(owner).values() if isinstance(value, Counter | Histogram)]


class Registry:
    """The metrics of one process, with those of the process itself (memory, CPU, open files and their limit)."""

    def __init__(self) -> None:
        self._metrics: list[Counter | Histogram | Gauge | Total] = []
        self._life = secrets.token_hex(8)
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        self._process = ProcessCollector(registry=self._registry)

    def add(self, metrics: Iterable[Counter | Histogram | Gauge | Total]) -> None:
        """Take metrics into the exposition."""
        self._metrics.extend(metrics)

    def collect(self) -> Iterator[Metric]:
        """Yield every family; prometheus-client's collector interface."""
        for metric in self._metrics:
            yield metric.collect()

    def exposition(self) -> bytes:
        """Return the text that Prometheus scrapes, in CONTENT_TYPE."""
        return generate_latest(self._registry)

    def snapshot(self) -> bytes:
        """Return the same for `exposition.decode`, so that it can be put together with other processes' metrics."""
        ours = [family(metric.collect(), getattr(metric, "merge", Merge.SUM)) for metric in self._metrics]
        process = [family(metric, Merge.EACH) for metric in self._process.collect()]
        return encode(Snapshot(self._life, [*ours, *process]))
