from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from tidewire.history.messages import Kept, Message
from tidewire.history.packed import packed
from tidewire.rpc.history.v1 import history_pb2 as pb

NUMBERS = st.integers(0, 2**63 - 1)


@given(st.lists(st.tuples(NUMBERS, NUMBERS, st.binary(), st.binary())))
@example([(1, 2, b"x" * size, b"") for size in (0, 100, 127, 128, 16_383, 16_384, 1 << 21)])
def test_packed_publications_are_a_replys(given: list[tuple[int, int, bytes, bytes]]) -> None:
    """In any number, one behind the other, behind its other fields; of any length."""
    messages = [
        Message(b"", b"", offset, time_ns, None, Kept(data, header))
        for offset, time_ns, data, header in given
    ]
    rest = pb.ReadReply(top=pb.StreamPosition(offset=7, epoch="e"), outcome=pb.OUTCOME_MORE)
    reply = pb.ReadReply.FromString(rest.SerializeToString() + b"".join(map(packed, messages)))
    assert (reply.top, reply.outcome) == (rest.top, rest.outcome)
    assert given == [(each.offset, each.time_ns, each.data, each.headers) for each in reply.publications]
