"""Ed25519 keys and signatures as attestations and envelopes use them (spec section 10).

A key is known by its fingerprint, `SHA256:` and the hex SHA-256 of the 32 raw bytes. Base64 has one
spelling here: standard alphabet, padded, nothing around it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib

KEY_BYTES, SIGNATURE_BYTES = 32, 64


class Untrusted(ValueError):  # noqa: N818  (a finding, not a defect)
    """The signature is none, or not that of a key that may sign. The text says which."""


def fingerprint_of(public_key: bytes) -> str:
    """How a raw public key is pinned."""
    return f"SHA256:{hashlib.sha256(public_key).hexdigest()}"


def public_key_of(seed: bytes) -> bytes:
    """The raw public key of a 32-byte seed."""
    from nacl.signing import SigningKey  # it costs a start 15 ms, and most starts sign nothing

    return bytes(SigningKey(seed).verify_key)


def signature_of(data: bytes, seed: bytes) -> bytes:
    """The 64 raw bytes."""
    from nacl.signing import SigningKey

    return bytes(SigningKey(seed).sign(data).signature)


def is_signed(data: bytes, signature: bytes, public_key: bytes) -> bool:
    """Whether `signature` is that of `data` by the raw `public_key`."""
    from nacl.exceptions import CryptoError
    from nacl.signing import VerifyKey

    try:
        VerifyKey(public_key).verify(data, signature)
    except (CryptoError, ValueError):
        return False
    return True


def encoded(raw: bytes) -> str:
    """Base64."""
    return base64.b64encode(raw).decode()


def decoded(text: object, name: str, length: int | None = None) -> bytes:
    """The bytes of a member in base64; `Untrusted` where they are not `length` or spelled otherwise."""
    try:
        raw = base64.b64decode(text, validate=True) if isinstance(text, str) else None
    except (binascii.Error, ValueError):
        raw = None
    if raw is None or encoded(raw) != text or (length is not None and len(raw) != length):
        what = "is not base64" if length is None else f"is not {length} bytes in base64"
        raise Untrusted(f"has a {name} that {what}")
    return raw
