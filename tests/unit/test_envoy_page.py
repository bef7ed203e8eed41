"""What the documents show of Envoy's configuration is what examples/envoy has, which tests run (integration/envoy)."""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import dedent

import pytest
import yaml

from tidewire.kernel.config import decode
from tidewire.ratelimit.config import RateLimitConfig

ROOT = Path(__file__).parents[2]
EXAMPLES = {path.name: path.read_text() for path in (ROOT / "examples/envoy").glob("*.yaml")}
SECTIONS = {
    "rate-limits.md": ("## Envoy and other gateways", 4),
    "operations.md": ("### Behind Envoy", 1),
}
"""Of each page the section with excerpts, and how many those are."""


def stands_in(excerpt: str, text: str) -> bool:
    """Whether these lines follow each other in a text, however far it indents them."""
    lines, size = text.splitlines(), excerpt.count("\n")
    return any(dedent("\n".join(lines[at : at + size])) == excerpt[:-1] for at in range(len(lines)))


@pytest.mark.parametrize("page", SECTIONS)
def test_excerpts_of_a_page_are_those_of_the_examples(page: str) -> None:
    """To the letter, comments included."""
    title, count = SECTIONS[page]
    section = (ROOT / "docs" / page).read_text().partition(f"{title}\n")[2].partition("\n## ")[0]
    excerpts = re.findall(r"^```yaml\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    assert len(excerpts) == count
    for excerpt in excerpts:
        assert any(stands_in(excerpt, text) for text in EXAMPLES.values()), excerpt


def test_the_example_of_rules_is_good() -> None:
    """As `tidewire ratelimit` reads it."""
    config = decode(RateLimitConfig, yaml.safe_load(EXAMPLES["limits.yaml"]))
    assert [rule.name for rule in config.rate_limits.envoy] == ["login", "api-key", "api-address"]


def test_every_example_is_in_a_document() -> None:
    """One that nobody is told of helps nobody."""
    pages = "".join(path.read_text() for path in (ROOT / "docs").glob("*.md"))
    assert sorted(name for name in EXAMPLES if f"../examples/envoy/{name})" not in pages) == []
