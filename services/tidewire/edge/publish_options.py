"""Settings of publishing to namespaces with history."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from tidewire.kernel.config import SHARED, Section


class PublishConfig(Section, frozen=True, kw_only=True):
    """Publications to namespaces with history, until JetStream has acknowledged them."""

    queue_max_size: Annotated[
        int,
        Meta(
            ge=0,
            description="Most bytes of one connection's publications on one channel that may wait for JetStream to acknowledge "
            "an earlier one (their number: `client.inflight_limit`). Further ones get error 111.",
        ),
    ] = 1048576
    unconfirmed_limit: Annotated[
        int,
        Meta(
            ge=1,
            description="Most publications of all clients that wait or are not acknowledged yet. Further ones get error 111. One "
            "stream may hold as many as are free at that moment: half of them, where it alone does not answer.",
            extra=SHARED,
        ),
    ] = 65536
    unconfirmed_max_size: Annotated[
        int,
        Meta(
            ge=1024,
            description="Most bytes of those, and of one stream's as for their number. Further ones get error 111.",
            extra=SHARED,
        ),
    ] = 67108864
