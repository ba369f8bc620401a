"""Names and targets of links that a bundle may hold, and those that are one on a Mac."""

from __future__ import annotations

import pytest

from rch.contract.tar import TarError, safe_path
from rch.contract.tar_names import CollisionError, LinkError, Names, fold, resolve, safe_target


@pytest.mark.spec("5")
@pytest.mark.fault("T1")
@pytest.mark.parametrize(
    "path",
    [
        "",
        ".",
        "..",
        "/",
        "/a",
        "a/",
        "a//b",
        "./a",
        "a/.",
        "a/../../b",
        "a/..",
        "a\0b",
        "a\\b",
        "n" * 256,
        "é" * 128,
        "/".join(["n" * 100] * 41),
        "/".join(["n"] * 129),
        "cafe\u0301",
        "\udcff",
    ],
)
def test_names_that_no_bundle_may_hold(path: str) -> None:
    with pytest.raises(TarError) as caught:
        safe_path(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700


@pytest.mark.spec("5")
@pytest.mark.parametrize(
    "path",
    [
        "a",
        "a b",
        "...",
        "..a",
        "-rf",
        "é",
        "Icon\r",
        "a\nb",
        "n" * 255,
        "/".join(["nn"] * 128),
        "👩🏽‍💻.swift",
    ],
)
def test_names_that_are_merely_odd_pass(path: str) -> None:
    safe_path(path)


@pytest.mark.spec("5")
@pytest.mark.fault("T1")
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("a", "A"),
        ("Sources/a", "sources/b"),
        ("straße", "STRASSE"),
        ("k", "\u212a"),  # the Kelvin sign
        ("é", "É"),
        ("a", "A/b"),
        ("ΐ", "\u1fd3"),  # the same letter, by two code points that NFC does not both keep
    ],
)
def test_names_that_are_one_on_a_mac_cannot_stand_together(first: str, second: str) -> None:
    for pair in ((first, second), (second, first)):
        names = Names()
        names.add(pair[0])
        with pytest.raises(CollisionError):
            names.add(pair[1])


@pytest.mark.spec("5")
@pytest.mark.fault("T2")
def test_a_name_is_one_thing_once() -> None:
    for first, second in (("a", "a"), ("a", "a/b"), ("a/b", "a"), ("a/b/c", "a/b")):
        names = Names()
        names.add(first)
        with pytest.raises(TarError):
            names.add(second)
    names = Names()
    names.add("a/b")
    names.add_folder("a")
    with pytest.raises(TarError, match="twice"):
        names.add_folder("a")


@pytest.mark.spec("5")
@pytest.mark.fault("T2")
@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("l", "/etc/passwd"),
        ("l", ".."),
        ("l", "a/../../b"),
        ("d/l", "../.."),
        ("l", ""),
        ("l", "a\0b"),
        ("l", "a\\b"),
        ("l", "\udcff"),
        ("l", "cafe\u0301"),
        ("l", "n/" * 2100),
    ],
)
def test_targets_that_leave_by_their_own_words(path: str, target: str) -> None:
    with pytest.raises(LinkError):
        safe_target(path, target)


@pytest.mark.spec("5")
@pytest.mark.fault("T2")
def test_links_are_followed_through_links_in_any_case() -> None:
    links = {
        "d/e/up": "../..",
        "y": "d/e/UP/../secret",
        "x": "d/e",
        "z": "x/../f",
        "one": "two",
        "two": "one",
        "deep": "d/e/up/d/./e//up",
    }
    folded = {fold(path): target for path, target in links.items()}
    assert resolve("z", folded) == "d/f"
    assert resolve("d/e/up", folded) == ""
    assert resolve("deep", folded) == ""
    with pytest.raises(LinkError, match="through another link"):
        resolve("y", folded)
    with pytest.raises(LinkError, match="ring"):
        resolve("one", folded)
