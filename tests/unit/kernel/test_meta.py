from __future__ import annotations

import msgspec
import pytest

from tidewire.kernel.meta import Meta, decode_meta, verify
from tidewire.kernel.streams import LAYOUT

META = Meta(partitions=16, namespaces={"chat": "default", "_": "fast"}, secret="5ec4e7")


def changed(**changes: object) -> Meta:
    """The record with changes."""
    return msgspec.structs.replace(META, **changes)


def test_a_process_may_work_where_nothing_differs() -> None:
    """Nor where the cluster knows of more than the process: that was added for others."""
    assert verify(META, 16, {"chat": "default", "_": "fast"}) == []
    assert verify(META, 16, {"chat": "default"}) == []
    assert verify(META, 16, {}) == []


def test_without_history_nothing_is_needed() -> None:
    """But a number of partitions that the cluster has counts for everybody."""
    assert verify(None, 16, {}) == []
    assert verify(META, 8, {}) != []


@pytest.mark.parametrize(
    ("meta", "partitions", "namespaces", "lines"),
    [
        (
            None,
            16,
            {"chat": "default", "_": "fast"},
            [
                (
                    "there is no TW_META in JetStream, and history needs it (namespace chat, namespace _ (channels without one)): "
                    "run `tidewire migrate`"
                )
            ],
        ),
        (
            META,
            8,
            {"chat": "default"},
            ["nats.partitions is 8, and the cluster has 16 for its whole life: set that"],
        ),
        (
            changed(layout=LAYOUT + 1),
            16,
            {},
            [
                (
                    f"the cluster has layout {LAYOUT + 1}, and this release works with {LAYOUT}: run one release everywhere, then "
                    "`tidewire migrate`"
                )
            ],
        ),
        (
            META,
            16,
            {"chat": "fast", "_": "fast"},
            [
                "namespace chat is in profile default, and storage_profile is fast: run `tidewire migrate --move chat`"
            ],
        ),
        (
            META,
            8,
            {"live": "fast", "_": "default"},
            [
                "nats.partitions is 8, and the cluster has 16 for its whole life: set that",
                "namespace live has no stream yet: run `tidewire migrate`",
                (
                    "namespace _ (channels without one) is in profile fast, and storage_profile is default: run `tidewire migrate "
                    "--move _`"
                ),
            ],
        ),
    ],
)
def test_each_mismatch_is_a_line_with_its_cure(
    meta: Meta | None, partitions: int, namespaces: dict[str, str], lines: list[str]
) -> None:
    """One for each, so that all can be mended at once."""
    assert verify(meta, partitions, namespaces) == lines


def test_what_moves_is_in_its_place_again_soon() -> None:
    """A process may start meanwhile: it takes no publications for it."""
    assert verify(changed(moving=("chat",)), 16, {"chat": "fast"}) == []


def test_the_secret_does_not_show() -> None:
    """In a log or a traceback."""
    assert META.secret not in repr(META)


def test_a_record_may_say_more_than_is_known() -> None:
    """What a later release adds without a new version is passed over."""
    record = msgspec.json.encode({**msgspec.to_builtins(META), "more": 1})
    assert decode_meta(record) == META
