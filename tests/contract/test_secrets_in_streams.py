"""What looks like a secret goes out of a stream, wherever the pieces of it are cut."""

from __future__ import annotations

import pytest

from rch.contract import shown
from rch.contract.redact import (
    REDACTED,
    Looks,
    Scrubber,
    holds_secret,
    is_secret,
    names_secret,
    scrub,
    scrub_words,
)
from rch.contract.shown import Aside, Past, Piece, Sieve, shown_of, woven

pytestmark = pytest.mark.spec("11")

TOKEN = "ghp_" + "a" * 36
KEY_LINES = ("MIIEvQIBADANBgkqhkiG9w0BAQEFAASC", "BKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj")
BLOCK = f"-----BEGIN PRIVATE KEY-----\n{KEY_LINES[0]}\n{KEY_LINES[1]}\n-----END PRIVATE KEY-----"
HEADED = BLOCK.replace("PRIVATE", "RSA PRIVATE").replace("-----\n", "-----\nProc-Type: 4,ENCRYPTED\n\n", 1)
TEXTS = {
    "token": f"before {TOKEN} after",
    "userinfo": "clone https://user:hunter22@host/x done",
    "block": f"first\n{BLOCK}\nlast",
    "headed block": f"first\n{HEADED}\nlast",
    "token in colours": f"a \x1b[31m{TOKEN}\x1b[0m b",
    "token cut by a colour": f"a ghp_{'a' * 10}\x1b[0m{'a' * 26} b",
    "two": f"{TOKEN} {TOKEN}\n{TOKEN}",
}
SECRETS = (TOKEN, "hunter22", *KEY_LINES)


def through(text: str, size: int) -> str:
    """The text as it comes out of a scrubber that is fed in pieces."""
    scrubber, data = Scrubber(), text.encode()
    pieces = [scrubber.feed(data[at : at + size]) for at in range(0, len(data), size)]
    return b"".join([*pieces, scrubber.feed(b"", last=True)]).decode()


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("size", [1, 2, 5, 64, 4096])
def test_pieces_make_no_difference(text: str, size: int) -> None:
    told = through(text, size)
    assert told == scrub(text)
    assert REDACTED in told
    assert not any(secret in shown_of(told.encode()).decode() for secret in SECRETS)
    assert holds_secret(text)
    assert not holds_secret("nothing to see")


def test_what_stands_around_a_secret_stays() -> None:
    assert scrub(TEXTS["token"]) == f"before {REDACTED} after"
    assert scrub(TEXTS["block"]) == f"first\n{REDACTED}\nlast"
    assert scrub(TEXTS["headed block"]) == f"first\n{REDACTED}\nlast"
    assert scrub(TEXTS["token in colours"]) == f"a \x1b[31m{REDACTED}\x1b[0m b"
    assert scrub("plain text") == "plain text"


def test_a_sign_in_the_midst_of_a_word_begins_no_secret() -> None:
    key = "sk-" + "a" * 24
    for size in (1, 3, 4096):
        assert through(f"ta{key}", size) == f"ta{key}"
        assert through(f"-{key}", size) == f"-{REDACTED}"
        assert through(f"{key} ta{key}", size) == f"{REDACTED} ta{key}"
        assert through(key, size) == REDACTED


def test_a_block_that_does_not_end_hides_what_looks_like_a_key_and_nothing_more() -> None:
    cut = f"-----BEGIN PRIVATE KEY-----\n{KEY_LINES[0]}\n"
    for size in (3, 4096):
        assert through(cut + "error: a failure\n", size) == f"{REDACTED}\nerror: a failure\n"
    assert through(cut + "-----EN", 4) == f"{REDACTED}\n"
    assert through(cut + "MIIE", 4) == f"{REDACTED}\n"
    assert through("-----BEGIN PRIVATE KEY-----", 1) == REDACTED


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--token", "abc", "x"], ["--token", REDACTED, "x"]),
        (["--token=abc"], [f"--token={REDACTED}"]),
        (["DEPLOY_TOKEN=abc"], [f"DEPLOY_TOKEN={REDACTED}"]),
        (["DEPLOY_TOKEN="], ["DEPLOY_TOKEN="]),
        (["--token", "--verbose"], ["--token", "--verbose"]),
        (["--token=", "abc"], ["--token=", "abc"]),
        (["token", "abc"], ["token", "abc"]),
        (["-scheme", "App", TOKEN], ["-scheme", "App", REDACTED]),
    ],
)
def test_a_word_is_judged_by_its_look_and_by_the_flag_before_it(words: list[str], told: list[str]) -> None:
    assert scrub_words(words) == told


def test_a_value_is_a_secret_by_its_name_or_by_its_look() -> None:
    assert names_secret("GITHUB_TOKEN")
    assert not names_secret("scheme")
    assert is_secret("password", "x")
    assert is_secret("scheme", TOKEN)
    assert is_secret("password", 7)
    assert not any(is_secret("password", nothing) for nothing in (None, "", True, False))
    assert not is_secret("scheme", "App")


# --- what is not shown goes past the look -------------------------------------------------


def test_what_is_not_shown_is_parted_and_put_back_where_it_stood() -> None:
    told, aside = Sieve().feed(b"a\x1b[31mb\xe2\x80\x8bc", last=True)
    assert told == b"abc"
    assert aside == [Aside(1, b"\x1b[31m"), Aside(2, "\u200b".encode())]
    assert woven(told, aside, 0) == b"a\x1b[31mb\xe2\x80\x8bc"
    assert woven(told, [], 0) == told


def test_a_sequence_waits_for_its_end_and_a_character_for_its_bytes() -> None:
    sieve = Sieve()
    assert sieve.feed(b"ab\x1b[3") == (b"ab", [])
    assert sieve.feed(b"1mc\xe2\x82") == (b"c", [Aside(2, b"\x1b[31m")])
    assert sieve.feed(b"\xac") == ("€".encode(), [])
    assert sieve.feed(b"\xff", last=True) == (b"\xff", [])


class Everything:
    """A stage that puts one sign in the place of all that it is given."""

    def pieces(self, data: bytes, *, last: bool = False) -> list[Piece]:
        del data
        return [Piece(0, b"*", put=True)] if last else []


def test_what_stood_in_the_midst_of_what_was_taken_out_goes_with_it() -> None:
    past = Past(Everything())
    assert past.feed(b"secret", [Aside(0, b"<"), Aside(3, b"|")]) == (b"", [])
    assert past.feed(b"", [Aside(6, b">")], last=True) == (b"*", [Aside(0, b"<"), Aside(1, b">")])


def test_more_that_waits_than_may_wait_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shown, "_MOST_ASIDE", 4)
    past = Past(Everything())
    past.feed(b"secret", [Aside(0, b"1234"), Aside(0, b"5")])
    assert past.feed(b"", [], last=True)[1] == [Aside(0, b"1234")]


def test_a_stage_alone_knows_the_look_of_a_secret() -> None:
    looks = Looks()
    assert looks.pieces(b"x ghp_") == [Piece(0, b"x ")]
    pieces = [*looks.pieces(b"a" * 36 + b" y"), *looks.pieces(b"", last=True)]
    assert [(piece.at, piece.data, piece.put) for piece in pieces] == [
        (2, REDACTED.encode(), True),
        (42, b" y", False),
    ]
