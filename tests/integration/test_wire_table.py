"""Each row of the wire table, in both formats, against a real edge on a real nats-server.

What clients send and what must come back stands in wire_table/*.yaml; wire_table/README.md tells how to read it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.support.edges import EdgeProcess, edge_config, mapping, merged
from tests.support.nats_server import NatsServer
from tests.support.wire_actors import Actor, WireBackend, WireClient
from tests.support.wire_formats import FORMATS
from tests.support.wire_table import Names, Row, configurations, rows

EXCHANGES = [
    pytest.param(
        row,
        form,
        id=f"{row.name} ({form})",
        marks=[pytest.mark.xfail(reason=row.not_yet)] if row.not_yet else [],
    )
    for row in rows()
    for form in row.formats
]


@pytest.fixture(scope="module")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """One nats-server for the file."""
    with NatsServer(tmp_path_factory.mktemp("nats"), config=mapping()) as server:
        yield server


@pytest.fixture(scope="module")
def edge_of(
    nats: NatsServer, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], EdgeProcess]]:
    """The edge of a configuration. All that the chosen rows need are launched together, and waited for when used."""
    parameters = (getattr(item, "callspec", None) for item in request.session.items)
    wanted = {each.params["row"].edge for each in parameters if each is not None and "row" in each.params}
    folder, found = tmp_path_factory.mktemp("edges"), configurations()
    edges = {
        name: EdgeProcess(
            folder, edge_config(nats.url, merged(found["all"], found[name])), name=name
        ).launch()
        for name in wanted
    }
    try:
        yield lambda name: edges[name] if edges[name].port else edges[name].wait_ready()
    finally:
        for edge in edges.values():
            edge.kill()


@pytest.mark.parametrize(("row", "form"), EXCHANGES)
async def test_exchange(row: Row, form: str, nats: NatsServer, edge_of: Callable[[str], EdgeProcess]) -> None:
    """What stands in the row happens, in this order, and nothing else does."""
    edge, names = edge_of(row.edge), Names()
    backend = WireBackend(nats.url, names)
    clients: dict[str, WireClient] = {}
    try:
        for who, verb, what in row.dialogue():
            actor: Actor = backend
            if who != "backend":
                actor = clients.setdefault(who, WireClient(who, edge.ws_url, FORMATS[form], names))
            try:
                await getattr(actor, verb)(what)
            except Exception as error:
                error.add_note(f"in the step: {who} {verb} {what}")
                raise
        for client in clients.values():
            await client.stays()
    finally:
        for each in (*clients.values(), backend):
            await each.drop()
