from __future__ import annotations

from typing import Any

import msgspec

from tests.fakes.edge import OPEN, edge_config
from tests.fakes.log import RecordingLog
from tidewire.edge.agreement import Agreement
from tidewire.kernel.meta import Meta, MetaError

HISTORY = {"history_size": 10, "history_ttl": "1m"}
META = Meta(partitions=16, namespaces={"kept": "default", "more": "default"}, secret="ab" * 32)


def config(profile: str = "default") -> Any:
    """Two namespaces with history, one without."""
    return edge_config(
        channel={
            "namespaces": [
                {"name": "kept", **OPEN, **HISTORY, "storage_profile": profile},
                {"name": "more", **OPEN, **HISTORY},
                {"name": "live", **OPEN},
            ]
        },
        storage={"profiles": [{"name": "default"}, {"name": "other"}]},
    )


class Streams:
    """What an agreement sets."""

    moving: frozenset[str] = frozenset()
    secret = b""

    def trust(self, secret: bytes) -> None:
        self.secret = secret


class Stage:
    """An agreement that was not started."""

    def __init__(self) -> None:
        self.streams: Any = Streams()
        self.log: Any = RecordingLog()
        link: Any = None
        self.agreement = Agreement(link, self.streams, config(), self.log)


def test_the_record_gives_the_secret_and_says_what_moves() -> None:
    """And a newer one says when it has moved."""
    stage = Stage()
    stage.agreement._take(META)
    assert (stage.streams.secret, stage.streams.moving) == (b"\xab" * 32, frozenset())
    stage.agreement._take(msgspec.structs.replace(META, moving=("kept",)))
    assert stage.streams.moving == {"kept"}
    stage.agreement._take(META)
    assert (stage.streams.moving, stage.log.events) == (frozenset(), [])


def test_a_namespace_that_is_elsewhere_takes_nothing() -> None:
    """Its publications would go to the wrong stream, or to none."""
    stage = Stage()
    stage.agreement._take(META)
    stage.agreement.follow(config("other"))
    assert stage.streams.moving == {"kept"}
    assert stage.log.events == ["meta.disagrees"]
    stage.agreement._take(msgspec.structs.replace(META, namespaces={"kept": "other"}))
    assert stage.streams.moving == {"more"}
    stage.agreement.follow(config())
    assert stage.streams.moving == {"kept", "more"}


def test_before_there_is_a_record_nothing_is_taken() -> None:
    """Without its secret no id can be made."""
    stage = Stage()
    stage.agreement.follow(config())
    assert stage.streams.moving == {"kept", "more"}
    stage.agreement._misread(MetaError("a newer one"))
    assert stage.log.lines == [("error", "meta.unreadable", {"error": "a newer one"})]
