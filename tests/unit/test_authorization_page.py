"""What docs/authorization.md shows is taken by the edge as it stands; tests/e2e/test_authorization_example.py runs the rest."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.fakes.clock import ManualClock
from tests.fakes.edge import rules, token
from tests.support.keys import pem
from tidewire.edge import orders
from tidewire.edge.config import EdgeConfig
from tidewire.edge.policies.claims import ConnectionClaims
from tidewire.platform.settings import load, secret_files

PAGE = (Path(__file__).parents[2] / "docs" / "authorization.md").read_text()
SECRETS = {"token.key": "k" * 64, "es256.pem": pem("P-256"), "rs256.pem": pem("RSA")}


def blocks(language: str) -> list[str]:
    """The code blocks of the page in this language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def test_configurations_of_the_page_are_good(tmp_path: Path) -> None:
    """With keys in the files that they name."""
    for number, text in enumerate(blocks("yaml")):
        file = tmp_path / f"{number}.yaml"
        file.write_text(text)
        for secret in secret_files(EdgeConfig, file, {}):
            secret.parent.mkdir(exist_ok=True)
            secret.write_text(SECRETS[secret.name])
        assert load(EdgeConfig, file, {}).client.token.trusts_someone
    assert blocks("yaml")


def test_capabilities_of_the_page_are_good() -> None:
    """As the claim of a token."""
    (text,) = blocks("json")
    claims = rules(ManualClock()).tokens.connection(token("alice", **json.loads(f"{{{text}}}")))
    assert isinstance(claims, ConnectionClaims)


def test_order_of_the_page_is_understood() -> None:
    """The one that is given on the command line."""
    (order,) = re.findall(r"^nats pub tw\.ctl\.all '(.*)'$", PAGE, re.MULTILINE)
    assert orders.kind(orders.decode(order.encode())) == "disconnect"
