"""Our answer to an upgrade beside that of websockets' `ServerProtocol`: what property tests and the fuzzer demand of it."""

from __future__ import annotations

from tests.support.reference_upgrade import reference_answer
from tidewire.edge.handshake import Accept, HeaderFields, Readiness, Refuse, decide
from tidewire.edge.policies.origins import OriginPolicy
from tidewire.edge.request_head import HEAD_END, RequestHead
from tidewire.edge.upgrade import Answer, answer_to


def judge(target: str, fields: HeaderFields) -> Accept | Refuse:
    """The edge's own verdict, of one that is ready and takes its own pages only."""
    return decide(target, fields, OriginPolicy([]), Readiness(0, 1, broker=True))


def ours(head: bytes, *, compress: bool) -> Answer:
    """What the edge answers."""

    def judge_head(request: RequestHead) -> Accept | Refuse:
        return judge(request.target, request)

    return answer_to(head, judge_head, compress=compress)


def fields_of(response: bytes) -> tuple[str, dict[str, str]]:
    """Status line and fields. Date is left out: a response of 1xx need not have it (RFC 9110, section 6.6.1)."""
    first, *lines = response.removesuffix(HEAD_END).decode().split("\r\n")
    fields = dict(line.split(": ", 1) for line in lines)
    assert len(fields) == len(lines)
    fields.pop("Date", None)
    return first, fields


def compare(head: bytes, *, compress: bool) -> Answer:
    """Whatever we accept, websockets does, with the same answer; we refuse more only in the target of a request line."""
    mine, theirs = ours(head, compress=compress), reference_answer(head, judge, compress=compress)
    if mine.accept is not None:
        assert theirs.accept is not None, (head, theirs)
        assert fields_of(mine.response) == fields_of(theirs.response)
        assert (mine.accept, mine.window_bits) == (theirs.accept, theirs.window_bits)
    elif theirs.accept is not None:
        assert b"Line 1 of the request's head is malformed" in mine.response, (head, mine)
        target = head.split(b"\r\n")[0].split(b" ")[1]
        assert b"#" in target or any(byte < 0x21 or byte == 0x7F for byte in target)
    elif b"Line 1 of" not in mine.response and head.split(b"\r\n")[0].endswith((b" HTTP/1.1", b" HTTP/1.0")):
        assert mine.outcome == theirs.outcome, (head, mine, theirs)
    return mine
