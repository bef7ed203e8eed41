"""`tidewire token`: signs one token with a configured key, as a backend would."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from tidewire.cli.options import config_failure, config_option, load_config
from tidewire.edge.config import TokenConfig
from tidewire.kernel.config import Duration


class _Ttl(click.ParamType[Duration]):
    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Duration:
        try:
            return Duration.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class _Info(click.ParamType[Any]):
    name = "json"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> object:
        try:
            return json.loads(str(value))
        except ValueError as error:
            self.fail(f"not JSON: {error}", param, ctx)


@click.command("token")
@config_option
@click.option("--user", required=True, metavar="ID", help="The user id (`sub`).")
@click.option(
    "--channel", metavar="NAME", help="Make a subscription token for this channel, not a connection token."
)
@click.option(
    "--ttl", type=_Ttl(), default="24h", show_default=True, help="How long it is valid; 0 = without an end."
)
@click.option("--kid", metavar="KID", help="Sign with this key of client.token.hmac_keys.")
@click.option("--info", type=_Info(), help="JSON that other clients see in presence, join and leave.")
def command(
    config_file: Path | None, user: str, channel: str | None, ttl: Duration, kid: str | None, info: object
) -> None:
    """Print one token (JWT), signed with the key of the configuration, and nothing else.

    A connection token by default, a subscription token with --channel. For trying things out and for tests: in
    production your backend signs tokens with the same key. Without a key it exits with 78.

    \b
    Examples:
      tidewire token --user alice
      tidewire token --user alice --channel '$chat:private' --ttl 1h
      TOKEN=$(tidewire token -c tidewire.yaml --user alice --info '{"name":"Alice"}')
    """
    config = load_config(config_file)
    claims = claims_of(user, channel=channel, ttl=ttl, info=info, now=int(time.time()))
    click.echo(sign(config.client.token, claims, kid))


def claims_of(
    user: str, *, channel: str | None = None, ttl: float = 86400, info: object = None, now: int
) -> dict[str, object]:
    """The claims of a connection token, or with `channel` of a subscription token.

    `ttl` and `now` in seconds (`now` since 1970); a `ttl` of 0 leaves `exp` out.
    """
    claims: dict[str, object] = {"sub": user, "iat": now}
    if ttl:
        claims["exp"] = now + max(1, int(ttl))
    if channel is not None:
        claims["channel"] = channel
    if info is not None:
        claims["info"] = info
    return claims


def sign(config: TokenConfig, claims: Mapping[str, object], kid: str | None = None) -> str:
    """A token with these claims, and with the `aud` and `iss` that edges of this configuration ask for.

    Signed with the key named `kid`; without one with `hmac_secret_key`, else with the first of `hmac_keys`. Raises
    ConfigFailure where there is no such key.
    """
    import jwt

    key, algorithm, header = _key(config, kid)
    expected = {"aud": config.audience, "iss": config.issuer}
    payload = {**claims, **{name: value for name, value in expected.items() if value}}
    with (
        warnings.catch_warnings()
    ):  # a key that the edge accepts is signed with; the reference says how long it should be
        warnings.simplefilter("ignore", jwt.InsecureKeyLengthWarning)
        return jwt.encode(payload, key, algorithm=algorithm, headers=header)


def _key(config: TokenConfig, kid: str | None) -> tuple[str, str, dict[str, str]]:
    if kid is None and config.hmac_secret_key:
        return config.hmac_secret_key.reveal(), config.algorithms[0], {}
    for key in config.hmac_keys:
        if kid is None or key.kid == kid:
            return key.secret.reveal(), key.algorithms[0], {"kid": key.kid}
    if kid is None:
        raise config_failure(
            "client.token.hmac_secret_key", "no key to sign with: set it or hmac_secret_key_file"
        )
    known = ", ".join(key.kid for key in config.hmac_keys) or "none"
    raise config_failure("client.token.hmac_keys", f"no key {kid!r} (there is: {known})")
