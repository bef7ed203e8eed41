"""Judges facts: the one entry to every check. Pure, so that the facts of any machine can be judged anywhere."""

from __future__ import annotations

from tidewire.doctor.edge_advice import advise_edge
from tidewire.doctor.facts import Facts
from tidewire.doctor.findings import Finding
from tidewire.doctor.host_advice import advise_host
from tidewire.doctor.nats_advice import advise_nats
from tidewire.doctor.network_advice import advise_network
from tidewire.doctor.service_advice import advise_history, advise_presence, advise_ratelimit
from tidewire.doctor.storage_advice import advise_storage


def advise(facts: Facts, connections: int) -> list[Finding]:
    """Return one finding for each check, for one edge with so many connections on this machine."""
    return [
        *advise_host(facts.host, connections, tls=facts.edge.tls is not None),
        *advise_network(facts.host, facts.edge.listeners, connections),
        *advise_edge(facts.edge, connections, facts.now),
        *advise_nats(facts.nats, facts.edge, facts.now),
        *advise_storage(facts.storage),
        *advise_history(facts.history),
        *advise_presence(facts.presence),
        *advise_ratelimit(facts.ratelimit),
    ]
