"""What is said of a tar that is refused, and where its bounds are: the reader on sets of other writers."""

from __future__ import annotations

import pytest
from support import tars

from rch.contract.tar import Member, TarError
from rch.contract.tar_reader import MAX_TAIL, Event, Limits, TarReader

LIMITS = Limits(max_entries=1000, max_bytes=1 << 40)


def begun(data: bytes, limits: Limits = LIMITS) -> tuple[TarReader, list[Event]]:
    reader = TarReader(limits=limits, canonical=False)
    return reader, reader.feed(data)


def whole(data: bytes, limits: Limits = LIMITS) -> None:
    reader, _ = begun(data, limits)
    reader.close()


def pax(*records: bytes) -> bytes:
    return tars.pax(b"".join(records))


PLAIN = tars.file(b"a", b"hello\n")
LATIN = tars.record(b"comment", b"x")
REFUSED = {
    "a kind that nobody knows": (
        tars.header(b"a", typeflag=b"Z") + tars.END,
        "'a' is of the unknown type 'Z'",
    ),
    "a hard link": (tars.header(b"a", typeflag=b"1") + tars.END, "'a' is a hard link"),
    "a checksum of letters": (
        tars.header(b"a", checksum=b"letters\0"),
        "the checksum of 'a' is not an octal number",
    ),
    "a wrong checksum": (tars.header(b"a", checksum=b"000001\0 "), "the checksum of 'a' is wrong"),
    "a size of letters": (tars.header(b"a", size=b"letters\0"), "the size of 'a' is not an octal number"),
    "a PAX entry without a size": (
        tars.header(b"@pax", typeflag=b"x", size=b"letters\0"),
        "the size of '@pax' is not an octal number",
    ),
    "a PAX record of another kind": (pax(LATIN) + PLAIN, "the PAX record 'comment' is not allowed"),
    "a PAX record twice": (
        pax(tars.record(b"path", b"b"), tars.record(b"path", b"c")) + PLAIN,
        "the PAX record 'path' comes twice",
    ),
    "two PAX entries": (
        2 * pax(tars.record(b"path", b"b")) + PLAIN,
        "two PAX entries stand before one member",
    ),
    "a PAX entry at the end": (
        pax(tars.record(b"path", b"b")) + tars.END,
        "a PAX entry stands before the end",
    ),
    "padding": (PLAIN[:-1] + b"x" + tars.END, "the padding after a file is not zero"),
    "half a file": (tars.header(b"a", size=600) + bytes(512), "the tar is cut short"),
    "no end": (PLAIN, "the tar is cut short"),
    "one block of zeros": (PLAIN + bytes(512) + PLAIN, "a single zero block stands in the tar"),
    "a word behind the end": (PLAIN + tars.END + b"more", "bytes stand after the end of the tar"),
}


@pytest.mark.spec("5", "8")
@pytest.mark.fault("T3")
@pytest.mark.parametrize("form", REFUSED)
def test_a_tar_that_is_refused_is_told_what_is_wrong_with_it(form: str) -> None:
    data, message = REFUSED[form]
    with pytest.raises(TarError) as told:
        whole(data)
    assert str(told.value) == message


@pytest.mark.spec("8")
@pytest.mark.parametrize("size", [1 << 30, (8 << 30) - 1])
def test_a_large_file_is_as_large_as_its_header_says(size: int) -> None:
    _, (member, *_) = begun(tars.header(b"a", size=size))
    assert isinstance(member, Member)
    assert member.size == size


@pytest.mark.spec("8")
def test_what_fills_the_record_of_another_writer_passes_up_to_its_bound_in_whatever_pieces() -> None:
    def fed(*sizes: int) -> TarReader:
        reader, _ = begun(PLAIN + tars.END)
        for size in sizes:
            reader.feed(bytes(size))
        return reader

    half = MAX_TAIL // 2
    fed(MAX_TAIL).close()
    fed(1, half, MAX_TAIL - half - 1).close()
    with pytest.raises(TarError, match="bytes stand after the end of the tar"):
        fed(MAX_TAIL + 1)
    with pytest.raises(TarError, match="bytes stand after the end of the tar"):
        fed(1, half, MAX_TAIL - half)


@pytest.mark.spec("8")
def test_folders_that_stand_in_names_alone_may_be_as_many_as_entries() -> None:
    two = Limits(max_entries=2, max_bytes=9)
    whole(tars.file(b"x/y/a", b"1") + tars.file(b"x/y/b", b"2") + tars.END, two)
    with pytest.raises(TarError, match="more than 2 folders"):
        whole(tars.file(b"x/y/z/a", b"1") + tars.END, two)
