"""An artifact set in memory: its files, and the three that are not listed made from them. Pure.

A right set comes out of `seal`; each part can be made by itself, so that any of them can be wrong.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from rch.contract.attestation import named, sign
from rch.contract.dsse import Statement, enclose
from rch.contract.manifest import UNLISTED, root_sha256, sort_entries
from rch.contract.provenance import Told, statements
from rch.contract.records import (
    Attestation,
    DsseEnvelope,
    Entry,
    Job,
    JobIndex,
    JobStateRecord,
    Manifest,
    Record,
    Summary,
    TestSummary,
    decode_record,
    encode_record,
    marked,
)
from rch.contract.sets import INDEXED
from rch.contract.signing import public_key_of
from rch.contract.tar import Member, write_tar
from rch.contract.toolchain import backend_of


@dataclass
class ArtifactSet:
    """The set of `job`, for the host that sent `nonce`. `seed` signs; without one nothing is signed.

    With a `forger` it signs what the key that is named should have signed in the statements' envelopes.
    `folders` are listed and need no file in them. All bytes follow from these members alone.
    """

    job: Job
    nonce: str
    capabilities_sha256: str
    created_at: str
    worker_name: str = "mini"
    simulated: bool = False
    seed: bytes | None = None
    forger: bytes | None = None
    files: dict[str, bytes] = field(default_factory=dict)
    folders: list[str] = field(default_factory=list)

    def head(self) -> dict[str, Any]:
        """The envelope of every record of the set."""
        return {
            "created_at": self.created_at,
            "run_id": self.job.run_id,
            "job_id": self.job.job_id,
            "job_key": self.job.job_key,
        }

    def put(self, name: str, record: Record | bytes) -> None:
        """One file, marked where the set is of a simulation."""
        data = (
            record if isinstance(record, bytes) else encode_record(marked(record, simulated=self.simulated))
        )
        self.files[name] = data

    def entries(self) -> tuple[Entry, ...]:
        """What a manifest lists of the files and folders as they are now."""
        found = [Entry(path=path, type="directory", size=0, sha256=None) for path in self.folders]
        found += [
            Entry(path=path, type="file", size=len(data), sha256=hashlib.sha256(data).hexdigest())
            for path, data in self.files.items()
            if path not in UNLISTED
        ]
        return sort_entries(found)

    def put_manifest(self, entries: Iterable[Entry] | None = None, **members: Any) -> Manifest:
        """`manifest.json` of the set as it is."""
        listed = self.entries() if entries is None else tuple(entries)
        if "artifact_root_sha256" not in members:
            members["artifact_root_sha256"] = root_sha256(listed)
        manifest = Manifest(**{**self.head(), "entries": listed, **members})
        self.put("manifest.json", manifest)
        return self.sealed()

    def put_attestation(self, **members: Any) -> None:
        """`attestation.json` over the manifest as it is; `members` may lie."""
        name, version = backend_of(self.job.job_key_inputs.toolchain)
        base: dict[str, Any] = {
            **self.head(),
            "source_sha256": self.job.job_key_inputs.source_sha256,
            "worker": {"name": self.worker_name, "fingerprint": None},
            "capabilities_sha256": self.capabilities_sha256,
            "backend": {"name": name, "version": version},
            "manifest_sha256": hashlib.sha256(self.files["manifest.json"]).hexdigest(),
            "host_nonce": self.nonce,
            "simulated": self.simulated,
        }
        said = Attestation(**{**base, **members})
        self.files["attestation.json"] = encode_record(
            said if self.seed is None else self._signed(said, self.seed)
        )

    def _signed(self, said: Attestation, seed: bytes) -> Attestation:
        """With the statements about the job in envelopes, as a worker makes them of the set's files."""
        tests = self.files.get("test_summary.json")
        told = Told(
            attestation=named(said, public_key_of(seed)),
            job=self.job,
            summary=decode_record(self.files["summary.json"], Summary),
            state=decode_record(self.files["job_state.json"], JobStateRecord),
            entries=self.entries(),
            tests=None if tests is None else decode_record(tests, TestSummary),
            junit=self.files.get("junit.xml"),
        )
        envelopes = tuple(self._enclosed(statement, seed) for statement in statements(told))
        return sign(msgspec.structs.replace(said, dsse=envelopes), seed)

    def _enclosed(self, statement: Statement, seed: bytes) -> DsseEnvelope:
        right = enclose(statement, seed)
        if self.forger is None:
            return right
        (own,), (other,) = right.signatures, enclose(statement, self.forger).signatures
        return msgspec.structs.replace(right, signatures=(msgspec.structs.replace(own, sig=other.sig),))

    def put_index(self, files: Mapping[str, str] | None = None, **members: Any) -> None:
        """`job_index.json`, the commit marker."""
        there = {*self.files, *self.folders}
        named_files = {name: path for name, path in INDEXED.items() if path in there}
        base: dict[str, Any] = {**self.head(), "artifact_profile": self.job.artifact_profile}
        listed = named_files if files is None else dict(files)
        self.put("job_index.json", JobIndex(**{**base, "files": listed, **members}))

    def seal(self, **members: Any) -> Manifest:
        """Manifest, attestation, index; `members` of the manifest may lie."""
        manifest = self.put_manifest(**members)
        self.put_attestation()
        self.put_index()
        return manifest

    def sealed(self) -> Manifest:
        """The manifest as it lies in the set."""
        return decode_record(self.files["manifest.json"], Manifest)

    def tar(self) -> bytes:
        """The set as a worker packs it."""
        members = [(Member(path=path, kind="directory"), list[bytes]()) for path in self.folders]
        members += [(Member(path=path, size=len(data)), [data]) for path, data in self.files.items()]
        return b"".join(write_tar(members, canonical=False))
