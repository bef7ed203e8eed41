"""Asks each NATS server of the configuration, as an edge would and with the edge's rights; nothing there is changed."""

from __future__ import annotations

import asyncio
import json
import secrets
import ssl
import time
from datetime import datetime
from functools import partial
from typing import Final, TypeVar

import msgspec

from tidewire.doctor.facts import NatsFacts
from tidewire.doctor.rights import FORGE, Right, needed
from tidewire.edge.adapters.mapping import Mapping, Sample, sample
from tidewire.edge.config import NatsConfig
from tidewire.options.nats_options import ANONYMOUS, link_options
from tidewire.platform.nats_link import NatsLink
from tidewire.platform.nats_server import ServerInfo
from tidewire.platform.nats_types import DeafListener, LinkError

T = TypeVar("T")

SERVER_TIMEOUT: Final = 20.0
"""Seconds for all questions to one server."""
CONNECT_TIMEOUT: Final = 2.0
"""The most that one attempt to connect may take here, whatever nats.connect_timeout says."""
ANSWER_TIMEOUT: Final = 2.0
SAMPLES: Final = 4
"""Of 8 nonces each: with 8 alone, one in 256 servers with twice the partitions would look right."""
MOST_PARTITIONS: Final = 1024
TRACES_SINCE: Final = (2, 11)
"""The version of nats-server that can trace a message without delivering it."""
USER_INFO: Final = b"$SYS.REQ.USER.INFO"


async def read_nats(config: NatsConfig) -> tuple[NatsFacts, ...]:
    """Return the facts of each server in `nats.urls`, all asked at once."""
    return tuple(await asyncio.gather(*(_read_server(config, url) for url in config.urls)))


async def _read_server(config: NatsConfig, url: str) -> NatsFacts:
    options = msgspec.structs.replace(
        link_options(config, "doctor"),
        urls=(url,),
        name="tidewire-doctor",
        connect_timeout=min(config.connect_timeout, CONNECT_TIMEOUT),
    )
    try:
        link = NatsLink(options, DeafListener())
    except LinkError as error:
        return NatsFacts(server=url, problem=str(error))
    try:
        async with asyncio.timeout(SERVER_TIMEOUT):
            await link.start()
            return await _ask(link, url, config)
    except LinkError as error:
        return NatsFacts(server=url, problem=str(error))
    except TimeoutError:
        return NatsFacts(server=url, problem=f"did not answer every question within {SERVER_TIMEOUT:g} s")
    finally:
        await link.close()


async def _ask(link: NatsLink, url: str, config: NatsConfig) -> NatsFacts:
    info = ServerInfo.read(link.nc.server_info)
    missing, untried = await _rights(link, config.user or ANONYMOUS, traces=_traces(info.version))
    skew, skew_error = await _skew(link)
    return NatsFacts(
        server=url,
        version=info.version,
        jetstream=info.jetstream,
        max_payload=info.max_payload,
        certificate_end=_certificate_end(link),
        mapped=await _mapped(link, config.partitions),
        missing=missing,
        untried=untried,
        may_forge=await _may(link, FORGE),
        skew=skew,
        skew_error=skew_error,
    )


# ---------------------------------------------------------------------- the mapping


async def _mapped(link: NatsLink, partitions: int) -> int | None:
    """Return how many partitions fit what was seen, 0 where no number does; None: the server did not take the probe."""
    samples = [await sample(link) for _ in range(SAMPLES)]
    found = [one for one in samples if one is not None]
    if len(found) < SAMPLES:
        return None
    whole = Sample(
        frozenset[str]().union(*(one.probed for one in found)),
        frozenset[bytes]().union(*(one.seen for one in found)),
    )
    candidates = (partitions, *range(1, MOST_PARTITIONS + 1))
    return next((number for number in candidates if whole.verdict(number) is Mapping.RIGHT), 0)


# ---------------------------------------------------------------------- rights


async def _rights(link: NatsLink, user: str, *, traces: bool) -> tuple[tuple[Right, ...], tuple[Right, ...]]:
    """Return the rights that the user lacks, and those that could not be tried.

    What backends would hear is published to be traced only: the server judges it and delivers nothing. The trace goes
    to a subject where nobody listens, for which one right must be there.
    """
    missing: list[Right] = []
    untried: list[Right] = []
    trace = b""
    for right in needed(user):
        may = None if right.is_heard and not trace else await _may(link, right, trace)
        if may is None:
            untried.append(right)
        elif not may:
            missing.append(right)
        elif traces and not trace and right.verb == "publish":
            trace = _trace_only(right.trial(secrets.token_hex(8))[0])
    return tuple(missing), tuple(untried)


async def _may(link: NatsLink, right: Right, header: bytes = b"") -> bool | None:
    """Return whether the server lets the user do it; None where it does not answer."""
    nonce = secrets.token_hex(8)
    subject, queue = right.trial(nonce)
    if right.verb == "publish":
        link.publish(subject.encode(), b"", header)
        passed = await _passed(link)
    else:
        handle = link.subscribe(subject.encode(), _ignore, queue.encode())
        passed = await _passed(link)
        link.unsubscribe(handle)
    if passed:
        return True
    return False if nonce in str(link.last_error) else None


async def _passed(link: NatsLink) -> bool:
    verdict: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    link.barrier(partial(_settle, verdict), ANSWER_TIMEOUT)
    return await verdict


def _settle(future: asyncio.Future[T], result: T) -> None:
    """Answer, unless nobody waits any more."""
    if not future.done():
        future.set_result(result)


def _trace_only(destination: str) -> bytes:
    """Return the headers of nats-server's message tracing (ADR-41)."""
    return f"NATS/1.0\r\nNats-Trace-Dest: {destination}\r\nNats-Trace-Only: true\r\n\r\n".encode()


def _traces(version: str) -> bool:
    numbers = [part for part in version.split(".")[:2] if part.isdigit()]
    return tuple(map(int, numbers)) >= TRACES_SINCE


def _ignore(_subject: bytes, _reply: bytes, _header: bytes, _payload: bytes) -> None:
    """Nobody publishes there."""


# ---------------------------------------------------------------------- clock and certificate


async def _skew(link: NatsLink) -> tuple[float | None, float]:
    """Return how far the server's clock is ahead and how exact that is; None where the user may not ask."""
    answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    began = time.time()
    link.request(USER_INFO, b"", b"", ANSWER_TIMEOUT, lambda _header, payload: _settle(answer, payload))
    if not await _passed(link):
        return None, 0.0
    payload = await answer
    half = (time.time() - began) / 2
    try:
        told = datetime.fromisoformat(json.loads(payload)["server"]["time"]).timestamp()
    except (ValueError, KeyError, TypeError):
        return None, 0.0
    return told - began - half, half


def _certificate_end(link: NatsLink) -> float | None:
    tls = link.nc.wire.get_extra_info("ssl_object")
    shown = tls.getpeercert() if tls is not None else None
    return ssl.cert_time_to_seconds(shown["notAfter"]) if shown else None
