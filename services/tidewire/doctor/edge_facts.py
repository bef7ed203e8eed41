"""Reads what belongs to an edge's configuration: its files, the issuers' keys, its ports and its pages."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from cryptography import x509

from tidewire.doctor.facts import EdgeFacts, FileFacts, FileKind, KeySetFacts, ListenerFacts
from tidewire.doctor.public_tls_facts import reachable, read_public_tls
from tidewire.edge.config import EdgeConfig, HttpConfig, JwksConfig, needed_payload
from tidewire.edge.policies.jwks import LARGEST_SET, UnusableSet, read_set
from tidewire.options.nats_options import ANONYMOUS
from tidewire.platform.download import DownloadFailed, download
from tidewire.platform.ports import why_not
from tidewire.platform.settings import secret_files

LIVE_TIMEOUT: Final = 2.0
LARGEST_ANSWER: Final = 1024
LARGEST_FILE: Final = 4 << 20
"""Bytes of a certificate file: the system's own bundles have a tenth of it."""
PUBLIC: Final = b"-----BEGIN PUBLIC KEY-----"


async def read_edge(config: EdgeConfig, file: Path | None, environ: Mapping[str, str]) -> EdgeFacts:
    """Return the facts of a configuration that was read from `file` and `environ`. Each key set is fetched once."""
    client = config.client
    trust = (client.token, client.subscription_token)
    sources = {jwks.url: jwks for section in trust for jwks in section.jwks}
    own = [key for section in trust for key in (*section.hmac_keys, *section.public_keys)]
    listeners = await _listeners(config.http)
    key_sets = await asyncio.gather(*map(_key_set, sources.values()))
    return EdgeFacts(
        connection_limit=client.connection_limit,
        needed_payload=needed_payload(config),
        partitions=config.nats.partitions,
        nats_user=config.nats.user or ANONYMOUS,
        node_name=config.node_name,
        pages=config.http.pages,
        pages_problem=_pages_problem(config.http.pages),
        own_keys=len(own) + sum(bool(section.hmac_secret_key) for section in trust),
        anonymous=client.allow_anonymous_connect_without_token,
        key_sets=tuple(key_sets),
        files=tuple(_files(config, list(sources.values()), secret_files(EdgeConfig, file, environ))),
        listeners=listeners,
        tls=await read_public_tls(config.http, listeners[0]),
    )


# ---------------------------------------------------------------------- files


def _files(config: EdgeConfig, sources: list[JwksConfig], secrets: tuple[Path, ...]) -> Iterator[FileFacts]:
    tls = config.nats.tls
    named = {
        "http.tls.key_file": (config.http.tls.key_file, FileKind.SECRET),
        "http.tls.cert_file": (config.http.tls.cert_file, FileKind.CERTIFICATE),
        "http.tls.client_ca_file": (config.http.tls.client_ca_file, FileKind.AUTHORITIES),
        "nats.credentials_file": (config.nats.credentials_file, FileKind.SECRET),
        "nats.tls.key_file": (tls.key_file, FileKind.SECRET),
        "nats.tls.cert_file": (tls.cert_file, FileKind.CERTIFICATE),
        "nats.tls.ca_file": (tls.ca_file, FileKind.AUTHORITIES),
        "tracing.ca_file": (config.tracing.ca_file, FileKind.AUTHORITIES),
        **{f"jwks of {shown(each.url)}": (each.ca_file, FileKind.AUTHORITIES) for each in sources},
    }
    for path in secrets:
        yield _file("secret file", path, FileKind.SECRET)
    for name, (given, kind) in named.items():
        if given:
            yield _file(name, Path(given), kind)


def _file(name: str, path: Path, kind: FileKind) -> FileFacts:
    """Look at a file. What is no regular file may keep a reader waiting for ever, and is not read."""
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            return FileFacts(name=name, path=str(path), kind=kind, problem="is no regular file")
        with path.open("rb") as opened:
            content = opened.read(LARGEST_FILE)
        end = None if kind is FileKind.SECRET else _certificate_end(content, kind)
    except OSError as error:
        return FileFacts(name=name, path=str(path), kind=kind, problem=f"cannot be read: {error.strerror}")
    except ValueError:
        return FileFacts(name=name, path=str(path), kind=kind, problem="holds no certificate in PEM")
    if kind is FileKind.SECRET and content.lstrip().startswith(PUBLIC):
        kind = FileKind.PUBLIC
    return FileFacts(name=name, path=str(path), kind=kind, mode=stat.S_IMODE(mode), certificate_end=end)


def _certificate_end(content: bytes, kind: FileKind) -> float:
    """A chain is good until its first end; authorities, of which a new one joins the old, until their last."""
    ends = [each.not_valid_after_utc.timestamp() for each in x509.load_pem_x509_certificates(content)]
    return max(ends) if kind is FileKind.AUTHORITIES else min(ends)


def _pages_problem(pages: str) -> str:
    if not pages:
        return ""
    if not Path(pages).is_dir():
        return "is no folder"
    return "" if (Path(pages) / "index.html").is_file() else "has no index.html"


# ---------------------------------------------------------------------- keys and ports


async def _key_set(jwks: JwksConfig) -> KeySetFacts:
    url = shown(jwks.url)
    try:
        body = await download(jwks.url, timeout=jwks.timeout, most_bytes=LARGEST_SET, ca_file=jwks.ca_file)
        found = read_set(body)
    except (DownloadFailed, UnusableSet) as error:
        return KeySetFacts(url=url, problem=str(error))
    return KeySetFacts(url=url, keys=len(found.keys), ignored=found.ignored)


def shown(url: str) -> str:
    """Return a URL without its query, which may hold a secret."""
    return urlunsplit(urlsplit(url)._replace(query=""))


async def _listeners(http: HttpConfig) -> tuple[ListenerFacts, ...]:
    wanted = (
        ("http.port", http.address, http.port),
        ("http.internal_port", http.internal_address, http.internal_port),
    )
    problems = [why_not(host, port) or "" if port else "" for _, host, port in wanted]
    runs = any(problems) and await _edge_answers(http)
    return tuple(
        ListenerFacts(setting=setting, port=port, problem=problem, edge_runs=runs)
        for (setting, _, port), problem in zip(wanted, problems, strict=True)
    )


async def _edge_answers(http: HttpConfig) -> bool:
    """Return whether an edge answers on the internal port: nothing else says `live` like this."""
    host = reachable(http.internal_address)
    url = f"http://{f'[{host}]' if ':' in host else host}:{http.internal_port}/live"
    try:
        return bool(
            json.loads(await download(url, timeout=LIVE_TIMEOUT, most_bytes=LARGEST_ANSWER)) == {"live": True}
        )
    except (DownloadFailed, ValueError):
        return False
