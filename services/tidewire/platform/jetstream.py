"""The JetStream API over a NATS link: a request of JSON, an answer of JSON, and its errors as one exception."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import msgspec

from tidewire.kernel.errors import TidewireError
from tidewire.platform.nats_link import NatsLink
from tidewire.platform.nats_types import NO_RESPONDERS, LinkError

API: Final = "$JS.API."
STREAM_NOT_FOUND: Final = 10059
WRONG_SEQUENCE: Final = frozenset({10071, 10164})
"""What was to follow a certain message does not, and is not stored. A stream of several replicas mostly says the second, which
does not name the last one: while it stores another message of the subject."""


class JetStreamError(TidewireError):
    """JetStream said no (`code`, like an HTTP status, and `err_code`, its own), or nothing (`code` 503, `err_code` 0)."""

    def __init__(self, code: int, err_code: int, description: str) -> None:
        self.code = code
        self.err_code = err_code
        self.description = description
        super().__init__(f"{description} ({code}, {err_code})" if err_code else description)


class UnansweredError(JetStreamError):
    """There was no answer in time: what was asked may have been done, or not."""

    def __init__(self, subject: str, timeout: float) -> None:
        super().__init__(503, 0, f"{subject}: no answer within {timeout:g} s")


class NoJetStream(JetStreamError):
    """Nobody answers: JetStream is off, or the user lacks the right."""


class NoLeaderError(JetStreamError):
    """A stream has no leader now: what its copies say of themselves is no news of the stream."""

    def __init__(self, stream: str) -> None:
        super().__init__(503, 0, f"{stream} has no leader")


def said_by_leader(info: dict[str, Any]) -> dict[str, Any]:
    """Return an answer of STREAM.INFO that a leader gave. Raises NoLeaderError for any other.

    Where a stream has had no leader for some seconds each server that has a copy answers, from that copy: it may be
    behind, or empty, as one in memory after a restart (nats-server 2.15, `jsStreamInfoRequest`). A single server names none.
    """
    cluster = info.get("cluster")
    if cluster is not None and not cluster.get("leader"):
        raise NoLeaderError(info["config"]["name"])
    return info


class JetStream:
    """Calls JetStream on behalf of a link's user. `timeout` in seconds is for each call."""

    def __init__(self, link: NatsLink, timeout: float = 5.0) -> None:
        self._link = link
        self._timeout = timeout

    async def call(self, name: str, request: object = None) -> dict[str, Any]:
        """Return the answer of `$JS.API.<name>` (`STREAM.INFO.TW_default_0`) to `request`, plain data.

        Raises JetStreamError, NoJetStream where nobody answers.
        """
        header, payload = await self.ask(
            f"{API}{name}", b"" if request is None else msgspec.json.encode(request)
        )
        if header.startswith(NO_RESPONDERS) and not payload:
            raise NoJetStream(
                503,
                0,
                f"{name}: JetStream is not there for this user: turn it on in nats-server's configuration (jetstream)",
            )
        try:
            answer = msgspec.json.decode(payload, type=dict[str, Any])
        except msgspec.DecodeError:
            raise JetStreamError(503, 0, f"{name}: not an answer of JetStream") from None
        error = answer.get("error")
        if error is not None:
            raise JetStreamError(
                error.get("code", 500), error.get("err_code", 0), error.get("description", "")
            )
        return answer

    async def ask(self, subject: str, request: bytes, header: bytes = b"") -> tuple[bytes, bytes]:
        """Return the first answer to a request, header and payload. Raises JetStreamError when there is none in time."""
        answered: asyncio.Future[tuple[bytes | None, bytes]] = asyncio.get_running_loop().create_future()

        def take(block: bytes | None, payload: bytes) -> None:
            if not answered.done():
                answered.set_result((block, payload))

        try:
            self._link.request(subject.encode(), request, header, self._timeout, take)
        except LinkError as error:
            raise JetStreamError(503, 0, str(error)) from error
        block, payload = await answered
        if block is None:
            raise UnansweredError(subject, self._timeout)
        return block, payload
