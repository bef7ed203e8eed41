from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from tests.fakes.clock import ManualClock
from tests.support.keys import jwk, jwks
from tidewire.edge.config import JwksConfig
from tidewire.edge.key_telemetry import KeyTelemetry
from tidewire.edge.policies.jwks import read_set
from tidewire.edge.policies.key_cache import KeyCache
from tidewire.kernel.config import decode
from tidewire.platform import exposition
from tidewire.platform.metrics import Registry

URL = "https://issuer.example/keys?secret=1"
NAME = "https://issuer.example/keys"


class Exposed:
    """The metrics of one source."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.cache = KeyCache()
        self.cache.use([decode(JwksConfig, {"url": URL})])
        self.source = self.cache.sources[URL]
        self.telemetry = KeyTelemetry(self.cache, self.clock)
        self.registry = Registry()
        self.telemetry.register(self.registry)

    def read(self) -> dict[str, float]:
        """Gauges of the source, by their short name."""
        families = text_string_to_metric_families(self.registry.exposition().decode())
        return {
            sample.name.removeprefix("tidewire_jwks_"): sample.value
            for family in families
            for sample in family.samples
            if sample.labels == {"url": NAME}
        }


def test_state_of_an_issuer() -> None:
    """Never reached, there, away, and away for too long."""
    exposed = Exposed()
    assert exposed.read() == {
        "up": 0,
        "keys": 0,
        "keys_ignored": 0,
        "age_seconds": float("inf"),
        "waiting": 0,
    }
    exposed.source.begin(exposed.clock.now)
    exposed.source.waiting = 3
    exposed.source.took(read_set(jwks(jwk("P-256", "a"), {})), exposed.clock.now)
    assert exposed.read() == {"up": 1, "keys": 1, "keys_ignored": 1, "age_seconds": 0, "waiting": 3}
    exposed.clock.advance(3600)
    exposed.source.begin(exposed.clock.now)
    exposed.source.failed("away", exposed.clock.now)
    assert {"up": 0, "keys": 1, "age_seconds": 3600}.items() <= exposed.read().items()
    exposed.clock.advance(86_400)
    assert {"up": 0, "keys": 0}.items() <= exposed.read().items()


def test_state_of_several_workers_is_that_of_the_worst() -> None:
    """Only what waits is summed."""
    snapshot = exposition.decode(Exposed().registry.snapshot())
    rules = {
        each.name.removeprefix("tidewire_jwks_"): each.merge.value
        for each in snapshot.families
        if each.type == "gauge" and each.name.startswith("tidewire_jwks_")
    }
    assert rules == {
        "up": "min",
        "keys": "min",
        "keys_ignored": "max",
        "age_seconds": "max",
        "waiting": "sum",
    }


def test_fetches_are_counted_by_outcome() -> None:
    """And timed together."""
    exposed = Exposed()
    for outcome in ("ok", "ok", "timeout"):
        exposed.telemetry.keys_fetched(NAME, outcome, 0.2)
    text = exposed.registry.exposition().decode()
    assert f'tidewire_jwks_fetches_total{{outcome="ok",url="{NAME}"}} 2.0' in text
    assert f'tidewire_jwks_fetches_total{{outcome="timeout",url="{NAME}"}} 1.0' in text
    assert "tidewire_jwks_fetch_duration_seconds_count 3.0" in text
    assert "secret" not in text
