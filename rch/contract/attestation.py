"""Signs and checks attestations: Ed25519 over the RFC 8785 form of all but the signature (section 10).

What is checked are the members of the file as it came: what a newer worker adds is signed as well.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from rch.contract.canonical import jcs
from rch.contract.framing import FrameError, decode_object
from rch.contract.records import Attestation
from rch.contract.signing import (
    KEY_BYTES,
    SIGNATURE_BYTES,
    Untrusted,
    decoded,
    encoded,
    fingerprint_of,
    is_signed,
    public_key_of,
    signature_of,
)

_MEMBERS = ("public_key", "public_key_fingerprint", "signature")


class Trust(msgspec.Struct, frozen=True, kw_only=True):
    """What an attestation's signature is worth.

    `result` is verified (by a pinned key), unpinned (a right signature of a key that nobody
    pinned) or unsigned. `public_key` is raw, empty where there is none.
    """

    result: str
    detail: str
    fingerprint: str | None = None
    public_key: bytes = b""


def named(attestation: Attestation, public_key: bytes) -> Attestation:
    """The attestation with the key that is to sign it, which `worker.fingerprint` names too."""
    return msgspec.structs.replace(
        attestation,
        worker={**attestation.worker, "fingerprint": fingerprint_of(public_key)},
        public_key=encoded(public_key),
        public_key_fingerprint=fingerprint_of(public_key),
        signature=msgspec.UNSET,
    )


def sign(attestation: Attestation, seed: bytes) -> Attestation:
    """The attestation with key, fingerprint and signature."""
    told = named(attestation, public_key_of(seed))
    return msgspec.structs.replace(told, signature=encoded(signature_of(jcs(told), seed)))


def check(data: bytes, pins: Collection[str]) -> Trust:
    """What the bytes of an `attestation.json` are worth where `pins` may sign, or anybody without any.

    `Untrusted`: a signature that is wrong, half of one, or of another key, and none where one is
    pinned. Facts and envelopes are not looked at.
    """
    told = _members(data)
    given = [name for name in _MEMBERS if told.get(name) is not None]
    worker = told["worker"] if isinstance(told.get("worker"), dict) else {}
    if not given:
        if pins:
            raise Untrusted(f"is unsigned, and {_listed(pins)} is pinned")
        if told.get("dsse") is not None or worker.get("fingerprint") is not None:
            raise Untrusted("is unsigned, and not in the form of what a worker without a key writes")
        return Trust(result="unsigned", detail="the worker does not sign and no key is pinned")
    if len(given) < len(_MEMBERS):
        raise Untrusted(f"has {' and '.join(given)} alone, which is no signature")
    public = decoded(told["public_key"], "public_key", KEY_BYTES)
    signature = decoded(told.pop("signature"), "signature", SIGNATURE_BYTES)
    fingerprint = fingerprint_of(public)
    if told["public_key_fingerprint"] != fingerprint or worker.get("fingerprint") != fingerprint:
        raise Untrusted(f"names another key than the one it carries, {fingerprint}")
    _check_signature(told, public, signature)
    if pins and fingerprint not in pins:
        raise Untrusted(f"is signed by {fingerprint}; pinned is {_listed(pins)}")
    detail = (
        f"signed by the pinned key {fingerprint}"
        if pins
        else f"signed by {fingerprint}, which is not pinned"
    )
    return Trust(
        result="verified" if pins else "unpinned",
        detail=detail,
        fingerprint=fingerprint,
        public_key=public,
    )


def _members(data: bytes) -> dict[str, Any]:
    try:
        return decode_object(data)
    except FrameError as error:
        raise Untrusted(f"is no plain JSON object: {error}") from error


def _check_signature(rest: dict[str, Any], public: bytes, signature: bytes) -> None:
    try:
        form = jcs(rest)
    except ValueError as error:
        raise Untrusted(f"has no canonical form: {error}") from error
    if not is_signed(form, signature, public):
        raise Untrusted("has a signature that is not that of its members")


def _listed(pins: Collection[str]) -> str:
    return " or ".join(sorted(pins))
