"""Tars that no end may take, by name, each with its end so that only the fault itself can be the reason.

The artifact reader is told `announced` entries; the source reader has a bound that no case here meets.
"""

from __future__ import annotations

from support import tars

LONG = b"n" * 101
NFD = "cafe\u0301".encode()
NFC = "caf\u00e9".encode()


def record_of(length: bytes, rest: bytes) -> bytes:
    """A PAX record that says another length than it has."""
    return length + b" " + rest


def named(path: bytes, content: bytes = b"") -> bytes:
    """A file whose name stands in PAX, as our own writer puts it."""
    return tars.pax(tars.record(b"path", path)) + tars.file(path[:100], content)


def pax_file(*records: bytes) -> bytes:
    """A file with a long name and further PAX records beside it."""
    return tars.pax(b"".join(records) + tars.record(b"path", LONG)) + tars.file(LONG[:100])


def deep_chain() -> bytes:
    """The shape of CVE-2025-4517 and -4330: a real path beyond PATH_MAX hides the way out."""
    step, data, inner = b"d" * 247, b"", b""
    for letter in b"abcdefghijklmnop":
        inner += step + b"/"
        data += tars.pax(tars.record(b"path", inner[:-1])) + tars.folder(inner[:100])
        data += tars.pax(tars.record(b"linkpath", step)) + tars.link(bytes([letter]), step[:100])
    return data + tars.link(b"z", b"a/" * 16 + b"../" * 16 + b"victim") + tars.file(b"z", b"evil")


BAD_NAMES = {
    "absolute": tars.file(b"/etc/x"),
    "absolute by PAX": named(b"/" + LONG),
    "absolute by two slashes": tars.file(b"//host/x"),
    "two dots": tars.file(b".."),
    "climbs": tars.file(b"../victim"),
    "climbs inside": tars.file(b"a/../../b"),
    "climbs by PAX": named(b"a/../../" + LONG),
    "climbs at the end": tars.file(b"a/.."),
    "empty": tars.file(b""),
    "empty by PAX": tars.pax(tars.record(b"path", b"")) + tars.file(b""),
    "dot": tars.file(b"."),
    "dot slash": tars.file(b"./a"),
    "empty part": tars.file(b"a//b"),
    "slash at the end of a file": tars.file(b"a/"),
    "NUL": tars.header(b"a\0b"),
    "NUL by PAX": named(b"a\0" + LONG),
    "backslash": tars.file(b"..\\victim"),
    "part of 256 bytes": named(b"n" * 256),
    "part of 256 bytes in UTF-8": named("é".encode() * 128),
    "path of 4096 bytes": named((b"n" * 200 + b"/") * 20 + b"n" * 76),
    "129 folders deep": named(b"/".join([b"n"] * 129)),
    "not UTF-8": tars.file(b"\xff"),
    "not UTF-8 by PAX": named(b"\xff" * 101),
    "overlong UTF-8": tars.file(b"\xc0\xae\xc0\xae/x"),
    "lone surrogate in UTF-8": tars.file(b"\xed\xa0\x80"),
    "NFD": named(NFD),
    "NFC and NFD twins": named(NFD) + named(NFC),
    "case twins": tars.file(b"A") + tars.file(b"a"),
    "case twins of folders": tars.file(b"A/a") + tars.file(b"a/b"),
    "case twins beyond ASCII": named(b"STRASSE.txt" * 10) + named("straße.txt".encode() * 10),
    "twice": tars.file(b"a") + tars.file(b"a"),
    "file, then folder by a name": tars.file(b"a") + tars.file(b"a/b"),
    "file, then folder entry": tars.file(b"a") + tars.folder(b"a/"),
    "folder, then file": tars.file(b"a/b") + tars.file(b"a"),
    "folder entry twice": tars.folder(b"a") + tars.folder(b"a/"),
}

BAD_KINDS = {
    "link absolute": tars.link(b"l", b"/etc/passwd"),
    "link out": tars.link(b"l", b"../victim"),
    "link out by PAX": tars.pax(tars.record(b"linkpath", b"../" * 40 + b"victim"))
    + tars.link(b"l", (b"../" * 40)[:100]),
    "link chain out": tars.link(b"a", b"d/e/up/../victim") + tars.link(b"d/e/up", b"../.."),
    "link ring": tars.link(b"a", b"b") + tars.link(b"b", b"a"),
    "link chain of 42": b"".join(tars.link(b"%03d" % n, b"%03d" % (n + 1)) for n in range(42)),
    "write through a link": tars.link(b"l", b"d") + tars.file(b"l/x", b"evil"),
    "file over a link": tars.link(b"l", b"d") + tars.file(b"l", b"evil"),
    "link over a file": tars.file(b"l") + tars.link(b"l", b"d"),
    "link without a target": tars.header(b"l", typeflag=b"2", mode=b"0000777\0"),
    "link with content": tars.header(b"l", typeflag=b"2", link=b"b", size=512) + bytes(512),
    "hard link": tars.file(b"a") + tars.header(b"b", typeflag=b"1", link=b"a"),
    "hard link out": tars.header(b"b", typeflag=b"1", link=b"../victim"),
    "hard link to a link": tars.link(b"l", b"a") + tars.header(b"m", typeflag=b"1", link=b"l"),
    "character device": tars.header(b"a", typeflag=b"3"),
    "block device": tars.header(b"a", typeflag=b"4"),
    "FIFO": tars.header(b"a", typeflag=b"6"),
    "contiguous": tars.header(b"a", typeflag=b"7"),
    "socket by its mode": tars.header(b"a", mode=b"0140644\0"),
    "socket by a foreign type": tars.header(b"a", typeflag=b"s"),
    "unknown type": tars.header(b"a", typeflag=b"Z"),
    "GNU sparse": tars.header(b"a", typeflag=b"S"),
    "GNU long name": tars.header(b"././@LongLink", typeflag=b"L", size=102) + bytes(512),
    "GNU long link": tars.header(b"././@LongLink", typeflag=b"K", size=102) + bytes(512),
    "GNU dump folder": tars.header(b"a", typeflag=b"D"),
    "GNU multi-volume": tars.header(b"a", typeflag=b"M"),
    "GNU volume label": tars.header(b"a", typeflag=b"V"),
    "Solaris extended header": tars.header(b"a", typeflag=b"X", size=512) + bytes(512),
    "setuid": tars.file(b"a", mode=b"0004755\0"),
    "setgid": tars.file(b"a", mode=b"0002755\0"),
    "sticky": tars.file(b"a", mode=b"0001755\0"),
    "folder with content": tars.header(b"a", typeflag=b"5", size=512) + bytes(512),
    "CVE-2025-4517": deep_chain(),
    "CVE-2025-4330": tars.link(b"d/e/up", b"../..") + tars.link(b"y", b"d/e/up/../victim"),
    "CVE-2025-4138": tars.link(b"a", b"d/../../victim") + tars.file(b"a", b"evil"),
}

BAD_RECORDS = {
    "PAX sparse 0.1": pax_file(tars.record(b"GNU.sparse.map", b"0,1")),
    "PAX sparse 1.0": pax_file(
        tars.record(b"GNU.sparse.major", b"1"), tars.record(b"GNU.sparse.name", b"../victim")
    ),
    "xattr of SCHILY": pax_file(tars.record(b"SCHILY.xattr.user.x", b"1")),
    "xattr of LIBARCHIVE": pax_file(tars.record(b"LIBARCHIVE.xattr.user.x", b"MQ==")),
    "ACL": pax_file(tars.record(b"SCHILY.acl.access", b"u::rwx")),
    "hdrcharset": pax_file(tars.record(b"hdrcharset", b"BINARY")),
    "PAX size override": tars.pax(tars.record(b"size", b"4")) + tars.file(b"a", b"12345678"),
    "PAX size of 5000 digits": tars.pax(tars.record(b"size", b"9" * 5000)) + tars.file(b"a"),
    "PAX size below zero": tars.pax(tars.record(b"size", b"-8589934592")) + tars.file(b"a"),
    "PAX size in other digits": tars.pax(tars.record(b"size", "٨٥٨٩٩٣٤٥٩٢".encode())) + tars.file(b"a"),
    "PAX length zero": tars.pax(record_of(b"0", b"path=a\n")) + tars.file(b"a"),
    "PAX length too short": tars.pax(record_of(b"5", b"path=abcdef\n")) + tars.file(b"a"),
    "PAX length of one": tars.pax(record_of(b"1", b"path=a\n")) + tars.file(b"a"),
    "PAX length too long": tars.pax(record_of(b"99", b"path=a\n")) + tars.file(b"a"),
    "PAX length of many digits": tars.pax(record_of(b"9" * 400, b"path=a\n")) + tars.file(b"a"),
    "PAX length with a zero before": tars.pax(record_of(b"010", b"path=a\n")) + tars.file(b"a"),
    "PAX length below zero": tars.pax(record_of(b"-9", b"path=a\n")) + tars.file(b"a"),
    "PAX without a length": tars.pax(b"path=a\n") + tars.file(b"a"),
    "PAX without an equals sign": tars.pax(b"8 path\n\n") + tars.file(b"a"),
    "PAX without a newline": tars.pax(b"9 path=ab") + tars.file(b"a"),
    "PAX key not UTF-8": pax_file(tars.record(b"\xff", b"1")),
    "PAX key twice": tars.pax(2 * tars.record(b"path", LONG)) + tars.file(LONG[:100]),
    "PAX empty": tars.pax(b"") + tars.file(b"a"),
    "PAX of 16 KiB and one": tars.pax(tars.record(b"mtime", b"1" * (16385 - 13))) + tars.file(b"a"),
    "PAX of 1 MiB": tars.header(b"@pax", typeflag=b"x", size=1 << 20) + bytes(1 << 20),
    "PAX of 8 GiB": tars.header(b"@pax", typeflag=b"x", size=b"77777777777\0"),
    "PAX twice": 2 * tars.pax(tars.record(b"path", LONG)) + tars.file(LONG[:100]),
    "PAX at the end": tars.pax(tars.record(b"path", LONG)),
    "global header": tars.pax(tars.record(b"path", b"evil"), typeflag=b"g") + tars.file(b"a"),
    "global header with a comment": tars.pax(tars.record(b"comment", b"x"), typeflag=b"g")
    + tars.file(b"a"),
}

BAD_FIELDS = {
    "checksum zero": tars.header(b"a", checksum=b"000000\0 "),
    "checksum blank": tars.header(b"a", checksum=b" " * 8),
    "size not octal": tars.header(b"a", size=b"0000000009z\0"),
    "size blank": tars.header(b"a", size=bytes(12)),
    "size with a sign": tars.header(b"a", size=b"-0000000001\0"),
    "size negative in base 256": tars.header(b"a", size=b"\xff" * 12),
    "size in base 256": tars.header(b"a", size=b"\x80" + bytes(10) + b"\6") + bytes(512),
    "mode not octal": tars.header(b"a", mode=b"rwxr-xr\0"),
    "mode in base 256": tars.header(b"a", mode=b"\x80" + bytes(6) + b"\4"),
    "GNU magic": tars.header(b"a", magic=b"ustar  \0"),
    "no magic": tars.header(b"a", magic=b""),
    "owner not octal": tars.header(b"a", uid=b"00000-1\0"),
    "owner in base 256": tars.header(b"a", uid=b"\x80" + bytes(6) + b"\1"),
    "time before 1970": tars.header(b"a", mtime=b"\xff" * 12),
    "time not octal": tars.header(b"a", mtime=b"yesterday"),
    "device not octal": tars.header(b"a")[:329] + b"9551615" + tars.header(b"a")[336:],
    "prefix that climbs": tars.header(b"a", prefix=b"../.."),
    "padding not zero": tars.file(b"a", b"1")[:-1] + b"x",
    "one zero block inside": tars.file(b"a") + bytes(512) + tars.file(b"b"),
}

CUT = {
    "nothing at all": b"",
    "no zero blocks": tars.file(b"a", b"1"),
    "one zero block": tars.file(b"a", b"1") + bytes(512),
    "half a header": tars.header(b"a")[:300],
    "half a file": tars.header(b"a", size=600) + bytes(512),
    "half a PAX entry": tars.header(b"@pax", typeflag=b"x", size=600) + bytes(512),
    "data after the end": tars.file(b"a") + tars.END + b"evil",
    "a second tar after the end": 2 * (tars.file(b"a") + tars.END),
    "100 KB of zeros after the end": tars.file(b"a") + tars.END + bytes(100_000),
}

FORMS: dict[str, bytes] = {
    **{
        name: data + tars.END
        for table in (BAD_NAMES, BAD_KINDS, BAD_RECORDS, BAD_FIELDS)
        for name, data in table.items()
    },
    **CUT,
    "a folder entry": tars.folder(b"a") + tars.END,
    "a folder entry after its files": tars.file(b"a/b") + tars.folder(b"a/") + tars.END,
    "an old file type": tars.header(b"a", typeflag=b"\0") + tars.END,
    "a time by PAX": pax_file(tars.record(b"mtime", b"1")) + tars.END,
}
