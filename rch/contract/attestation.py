"""Signs and checks attestations: Ed25519 over the RFC 8785 form of all but the signature (section 10).

A key is known by its fingerprint, `SHA256:` and the hex SHA-256 of the 32 raw bytes. What is
checked are the members of the file as it came: what a newer worker adds is signed as well.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Collection
from typing import Any

import msgspec

from rch.contract.canonical import jcs
from rch.contract.framing import FrameError, decode_object
from rch.contract.records import Attestation

_KEY_BYTES, _SIGNATURE_BYTES = 32, 64
_MEMBERS = ("public_key", "public_key_fingerprint", "signature")


class Untrusted(ValueError):  # noqa: N818  (a finding, not a defect)
    """The signature is none, or not that of a key that may sign. The text says which."""


class Trust(msgspec.Struct, frozen=True, kw_only=True):
    """What an attestation's signature is worth.

    `result` is verified (by a pinned key), unpinned (a right signature of a key that nobody
    pinned) or unsigned.
    """

    result: str
    detail: str
    fingerprint: str | None = None


def fingerprint_of(public_key: bytes) -> str:
    """How a raw public key is pinned."""
    return f"SHA256:{hashlib.sha256(public_key).hexdigest()}"


def public_key_of(seed: bytes) -> bytes:
    """The raw public key of a 32-byte seed."""
    from nacl.signing import SigningKey  # it costs a start 15 ms, and most starts sign nothing

    return bytes(SigningKey(seed).verify_key)


def sign(attestation: Attestation, seed: bytes) -> Attestation:
    """The attestation with key, fingerprint and signature; `worker.fingerprint` names the key too."""
    from nacl.signing import SigningKey

    key = SigningKey(seed)
    public = bytes(key.verify_key)
    named = msgspec.structs.replace(
        attestation,
        worker={**attestation.worker, "fingerprint": fingerprint_of(public)},
        public_key=base64.b64encode(public).decode(),
        public_key_fingerprint=fingerprint_of(public),
        signature=msgspec.UNSET,
    )
    signature = key.sign(jcs(named)).signature
    return msgspec.structs.replace(named, signature=base64.b64encode(signature).decode())


def check(data: bytes, pins: Collection[str]) -> Trust:
    """What the bytes of an `attestation.json` are worth where `pins` may sign, or anybody without any.

    `Untrusted`: a signature that is wrong, half of one, or of another key, and none where one is
    pinned. Facts are not looked at.
    """
    told = _members(data)
    given = [name for name in _MEMBERS if told.get(name) is not None]
    if not given:
        if pins:
            raise Untrusted(f"is unsigned, and {_listed(pins)} is pinned")
        return Trust(result="unsigned", detail="the worker does not sign and no key is pinned")
    if len(given) < len(_MEMBERS):
        raise Untrusted(f"has {' and '.join(given)} alone, which is no signature")
    public = _raw(told["public_key"], "public_key", _KEY_BYTES)
    signature = _raw(told.pop("signature"), "signature", _SIGNATURE_BYTES)
    fingerprint = fingerprint_of(public)
    named = told["worker"].get("fingerprint") if isinstance(told.get("worker"), dict) else None
    if [told["public_key_fingerprint"], named] != [fingerprint] * 2:  # lists: they may hold anything
        raise Untrusted(f"names another key than the one it carries, {fingerprint}")
    _check_signature(told, public, signature)
    if not pins:
        return Trust(
            result="unpinned",
            detail=f"signed by {fingerprint}, which is not pinned",
            fingerprint=fingerprint,
        )
    if fingerprint not in pins:
        raise Untrusted(f"is signed by {fingerprint}; pinned is {_listed(pins)}")
    return Trust(
        result="verified", detail=f"signed by the pinned key {fingerprint}", fingerprint=fingerprint
    )


def _members(data: bytes) -> dict[str, Any]:
    try:
        return decode_object(data)
    except FrameError as error:
        raise Untrusted(f"is no plain JSON object: {error}") from error


def _raw(text: object, name: str, length: int) -> bytes:
    """The bytes of a member in base64, which has one spelling here."""
    try:
        raw = base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != length or base64.b64encode(raw).decode() != text:
        raise Untrusted(f"has a {name} that is not {length} bytes in base64")
    return raw


def _check_signature(rest: dict[str, Any], public: bytes, signature: bytes) -> None:
    from nacl.exceptions import CryptoError
    from nacl.signing import VerifyKey

    try:
        VerifyKey(public).verify(jcs(rest), signature)
    except (CryptoError, ValueError) as error:
        raise Untrusted("has a signature that is not that of its members") from error


def _listed(pins: Collection[str]) -> str:
    return " or ".join(sorted(pins))
