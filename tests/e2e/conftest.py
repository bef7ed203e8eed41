"""Fixtures of the tests with whole processes."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.support.edges import PATIENT, Mesh, running_mesh
from tests.support.node import Node, running_node
from tests.support.raw_client import Clients


@pytest.fixture
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """A nats-server with the mapping and two edges, for one test to do with as it likes."""
    with running_mesh(tmp_path_factory.mktemp("mesh"), {"client": PATIENT}) as running:
        yield running


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    """A Node process for this test's clients of the JavaScript SDK."""
    async with running_node() as running:
        yield running


@pytest.fixture
async def clients() -> AsyncIterator[Clients]:
    """Raw clients of this test."""
    with contextlib.ExitStack() as stack:
        yield Clients(stack)
