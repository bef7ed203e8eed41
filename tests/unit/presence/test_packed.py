from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tidewire.presence.content import Guest, Person
from tidewire.presence.packed import packed, wrapped
from tidewire.rpc.presence.v1 import presence_pb2 as pb

TEXT = st.text(max_size=200)
BYTES = st.one_of(st.binary(max_size=200), st.sampled_from([b"x" * 127, b"x" * 128, b"x" * 40_000]))


@given(st.lists(st.tuples(TEXT.filter(len), TEXT, BYTES, BYTES), max_size=5), st.integers(0, 2**31))
def test_it_is_what_the_library_writes(members: list[tuple[str, str, bytes, bytes]], clients: int) -> None:
    """And reads."""
    bodies, wanted = [], []
    for client, user, conn_info, chan_info in members:
        person = Person(client, user, conn_info, 1)
        bodies.append(packed(Guest(person, chan_info) if chan_info else person))
        wanted.append(pb.Member(client=client, user=user, conn_info=conn_info, chan_info=chan_info))
    channel = pb.ChannelMembers(members=wanted, clients=clients)
    rest = pb.ChannelMembers(clients=clients).SerializeToString()
    reply = pb.MembersReply(channels=[channel, channel])
    assert wrapped([*bodies, rest]) * 2 == reply.SerializeToString()


def test_a_connection_whose_info_no_channel_has_told() -> None:
    """Has none."""
    assert packed(Person("c", "u", None, 1)) == packed(Person("c", "u", b"", 1))
