"""What docs/dashboards.md shows is taken as it stands, and its numbers are the code's."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from tests.support.config import KEY
from tidewire.edge.config import EdgeConfig
from tidewire.edge.policies.publication_keys import MAX_KEY_BYTES
from tidewire.edge.stragglers import MAX_KEPT, MAX_OWED
from tidewire.kernel.config import decode

PAGE = (Path(__file__).parents[2] / "docs" / "dashboards.md").read_text()


def test_configuration_of_the_page_is_good() -> None:
    """It batches and conflates."""
    (text,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    (namespace,) = decode(EdgeConfig, {**KEY, **yaml.safe_load(text)}).channel.namespaces
    assert (float(namespace.batch_max_delay), namespace.conflate) == (0.05, True)


def test_bounds_of_the_page_are_those_of_the_code() -> None:
    """Keys, bytes, and keys that are owed."""
    assert f"1 to {MAX_KEY_BYTES} bytes" in PAGE
    assert f"{MAX_KEPT >> 20} MiB" in PAGE
    assert f"{MAX_OWED:,} keys" in PAGE
