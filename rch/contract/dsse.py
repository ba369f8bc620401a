"""DSSE v1 envelopes around in-toto statements, signed by one key (spec section 10).

What is signed is PAE(type, payload), so that neither can be taken for the other. The payload is the
RFC 8785 form of the statement: no two readers can make different things of it.
"""

from __future__ import annotations

from typing import Any

from rch.contract.canonical import jcs
from rch.contract.framing import FrameError, decode_object
from rch.contract.records import DsseEnvelope, DsseSignature
from rch.contract.signing import (
    SIGNATURE_BYTES,
    Untrusted,
    decoded,
    encoded,
    fingerprint_of,
    is_signed,
    public_key_of,
    signature_of,
)

PAYLOAD_TYPE = "application/vnd.in-toto+json"
Statement = dict[str, Any]


def pae(payload_type: str, payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding: `DSSEv1`, then length and bytes of type and payload."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def enclose(statement: Statement, seed: bytes) -> DsseEnvelope:
    """The statement in an envelope, signed."""
    payload = jcs(statement)
    signature = signature_of(pae(PAYLOAD_TYPE, payload), seed)
    return DsseEnvelope(
        payload=encoded(payload),
        payload_type=PAYLOAD_TYPE,
        signatures=(DsseSignature(keyid=fingerprint_of(public_key_of(seed)), sig=encoded(signature)),),
    )


def disclose(envelope: DsseEnvelope, public_key: bytes) -> Statement:
    """The statement; `Untrusted` unless the raw `public_key` signed it, and nobody else."""
    if envelope.payload_type != PAYLOAD_TYPE:
        raise Untrusted(f"has the payloadType {envelope.payload_type[:80]!r}, not {PAYLOAD_TYPE!r}")
    if len(envelope.signatures) != 1:
        raise Untrusted(f"has {len(envelope.signatures)} signatures, not one")
    (given,) = envelope.signatures
    payload = decoded(envelope.payload, "payload")
    signature = decoded(given.sig, "signature", SIGNATURE_BYTES)
    if given.keyid != fingerprint_of(public_key):
        raise Untrusted(f"is signed by {given.keyid[:80]}, not by {fingerprint_of(public_key)}")
    if not is_signed(pae(envelope.payload_type, payload), signature, public_key):
        raise Untrusted("has a signature that is not that of its payload")
    return _statement(payload)


def _statement(payload: bytes) -> Statement:
    try:
        told = decode_object(payload)
        whole = jcs(told) == payload
    except (FrameError, ValueError):
        whole = False
    if not whole:
        raise Untrusted("holds no JSON object in its canonical form")
    return told
