"""The certificate of the public port: which is in force, when it ends, and how a reload replaces it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from tidewire.edge.http_options import tls_files
from tidewire.kernel.config import ConfigError, Problem
from tidewire.platform.certificates import CertificateError, Identity, read_identity
from tidewire.platform.exposition import Merge
from tidewire.platform.metrics import Gauge

if TYPE_CHECKING:
    import ssl

    from structlog.typing import FilteringBoundLogger

    from tidewire.edge.config import EdgeConfig
    from tidewire.edge.http_options import TlsConfig

SECTION = "http.tls"


class PublicTls:
    """Holds the certificate in force. Connections keep the one that they began with."""

    def __init__(self, config: TlsConfig, log: FilteringBoundLogger, wall: Callable[[], float]) -> None:
        """Read the files; raises ConfigError."""
        self._log = log
        self._wall = wall
        self._identity = self._read(config)
        if self._identity is not None:
            self._tell(self._identity)

    @property
    def context(self) -> Callable[[], ssl.SSLContext] | None:
        """What gives each new connection the context of the certificate that is in force then; None without TLS."""
        return None if self._identity is None else self._current

    def reading(self, config: EdgeConfig) -> Callable[[], Sequence[str]]:
        """Read the files of a new configuration, and return what puts them in force and names what is new.

        Blocks; raises ConfigError, also where TLS would begin or end.
        """
        fresh = self._read(config.http.tls)
        if (fresh is None) != (self._identity is None):
            raise ConfigError([Problem(f"{SECTION}.cert_file", "to begin or end TLS needs a restart")])
        return partial(self._renew, fresh)

    def metrics(self) -> Sequence[Gauge]:
        """Return what to expose."""
        return (
            Gauge(
                "tidewire_tls_certificate_expiry_timestamp_seconds",
                "When the public port's certificate, or the first of its chain, ends; Unix time. None without TLS.",
                lambda: {} if self._identity is None else {(): self._identity.ends},
                merge=Merge.MIN,
            ),
        )

    def _read(self, config: TlsConfig) -> Identity | None:
        files = tls_files(config)
        try:
            return None if files is None else read_identity(files, self._wall())
        except CertificateError as error:
            raise ConfigError([Problem(f"{SECTION}.{error.setting}", f"{error.path} {error.why}")]) from error

    def _renew(self, fresh: Identity | None) -> Sequence[str]:
        """Every handshake from now on gets the fresh context, whose session tickets have new keys."""
        before, self._identity = self._identity, fresh
        if fresh is None or before is None or fresh.fingerprint == before.fingerprint:
            return ()
        self._tell(fresh)
        return (f"{SECTION}: the certificate",)

    def _current(self) -> ssl.SSLContext:
        if self._identity is None:
            raise AssertionError("TLS without a certificate")
        return self._identity.context

    def _tell(self, identity: Identity) -> None:
        ends = datetime.fromtimestamp(identity.ends, UTC).isoformat()
        self._log.info(
            "tls.certificate", names=list(identity.names), ends=ends, fingerprint=identity.fingerprint
        )
