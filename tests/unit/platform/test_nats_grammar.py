from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tidewire.platform.nats_grammar import (
    check_header,
    check_subject,
    equal_publications,
    publication,
    publications,
)
from tidewire.platform.nats_types import Message


@given(st.binary(max_size=20))
def test_subject_that_passes_is_one_word_of_one_line(subject: bytes) -> None:
    """As the server reads lines: it splits them at spaces and tabs, and knows no NUL in a subject."""
    alone = subject != b"" and b"\0" not in subject and subject.split() == [subject]
    if alone:
        check_subject(subject)
    else:
        with pytest.raises(ValueError, match="not empty and holds no white space"):
            check_subject(subject)


@pytest.mark.parametrize("char", [b" ", b"\t", b"\r", b"\n", b"\x0b", b"\x0c", b"\0"])
@pytest.mark.parametrize("subject", [b"%ba", b"a%ba", b"a%b"])
def test_white_space_is_refused_wherever_it_stands(subject: bytes, char: bytes) -> None:
    """A line's end would begin a command of somebody else's."""
    with pytest.raises(ValueError, match="white space"):
        check_subject(subject % char)


@pytest.mark.parametrize("header", [b"", b"NATS/1.0\r\n", b"NATS/1.0\n\n", b"NATS/1.0\r\n\r\n "])
def test_header_block_without_an_end_is_refused(header: bytes) -> None:
    """The server would take the payload for a part of it."""
    with pytest.raises(ValueError, match="empty line"):
        check_header(header)
    check_header(b"NATS/1.0\r\nA: b\r\n\r\n")


@given(st.binary(max_size=8), st.binary(max_size=8))
@example(b"a", b"b c")
@example(b"a b", b"c")
@example(b"", b"a")
@example(b"a\0", b"b")
def test_no_subject_or_reply_subject_adds_a_word_to_the_line(subject: bytes, reply: bytes) -> None:
    """They are checked together, as they stand there."""
    words = [each for each in (subject, reply) if each or each is subject]
    if all(each and b"\0" not in each and each.split() == [each] for each in words):
        line, _, rest = publication(subject, reply, b"", b"data").partition(b"\r\n")
        assert (line.split(), rest) == ([b"PUB", *words, b"4"], b"data\r\n")
    else:
        with pytest.raises(ValueError, match="white space"):
            publication(subject, reply, b"", b"data")


HEADER = b"NATS/1.0\r\nA: b\r\n\r\n"
WORD = st.sampled_from([b"s", b"a.b", b"", b"a b", b"a\0", b"\ta", b"a\r\nPUB x 0"])


def test_a_header_block_is_counted_and_has_its_end() -> None:
    """One by one, and for several equal messages at once."""
    assert publication(b"s", b"r", HEADER, b"xyz") == b"HPUB s r 18 21\r\n" + HEADER + b"xyz\r\n"
    assert b"".join(equal_publications(b"s", HEADER, [b"", b"xyz"])) == (
        b"HPUB s 18 18\r\n" + HEADER + b"\r\n" + b"HPUB s 18 21\r\n" + HEADER + b"xyz\r\n"
    )
    with pytest.raises(ValueError, match="empty line"):
        publication(b"s", b"r", HEADER[:-2], b"xyz")
    with pytest.raises(ValueError, match="empty line"):
        equal_publications(b"s", HEADER[:-2], [b"xyz"])
    with pytest.raises(ValueError, match="white space"):
        equal_publications(b"s s", HEADER, [b"xyz"])


@given(
    st.lists(
        st.tuples(WORD, WORD, st.sampled_from([HEADER, HEADER[:-2], b""]), st.binary(max_size=5)),
        min_size=1,
        max_size=4,
    )
)
@example([(b"s", b"", HEADER, b""), (b"s", b"r", HEADER, b"xyz")])
@example([(b"", b"r", HEADER, b"")])
@example([(b"s", b"r", HEADER, b""), (b"s", b"a b", HEADER, b"")])
def test_several_messages_are_what_each_is_by_itself(messages: list[Message]) -> None:
    """Bytes, sizes and refusals; but each has to have a header block."""
    try:
        for _, _, header, _ in messages:
            check_header(header)
        one_by_one = b"".join(publication(*message) for message in messages)
    except ValueError:
        with pytest.raises(ValueError, match=r"white space|empty line"):
            publications(messages)
        return
    pieces, total = publications(messages)
    assert b"".join(pieces) == one_by_one
    assert total == sum(len(header) + len(payload) for _, _, header, payload in messages)
