"""One exposition of several processes: what each of them counts is taken apart, and put together by rule.

Counters and histograms are summed, over workers that have ended and over one that does not answer too: a sum that went
back would look like a restart to Prometheus, and every rate over it would leap. Each gauge says itself what becomes of it
(`Merge`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from operator import add

import msgspec
from prometheus_client.core import Metric
from prometheus_client.samples import Sample as Exposed

WORKER = "worker"
"""The label of what is kept apart."""


class Merge(Enum):
    """What several processes' values of one gauge are together."""

    SUM = "sum"
    """So many in all: connections, bytes that wait."""
    MIN = "min"
    """As good as the worst of them: 1 while every one is connected, the oldest time of a success."""
    MAX = "max"
    """As bad as the worst of them (ages), or the same everywhere (`..._info`)."""
    EACH = "each"
    """Each for itself, with the label `worker`: memory, CPU time, files of a process."""


CUMULATIVE = frozenset({"counter", "histogram"})
_REDUCE: Mapping[Merge, Callable[[float, float], float]] = {
    Merge.SUM: add,
    Merge.EACH: add,
    Merge.MIN: min,
    Merge.MAX: max,
}

Labels = tuple[tuple[str, str], ...]
Key = tuple[str, Labels]
"""A sample's name and labels."""


class Family(msgspec.Struct, array_like=True):
    """The samples of one metric, as one process has them."""

    name: str
    help: str
    type: str
    merge: Merge
    samples: dict[Key, float]

    @property
    def adds_up(self) -> bool:
        """Whether it may never go back, so that what was counted once is kept."""
        return self.type in CUMULATIVE and self.merge is not Merge.EACH


class Snapshot(msgspec.Struct, array_like=True):
    """Everything that one process exposes. `life` is another one after each start."""

    life: str
    families: list[Family]


encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(Snapshot).decode


def family(metric: Metric, merge: Merge) -> Family:
    """Return what a collector yields, as data."""
    samples = {(each.name, tuple(each.labels.items())): float(each.value) for each in metric.samples}
    return Family(metric.name, metric.documentation, metric.type, merge, samples)


class Collection:
    """The latest snapshot of each worker, and what those that have ended had counted."""

    def __init__(self) -> None:
        self._latest: dict[str, Snapshot] = {}
        self._past: dict[str, Family] = {}

    def merged(self, answers: Mapping[str, Snapshot | None]) -> Iterator[Metric]:
        """Take in what each worker answered to one scrape (None: nothing in time), and yield the families of all together."""
        for worker, snapshot in answers.items():
            if snapshot is not None:
                self._take(worker, snapshot)
        yield from map(_metric, self._together(answers).values())

    def _take(self, worker: str, snapshot: Snapshot) -> None:
        before = self._latest.get(worker)
        if before is not None and before.life != snapshot.life:
            for each in before.families:
                if each.adds_up:
                    _add(self._past, each)
        self._latest[worker] = snapshot

    def _together(self, answers: Mapping[str, Snapshot | None]) -> dict[str, Family]:
        found: dict[str, Family] = {}
        for each in self._past.values():
            _add(found, each)
        for worker, snapshot in self._latest.items():
            answered = answers.get(worker) is not None
            for each in snapshot.families:
                if answered or each.adds_up:
                    _add(found, _apart(each, worker) if each.merge is Merge.EACH else each)
        return found


def _add(into: dict[str, Family], more: Family) -> None:
    target = into.get(more.name)
    if target is None:
        into[more.name] = msgspec.structs.replace(more, samples=dict(more.samples))
        return
    reduce = _REDUCE[more.merge]
    for key, value in more.samples.items():
        target.samples[key] = reduce(target.samples[key], value) if key in target.samples else value


def _apart(each: Family, worker: str) -> Family:
    samples = {(name, (*labels, (WORKER, worker))): value for (name, labels), value in each.samples.items()}
    return msgspec.structs.replace(each, samples=samples)


def _metric(each: Family) -> Metric:
    metric = Metric(each.name, each.help, each.type)
    metric.samples = [Exposed(name, dict(labels), value) for (name, labels), value in each.samples.items()]
    return metric
