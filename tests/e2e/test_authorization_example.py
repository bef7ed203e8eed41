"""What examples/authorization.py does on a mesh; docs/authorization.md shows it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.edges import SECRET, Mesh, running_mesh
from tests.support.examples import dev_file, running, said


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Mesh]:
    """The namespace of tidewire.yaml that the example uses."""
    with running_mesh(tmp_path, {"channel": {"namespaces": [{"name": "chat"}]}}, edges=1) as found:
        yield found


async def test_tokens_open_what_the_namespace_closes_and_an_order_ends_it(mesh: Mesh, tmp_path: Path) -> None:
    """A channel of the connection token, a private one by a subscription token, and a ban."""
    folder = dev_file(tmp_path, nats=mesh.nats.url, edges=[mesh.edges[0].base_url])
    (folder / ".tidewire" / "token.key").write_text(f"{SECRET}\n")
    async with running("authorization", folder) as process:
        assert await said(process) == "subscribed by the server to chat:news"
        assert await said(process) == "published to $chat:board"
        assert await said(process) == "disconnected: 4501 banned"
        assert await process.wait() == 0
