"""Our frame reader beside websockets' own, on the same bytes: what property tests and the fuzzer demand of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from websockets.exceptions import PayloadTooBig
from websockets.frames import Opcode

from tests.support.reference_reader import ReferenceReader
from tidewire.edge.frames import FrameReader


def compare(chunks: Iterable[bytes], limit: int, *, deflate: bool) -> int:
    """Demand the same messages, pongs and verdict; return the code of our close frame (0: none).

    The reference gets frame by frame: it looks for UTF-8 only when all frames of a chunk are read.
    """
    ours, reference = FrameReader(limit, deflate=deflate), ReferenceReader(limit, deflate=deflate)
    found: list[bytes] = []
    data = b""
    for chunk in chunks:
        found += ours.feed(chunk)
        data += chunk
    expected = [message for frame in frames_of(data) for message in reference.feed(frame)]
    pongs, code = said(ours.outgoing())
    if any(len(message) > limit for message in expected):  # no room is no bound for the reference's zlib
        assert code == 1009
        return code
    if control_without_room(reference):
        assert expected == found[: len(expected)]
        return code
    if control_in_a_long_form(data, ours) or held_back(ours, reference, limit):
        assert found == expected[: len(found)]
        return code
    assert found == expected
    if ours.closing:
        read_on(reference, limit)
    assert (ours.closing, ours.ended) == (reference.closing, reference.closing)
    expected_pongs, expected_code = said(reference.outgoing())
    assert pongs == expected_pongs
    assert code == expected_code or known_difference(ours, reference, expected_code)
    return code


def frames_of(data: bytes) -> Iterator[bytes]:
    """Cut bytes where frames end (RFC 6455, section 5.2), whether or not they are good ones; the last may be cut off."""
    at = 0
    while at < len(data):
        length = data[at + 1] & 0x7F if at + 1 < len(data) else 0
        width = {126: 2, 127: 8}.get(length, 0)
        if width:
            length = int.from_bytes(data[at + 2 : at + 2 + width], "big")
        end = at + 2 + width + 4 * (data[at + 1 : at + 2] >= b"\x80") + length
        yield data[at:end]
        at = end


def read_on(reference: ReferenceReader, limit: int) -> None:
    """Complete the frame that has begun: we refuse by a frame's head, the reference by the whole frame."""
    for padding in (*[b"\0"] * 14, bytes(limit)):
        if reference.closing:
            return
        reference.feed(padding)


def said(owed: bytes) -> tuple[bytes, int]:
    """What a server wrote: its pongs, and the code of its close frame (0 for none, 1005 for one without a code)."""
    at = 0
    while at < len(owed) and owed[at] & 0x0F != Opcode.CLOSE:
        at += 2 + owed[at + 1]
    payload = owed[at + 2 :]
    return owed[:at], 0 if at == len(owed) else int.from_bytes(payload[:2] or b"\x03\xed", "big")


def control_without_room(reference: ReferenceReader) -> bool:
    """Whether the reference refused a frame for a message that has little room left: it may be a good control frame."""
    cause = reference.protocol.parser_exc
    return isinstance(cause, PayloadTooBig) and cause.size is not None and cause.size <= 125


def control_in_a_long_form(data: bytes, ours: FrameReader) -> bool:
    """Whether we refused a short control frame for the form of its length, which the reference does not look at."""
    return (
        ours.fault is not None
        and ours.fault.reason == "control frame too long"
        and any(frame[0] & 0x08 and frame[1:2] > b"\xfd" and len(frame) < 140 for frame in frames_of(data))
    )


def held_back(ours: FrameReader, reference: ReferenceReader, limit: int) -> bool:
    """Whether we refused a message that fills the limit and of which the reference's zlib holds back some more."""
    return ours.fault is not None and ours.fault.code == 1009 and len(reference.incomplete) >= limit


def known_difference(ours: FrameReader, reference: ReferenceReader, expected: int) -> bool:
    """Where the reader's docstring says that we differ."""
    cause = reference.protocol.parser_exc
    if str(cause) == "incomplete fragmented message":  # a close frame is echoed wherever it stands
        return ours.fault is None
    if not isinstance(cause, PayloadTooBig) or expected != 1009 or ours.fault is None:
        return False
    if cause.size is None:  # it was inflated before its head was looked at, or less far than we inflate it
        return ours.fault.reason in {
            "expected a continuation frame",
            "reserved bits must be 0",
            "decompression failed",
        }
    return ours.fault.reason == "control frame too long"
