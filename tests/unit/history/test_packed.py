from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from tidewire.history.messages import Message, block_of
from tidewire.history.packed import heard, is_packed, packed, packed_of
from tidewire.rpc.history.v1 import history_pb2 as pb

NUMBERS = st.integers(0, 2**63 - 1)
LINES = st.lists(st.sampled_from([b"Tw-V: 1", b"a", b"a: "])).map(
    lambda lines: b"".join(b"\r\n" + x for x in lines)
)
DATA = st.binary() | st.sampled_from([b"\r\n", b"\r\n\r\n", b"\x12"])


@given(st.lists(st.tuples(NUMBERS, NUMBERS, LINES, DATA)))
@example([(1, 2, b"", b"x" * size) for size in (0, 100, 127, 128, 16_383, 16_384, 1 << 21)])
def test_packed_publications_are_a_replys(given: list[tuple[int, int, bytes, bytes]]) -> None:
    """In any number, one behind the other, behind its other fields; of any length."""
    messages = [
        Message(b"", b"", offset, time_ns, None, lines, data) for offset, time_ns, lines, data in given
    ]
    rest = pb.ReadReply(top=pb.StreamPosition(offset=7, epoch="e"), outcome=pb.OUTCOME_MORE)
    reply = pb.ReadReply.FromString(rest.SerializeToString() + b"".join(map(packed, messages)))
    assert (reply.top, reply.outcome) == (rest.top, rest.outcome)
    assert [(offset, time_ns, block_of(lines), data) for offset, time_ns, lines, data in given] == [
        (each.offset, each.time_ns, each.headers, each.data) for each in reply.publications
    ]
    for each in messages:
        body = heard(each)
        assert (is_packed(body), is_packed(packed(each))) == (False, True)
        assert packed_of(each.sequence, each.time_ns, body) == packed(each)
