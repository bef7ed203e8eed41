"""Which keys may check a token: by its `kid` and its algorithm, which the key must be for.

A kid that the configuration names never leaves it: no issuer can publish a key in its place. A token without a kid is
for a configured key, too; in a key set it would stop being good when the set's second key appears.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from tidewire.edge.key_material import LONGEST_KID, read_hmac, read_pem
from tidewire.edge.policies.key_cache import KeyCache, KeySource, Standing
from tidewire.edge.policies.verdicts import KeyWanted, Refused, TokenProblem, shown

if TYPE_CHECKING:
    from tidewire.edge.config import TrustConfig

BETWEEN_URLS = " "
"""What a KeyWanted's `source` has between the URLs to fetch; no URL holds one."""


class Key(msgspec.Struct, frozen=True):
    """A key made ready for the algorithm it was found by; `issuer` is what `iss` must be, "" = anything."""

    material: Any
    issuer: str


class _Source(msgspec.Struct, frozen=True):
    source: KeySource
    algorithms: frozenset[str]
    issuer: str

    def serves(self, algorithm: str, issuer: object) -> bool:
        return algorithm in self.algorithms and (not self.issuer or self.issuer == issuer)

    def key(self, kid: str, algorithm: str, now: float) -> Key | None:
        found = self.source.key(kid, now)
        fits = found is not None and algorithm in found.algorithms & self.algorithms
        return Key(found.key, self.issuer) if found is not None and fits else None


class KeyRing:
    """The keys of one section of the configuration."""

    __slots__ = ("_keys", "_kids", "_sources")

    def __init__(self, config: TrustConfig, cache: KeyCache) -> None:
        self._keys = {name: Key(material, config.issuer) for name, material in _configured(config)}
        self._kids = {kid for kid, _ in self._keys}
        self._sources = tuple(
            _Source(cache.sources[jwks.url], frozenset(jwks.algorithms), jwks.issuer or config.issuer)
            for jwks in config.jwks
        )

    def find(self, kid: str, algorithm: str, issuer: object, now: float) -> tuple[Key, ...] | KeyWanted:
        """Return the keys that may have signed, seldom more than one, or what must be fetched; raises Refused.

        `issuer` is the token's `iss`, not verified yet: it only says whose keys are to be looked at.
        """
        if not kid or kid in self._kids:
            key = self._keys.get((kid, algorithm))
            if key is None:
                raise Refused(self._no_key(kid, algorithm))
            return (key,)
        asked = [source for source in self._sources if source.serves(algorithm, issuer)]
        if len(kid) > LONGEST_KID or not asked:
            raise Refused(self._no_source(kid, algorithm))
        held = [source for source in asked if source.source.key(kid, now) is not None]
        if held:
            return self._fitting(held, kid, algorithm, now)
        return _wanted([source.source for source in asked], kid, now)

    def _no_key(self, kid: str, algorithm: str) -> str:
        if kid:
            return f"the key of the kid {shown(kid)} is not for {shown(algorithm)}"
        hint = "; key sets are for tokens with a kid" if self._sources else ""
        return f"the token has no kid, and no key without one is for {shown(algorithm)}{hint}"

    def _no_source(self, kid: str, algorithm: str) -> str:
        if any(algorithm in source.algorithms for source in self._sources):
            return f"no key of the kid {shown(kid)}, and no key set is of the token's issuer"
        return f"no key of the kid {shown(kid)}"

    def _fitting(self, held: list[_Source], kid: str, algorithm: str, now: float) -> tuple[Key, ...]:
        keys = tuple(key for source in held if (key := source.key(kid, algorithm, now)) is not None)
        if not keys:
            raise Refused(f"the key of the kid {shown(kid)} is not for {shown(algorithm)}")
        return keys


def _wanted(sources: list[KeySource], kid: str, now: float) -> KeyWanted:
    standings = [source.ask(kid, now) for source in sources]
    if Standing.WANTED in standings:
        urls = (
            source.settings.url
            for source, standing in zip(sources, standings, strict=True)
            if standing is Standing.WANTED
        )
        return KeyWanted(BETWEEN_URLS.join(urls))
    if Standing.UNKNOWN in standings:
        raise Refused(f"cannot ask the issuer for the kid {shown(kid)} now", TokenProblem.UNAVAILABLE)
    raise Refused(f"the issuer has no key of the kid {shown(kid)}")


def _configured(config: TrustConfig) -> Iterator[tuple[tuple[str, str], Any]]:
    """Yield each key under its kid and each of its algorithms."""
    if config.hmac_secret_key:
        material = read_hmac(config.hmac_secret_key.reveal())
        yield from (((("", name), material)) for name in config.algorithms)
    for shared in config.hmac_keys:
        material = read_hmac(shared.secret.reveal())
        yield from (((shared.kid, name), material) for name in shared.algorithms)
    for public in config.public_keys:
        key = read_pem(public.key.reveal())
        yield from (((public.kid, name), key) for name in public.fitting())
