from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tidewire.platform.nats_grammar import check_header, check_subject, publication, publications


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


def test_a_header_block_is_counted_and_has_its_end() -> None:
    """One by one, and for several messages at once."""
    header = b"NATS/1.0\r\nA: b\r\n\r\n"
    assert publication(b"s", b"r", header, b"xyz") == b"HPUB s r 18 21\r\n" + header + b"xyz\r\n"
    assert publications(b"s", header, [b"", b"xyz"]) == [
        b"HPUB s 18 18\r\n" + header + b"\r\n",
        b"HPUB s 18 21\r\n" + header + b"xyz\r\n",
    ]
    with pytest.raises(ValueError, match="empty line"):
        publication(b"s", b"r", header[:-2], b"xyz")
    with pytest.raises(ValueError, match="empty line"):
        publications(b"s", header[:-2], [b"xyz"])
    with pytest.raises(ValueError, match="white space"):
        publications(b"s s", header, [b"xyz"])
