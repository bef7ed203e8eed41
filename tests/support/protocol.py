"""The marker that ties a test to rows of docs/protocol.md."""

from __future__ import annotations

import pytest


def protocol(*rows: str) -> pytest.MarkDecorator:
    """Mark a test as showing these rows of the protocol support table."""
    return pytest.mark.protocol(*rows)
