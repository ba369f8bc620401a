"""RFC 8785 bytes, and the digests over them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rch.contract.canonical import jcs, jcs_sha256
from rch.contract.records import JobKeyInputs


@pytest.mark.spec("7")
def test_members_sort_by_utf16_code_units_not_by_code_points() -> None:
    # U+10000 is D800 DC00 in UTF-16 and so stands before U+FFFD.
    assert jcs({"\ufffd": 1, "\U00010000": 2}) == '{"\U00010000":2,"\ufffd":1}'.encode()


@pytest.mark.spec("7")
@pytest.mark.fault("A5")
def test_strings_are_escaped_as_little_as_the_rfc_says() -> None:
    assert jcs({"é": '€\u0001\n"\\/'}) == '{"é":"€\\u0001\\n\\"\\\\/"}'.encode()


@pytest.mark.spec("7")
@pytest.mark.fault("A5")
@pytest.mark.parametrize("value", [1.5, 1e21, -0.0, 2**53, -(2**53), 2**60])
def test_numbers_that_readers_disagree_on_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="no place in a digest"):
        jcs({"a": [value]})


@pytest.mark.spec("7")
def test_the_largest_safe_integers_pass() -> None:
    assert jcs([2**53 - 1, -(2**53 - 1), 0]) == b"[9007199254740991,-9007199254740991,0]"


def second_implementation(value: object) -> str:
    """Objects by hand, strings by the standard library: for texts without control characters."""
    if isinstance(value, dict):
        ordered = sorted(value.items(), key=lambda item: item[0].encode("utf-16-be"))
        return (
            "{"
            + ",".join(f"{second_implementation(k)}:{second_implementation(v)}" for k, v in ordered)
            + "}"
        )
    if isinstance(value, list):
        return "[" + ",".join(second_implementation(item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False)


texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=6)


@pytest.mark.spec("7")
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | texts,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
        max_leaves=12,
    )
)
def test_a_second_implementation_agrees(value: object) -> None:
    assert jcs(value).decode() == second_implementation(value)


@pytest.mark.spec("7")
def test_the_published_job_key_vector() -> None:
    inputs = JobKeyInputs(
        source_sha256="0" * 64,
        sanitized_argv=("build", "--configuration", "debug"),
        toolchain={
            "swift_version": "6.3.1",
            "toolchain_dir": "/opt/swift/usr",
            "os_name": "Linux",
            "os_version": "debian-12",
            "arch": "x86_64",
        },
        destination={
            "platform": "Linux",
            "name": "host",
            "os_version": "debian-12",
            "provisioning": "existing",
        },
    )
    assert jcs(inputs) == (
        b'{"destination":{"name":"host","os_version":"debian-12","platform":"Linux","provisioning":"existing"},'
        b'"sanitized_argv":["build","--configuration","debug"],'
        b'"source_sha256":"' + b"0" * 64 + b'",'
        b'"toolchain":{"arch":"x86_64","os_name":"Linux","os_version":"debian-12",'
        b'"swift_version":"6.3.1","toolchain_dir":"/opt/swift/usr"}}'
    )
    assert len(jcs_sha256(inputs)) == 64
