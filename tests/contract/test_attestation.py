"""Who signed an attestation, and whether that key may."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from rch.contract.attestation import Trust, check, sign
from rch.contract.records import Attestation, decode_record, encode_record
from rch.contract.signing import Untrusted, fingerprint_of, public_key_of

SEED, OTHER = bytes(range(32)), bytes(range(1, 33))
FINGERPRINT, ANOTHER = (fingerprint_of(public_key_of(seed)) for seed in (SEED, OTHER))
PLAIN = Attestation(
    created_at="2026-01-01T00:00:00Z",
    run_id="run-1",
    job_id="job-1",
    job_key="a" * 64,
    source_sha256="b" * 64,
    worker={"name": "mini", "fingerprint": None},
    capabilities_sha256="c" * 64,
    backend={"name": "swiftpm", "version": "6.3.1"},
    manifest_sha256="d" * 64,
    host_nonce="e" * 32,
    simulated=False,
)
SIGNED = encode_record(sign(PLAIN, SEED))

pytestmark = [pytest.mark.spec("10")]


def changed(**members: Any) -> bytes:
    """The signed file with other members; None takes one out."""
    told = json.loads(SIGNED)
    for name, value in members.items():
        told[name] = value(told.get(name)) if callable(value) else value
    return json.dumps({name: value for name, value in told.items() if value is not None}).encode()


def refusal(data: bytes, *pins: str) -> str:
    with pytest.raises(Untrusted) as told:
        check(data, pins)
    return str(told.value)


def test_a_pinned_key_verifies_also_beside_another_pin() -> None:
    for pins in ((FINGERPRINT,), (ANOTHER, FINGERPRINT)):
        assert check(SIGNED, pins) == Trust(
            result="verified",
            detail=f"signed by the pinned key {FINGERPRINT}",
            fingerprint=FINGERPRINT,
            public_key=public_key_of(SEED),
        )


def test_without_a_pin_a_signature_is_told_for_what_it_is() -> None:
    assert (check(SIGNED, ()).result, check(SIGNED, ()).fingerprint) == ("unpinned", FINGERPRINT)
    assert check(encode_record(PLAIN), ()).result == "unsigned"


@pytest.mark.fault("A3")
def test_no_signature_under_a_pin_is_a_failure() -> None:
    assert refusal(encode_record(PLAIN), FINGERPRINT) == f"is unsigned, and {FINGERPRINT} is pinned"


@pytest.mark.fault("A3")
@pytest.mark.fault("A6")
def test_a_key_that_is_not_pinned_or_no_more_is_refused() -> None:
    assert f"is signed by {FINGERPRINT}; pinned is {ANOTHER}" in refusal(SIGNED, ANOTHER)


def test_the_form_is_the_published_one() -> None:
    """A second implementation: another library, and the form built by hand."""
    told = json.loads(SIGNED)
    signature = base64.b64decode(told.pop("signature"))
    public = base64.b64decode(told["public_key"])
    body = json.dumps(told, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    Ed25519PublicKey.from_public_bytes(public).verify(signature, body)
    assert told["public_key_fingerprint"] == "SHA256:" + hashlib.sha256(public).hexdigest()
    assert told["worker"] == {"name": "mini", "fingerprint": told["public_key_fingerprint"]}


def test_members_of_a_newer_worker_are_signed_as_well() -> None:
    newer = json.loads(encode_record(PLAIN)) | {"since_then": 1}
    assert refusal(changed(since_then=1), FINGERPRINT) == "has a signature that is not that of its members"
    told = json.loads(encode_record(sign(decode_record(json.dumps(newer).encode(), Attestation), SEED)))
    assert "since_then" not in told


@pytest.mark.fault("A2")
@pytest.mark.parametrize("member", sorted(set(json.loads(SIGNED)) - {"public_key", "signature"}))
def test_any_member_that_is_changed_or_gone_breaks_the_signature(member: str) -> None:
    def other(value: Any) -> Any:
        if isinstance(value, bool | int):
            return 1 if value is False else 7
        return {**value, "x": "y"} if isinstance(value, dict) else f"{value}0"

    refusal(changed(**{member: other}), FINGERPRINT)
    refusal(changed(**{member: None}), FINGERPRINT)


def flipped(text: str) -> str:
    raw = bytearray(base64.b64decode(text))
    raw[5] ^= 1
    return base64.b64encode(raw).decode()


@pytest.mark.fault("A3")
@pytest.mark.parametrize(
    "change",
    [
        {"signature": flipped},
        {"public_key": flipped},
        {"signature": lambda text: base64.b64encode(base64.b64decode(text)[:-1]).decode()},
        {"signature": lambda text: text + "\n"},
        {"signature": lambda text: text.rstrip("=")},
        {"signature": lambda text: text.replace("=", "A", 1)},
        {"signature": lambda text: text[:-3] + chr(ord(text[-3]) + 1) + text[-2:]},
        {"signature": ""},
        {"signature": 5},
        {"signature": None},
        {"public_key": None},
        {"public_key": base64.b64encode(bytes(32)).decode()},
        {"public_key_fingerprint": ANOTHER},
        {"public_key_fingerprint": None},
        {"worker": {"name": "mini", "fingerprint": ANOTHER}},
        {"worker": "mini"},
    ],
)
def test_a_signature_that_is_cut_bent_or_of_another_is_refused(change: dict[str, Any]) -> None:
    refusal(changed(**change), FINGERPRINT)
    refusal(changed(**change))


@pytest.mark.fault("A3")
def test_the_right_facts_signed_anew_by_another_key_are_refused() -> None:
    again = encode_record(sign(decode_record(SIGNED, Attestation), OTHER))
    assert check(again, (ANOTHER,)).result == "verified"
    refusal(again, FINGERPRINT)


@pytest.mark.fault("A3")
@pytest.mark.parametrize(
    "members",
    [
        {"dsse": []},
        {"dsse": [{"payload": "", "payloadType": "x", "signatures": []}]},
        {"worker": {"name": "mini", "fingerprint": FINGERPRINT}},
    ],
)
def test_an_unsigned_one_claims_nothing_of_a_key(members: dict[str, Any]) -> None:
    told = json.loads(encode_record(PLAIN)) | members
    assert "is unsigned, and not in the form" in refusal(json.dumps(told).encode())


@pytest.mark.parametrize("depth", [100, 900, 200_000])
def test_what_nests_without_end_is_refused_and_ends_nothing(depth: int) -> None:
    deep = b"[" * depth + b"]" * depth
    refusal(SIGNED.rstrip(b"}\n ") + b',"x":' + deep + b"}")


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b"{", b"\xff", b'"x"'])
def test_what_is_no_object_is_refused(data: bytes) -> None:
    refusal(data)


@given(st.binary(max_size=200), st.integers(0, len(SIGNED)), st.integers(0, len(SIGNED)))
def test_no_bytes_but_the_signed_ones_verify(junk: bytes, one: int, other: int) -> None:
    data = SIGNED[: min(one, other)] + junk + SIGNED[max(one, other) :]
    try:
        same = msgspec.json.decode(data) == msgspec.json.decode(SIGNED)
    except (msgspec.DecodeError, ValueError):
        same = False
    outcome: Callable[[], Trust] = lambda: check(data, (FINGERPRINT,))  # noqa: E731  (tried twice below)
    if same:
        assert outcome().result == "verified"
    else:
        with pytest.raises(Untrusted):
            outcome()
