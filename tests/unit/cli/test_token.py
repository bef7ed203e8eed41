from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from click.testing import CliRunner, Result

from tests.support.keys import pem, private_pem
from tidewire.cli.token import command

KEY = "k" * 64
ONE_KEY = f"client: {{token: {{hmac_secret_key: {KEY}}}}}\n"
TWO_KEYS = f"""
client:
  token:
    hmac_keys:
      - {{kid: new, secret: {KEY}, algorithms: [HS512]}}
      - {{kid: old, secret: {"o" * 64}}}
"""


def run(*arguments: str) -> Result:
    """Run `tidewire token` with the given arguments."""
    return CliRunner().invoke(command, list(arguments))


def read(
    result: Result, key: str = KEY, audience: str | None = None, issuer: str | None = None
) -> dict[str, Any]:
    """The claims of the printed token, whose signature must be good."""
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    assert result.stdout.count("\n") == 1
    claims: dict[str, Any] = jwt.decode(
        result.stdout.strip(),
        key,
        algorithms=["HS256", "HS512"],
        audience=audience,
        issuer=issuer,
        options={"verify_exp": False},  # a machine may be slower than a short token lives
    )
    return claims


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration with one key, in the folder in which the command runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TIDEWIRE_CONFIG", raising=False)
    file = Path("tidewire.yaml")
    file.write_text(ONE_KEY)
    return file


def test_a_connection_token_and_nothing_else() -> None:
    """User, time of issue, and an end after a day."""
    claims = read(run("--user", "alice"))
    assert claims.keys() == {"sub", "iat", "exp"}
    assert claims["sub"] == "alice"
    assert abs(claims["iat"] - time.time()) < 60
    assert claims["exp"] - claims["iat"] == 86400


def test_a_subscription_token_names_its_channel() -> None:
    """With a life of its own and info for others."""
    claims = read(
        run("--user", "alice", "--channel", "$chat:x", "--ttl", "1h", "--info", '{"name": "Alice"}')
    )
    assert claims["channel"] == "$chat:x"
    assert claims["exp"] - claims["iat"] == 3600
    assert claims["info"] == {"name": "Alice"}


def test_a_ttl_of_zero_never_ends() -> None:
    """Then there is no `exp`."""
    assert "exp" not in read(run("--user", "alice", "--ttl", "0"))


def test_a_short_ttl_ends_in_the_future() -> None:
    """`exp` counts whole seconds, and a token is not born expired."""
    claims = read(run("--user", "alice", "--ttl", "200ms"))
    assert claims["exp"] - claims["iat"] == 1


def test_keys_are_chosen_by_kid(config: Path) -> None:
    """The first one without --kid; the token names the key and uses its algorithm."""
    config.write_text(TWO_KEYS)
    for arguments, kid, key, algorithm in (
        ([], "new", KEY, "HS512"),
        (["--kid", "new"], "new", KEY, "HS512"),
        (["--kid", "old"], "old", "o" * 64, "HS256"),
    ):
        result = run("--user", "a", *arguments)
        read(result, key)
        header = jwt.get_unverified_header(result.stdout.strip())
        assert (header["kid"], header["alg"]) == (kid, algorithm)


def test_the_single_key_goes_without_kid() -> None:
    """As tokens of a backend that knows one key."""
    assert "kid" not in jwt.get_unverified_header(run("--user", "a").stdout.strip())


def test_audience_and_issuer_are_those_that_edges_ask_for(config: Path) -> None:
    """Otherwise the edge would refuse the token."""
    config.write_text(f"client: {{token: {{hmac_secret_key: {KEY}, audience: web, issuer: backend}}}}\n")
    claims = read(run("--user", "a"), audience="web", issuer="backend")
    assert (claims["aud"], claims["iss"]) == ("web", "backend")


def test_the_key_may_be_in_a_file(config: Path) -> None:
    """As in the dev mesh."""
    Path("key").write_text(KEY + "\n")
    config.write_text("client: {token: {hmac_secret_key_file: key}}\n")
    assert read(run("--user", "a"))["sub"] == "a"


@pytest.mark.parametrize(
    ("text", "arguments", "line"),
    [
        (
            "client: {allow_anonymous_connect_without_token: true}\n",
            [],
            "client.token.hmac_secret_key: no key to sign with: set it or hmac_secret_key_file\n",
        ),
        (TWO_KEYS, ["--kid", "x"], "client.token.hmac_keys: no key 'x' (there is: new, old)\n"),
        (ONE_KEY, ["--kid", "x"], "client.token.hmac_keys: no key 'x' (there is: none)\n"),
        (
            "client: {token: {hmac_secret_key_file: gone}}\n",
            [],
            "client.token.hmac_secret_key_file: cannot read gone: No such file or directory\n",
        ),
    ],
    ids=["no key", "no such kid", "no kids", "missing file"],
)
def test_without_the_key_it_says_what_to_do(config: Path, text: str, arguments: list[str], line: str) -> None:
    """One line on standard error, exit code 78, and no token."""
    config.write_text(text)
    result = run("--user", "a", *arguments)
    assert (result.exit_code, result.stdout, result.stderr) == (78, "", line)


def test_capabilities_of_both_kinds() -> None:
    """Of a connection for many channels, of a subscription for its own."""
    caps = [{"channels": ["a"], "allow": ["sub"]}]
    assert read(run("--user", "a", "--caps", json.dumps(caps)))["caps"] == caps
    claims = read(run("--user", "a", "--channel", "c", "--caps", '["pub"]'))
    assert (claims["allow"], "caps" in claims) == (["pub"], False)


@pytest.mark.parametrize(("kind", "algorithm"), [("RSA", "RS256"), ("P-384", "ES384"), ("Ed25519", "EdDSA")])
def test_signs_with_a_private_key(kind: str, algorithm: str) -> None:
    """By the first algorithm that fits, under the name that is given."""
    Path("key.pem").write_text(private_pem(kind))
    text = run("--user", "a", "--private-key", "key.pem", "--kid", "k").stdout.strip()
    assert jwt.get_unverified_header(text) == {"alg": algorithm, "kid": "k", "typ": "JWT"}
    assert jwt.decode(text, pem(kind), algorithms=[algorithm])["sub"] == "a"
    assert "kid" not in jwt.get_unverified_header(
        run("--user", "a", "--private-key", "key.pem").stdout.strip()
    )


def test_signs_by_the_algorithm_that_is_asked_for() -> None:
    """Where the key has several."""
    Path("key.pem").write_text(private_pem("RSA"))
    text = run(
        "--user", "a", "--private-key", "key.pem", "--algorithm", "PS512", "--channel", "c"
    ).stdout.strip()
    assert jwt.decode(text, pem("RSA"), algorithms=["PS512"])["channel"] == "c"


def test_subscription_tokens_are_signed_with_their_own_keys(config: Path) -> None:
    """Where there are any; connection tokens are not."""
    other = "o" * 64
    config.write_text(
        f"client: {{token: {{hmac_secret_key: {KEY}}}, subscription_token: {{hmac_secret_key: {other}}}}}\n"
    )
    assert read(run("--user", "a", "--channel", "c"), other)["channel"] == "c"
    assert read(run("--user", "a"))["sub"] == "a"
    result = run("--user", "a", "--channel", "c", "--kid", "x")
    assert result.stderr == "client.subscription_token.hmac_keys: no key 'x' (there is: none)\n"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--private-key", "none.pem"], "File 'none.pem' does not exist."),
        (["--private-key", "tidewire.yaml"], "tidewire.yaml: is no private key in PEM without a password"),
        (["--private-key", "key.pem", "--algorithm", "ES384"], "this key signs with ES256"),
        (["--private-key", "key.pem", "--algorithm", "HS256"], "'HS256' is not one of"),
        (["--algorithm", "ES256"], "--algorithm is for --private-key"),
        (["--caps", "{"], "not JSON: "),
    ],
)
def test_bad_keys_are_usage_errors(arguments: list[str], line: str) -> None:
    """Exit code 2, what is wrong, and no token."""
    Path("key.pem").write_text(private_pem("P-256"))
    result = run("--user", "a", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert line in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    "arguments",
    [[], ["--user", "a", "--ttl", "soon"], ["--user", "a", "--ttl", "-1s"], ["--user", "a", "--info", "{"]],
    ids=["no user", "bad ttl", "negative ttl", "bad info"],
)
def test_bad_arguments_are_usage_errors(arguments: list[str]) -> None:
    """Exit code 2, and no token."""
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
