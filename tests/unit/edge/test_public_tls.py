from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from structlog.typing import FilteringBoundLogger

from tests.fakes.edge import edge_config
from tests.fakes.log import RecordingLog
from tests.support.certificates import write_certificate
from tidewire.edge.config import EdgeConfig
from tidewire.edge.public_tls import PublicTls
from tidewire.kernel.config import ConfigError
from tidewire.platform.metrics import Registry

NOW = datetime.now(UTC).replace(microsecond=0)


class Desk:
    """A certificate in a file, and who holds it."""

    def __init__(self, folder: Path) -> None:
        self.cert, self.key = folder / "cert", folder / "key"
        self.log = RecordingLog()
        self.renew(1)
        self.config = edge_config(http={"tls": {"cert_file": str(self.cert), "key_file": str(self.key)}})
        self.tls = self.holder(self.config)

    def holder(self, config: EdgeConfig) -> PublicTls:
        """What an edge has."""
        return PublicTls(config.http.tls, cast("FilteringBoundLogger", self.log), NOW.timestamp)

    def renew(self, days: int) -> None:
        """Write another certificate."""
        write_certificate(self.cert, [NOW + timedelta(days=days)], self.key)

    def context(self) -> Any:
        """What a new connection gets."""
        assert self.tls.context is not None
        return self.tls.context()


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """It ends tomorrow."""
    return Desk(tmp_path)


def exposed(tls: PublicTls) -> list[float]:
    """The end of the certificate, as it is scraped."""
    registry = Registry()
    registry.add(tls.metrics())
    lines = registry.exposition().decode().splitlines()
    name = "tidewire_tls_certificate_expiry_timestamp_seconds "
    return [float(line.removeprefix(name)) for line in lines if line.startswith(name)]


def test_certificate_is_told_and_exposed(desk: Desk) -> None:
    """Its names and its end, for whoever watches over it."""
    (level, event, fields) = desk.log.lines[0]
    assert (level, event, fields["names"]) == ("info", "tls.certificate", ["127.0.0.1"])
    assert fields["ends"] == (NOW + timedelta(days=1)).isoformat()
    assert exposed(desk.tls) == [(NOW + timedelta(days=1)).timestamp()]


def test_reading_changes_nothing_until_it_is_put_in_force(desk: Desk) -> None:
    """A reload takes everything or nothing."""
    before = desk.context()
    desk.renew(2)
    renew = desk.tls.reading(desk.config)
    assert desk.context() is before
    assert renew() == ("http.tls: the certificate",)
    assert desk.context() is not before
    assert exposed(desk.tls) == [(NOW + timedelta(days=2)).timestamp()]
    assert [event for _, event, _ in desk.log.lines] == ["tls.certificate"] * 2


def test_same_certificate_is_nothing_new(desk: Desk) -> None:
    """But the keys of session tickets are: a fresh context has its own."""
    before = desk.context()
    assert desk.tls.reading(desk.config)() == ()
    assert desk.context() is not before


def test_bad_certificate_is_refused_by_name(desk: Desk) -> None:
    """And the old one stays."""
    before = desk.context()
    desk.renew(-1)
    with pytest.raises(ConfigError) as caught:
        desk.tls.reading(desk.config)
    assert str(caught.value).startswith(f"http.tls.cert_file: {desk.cert} expired on ")
    assert desk.context() is before


def without_tls(config: EdgeConfig) -> EdgeConfig:
    """The same, with TLS off."""
    tls = msgspec.structs.replace(config.http.tls, cert_file="", key_file="")
    return msgspec.structs.replace(config, http=msgspec.structs.replace(config.http, tls=tls))


@pytest.mark.parametrize("begins", [True, False])
def test_tls_begins_and_ends_with_the_process(desk: Desk, begins: bool) -> None:
    """Neither is a reload's business."""
    before, after = desk.config, without_tls(desk.config)
    if begins:
        before, after = after, before
    with pytest.raises(ConfigError, match="needs a restart"):
        desk.holder(before).reading(after)


def test_edge_without_tls(desk: Desk) -> None:
    """Has no context and exposes no end."""
    tls = desk.holder(without_tls(desk.config))
    assert tls.context is None
    assert tls.reading(without_tls(desk.config))() == ()
    assert exposed(tls) == []
