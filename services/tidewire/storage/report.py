"""A plan as lines for a person: streams of a profile for which the same is done are one line. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tidewire.kernel.streams import parts_of
from tidewire.storage.steps import Step

_STREAM_WIDTH = 24


def lines(steps: Iterable[Step]) -> Iterator[str]:
    """Yield the lines of steps in the order in which the first of each comes."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for step in steps:
        parts = parts_of(step.stream)
        groups.setdefault((step.verb, parts[0] if parts else step.stream, step.text), []).append(step.stream)
    for (verb, _, text), streams in groups.items():
        yield f"{verb:<7} {_span(streams):<{_STREAM_WIDTH}} {text}".rstrip()


def _span(streams: list[str]) -> str:
    """`TW_default_0 to 15`, or all names where some are left out."""
    names = list(dict.fromkeys(streams))
    numbers = [parts[1] for name in names if (parts := parts_of(name)) is not None]
    if len(names) > 1 and numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"{names[0]} to {numbers[-1]}"
    return ", ".join(names)
