"""Mutants of artifact sets and attestations (sections 8, 10)."""

from __future__ import annotations

import os
from typing import Any

from conformance.mutants import module, mutant, replaced, wrap


def _seal() -> Any:
    return module("worker_agent.results.seal")


def _packing(change: Any) -> None:
    """Have `change` look at the members of a set as they are packed."""
    artifacts = module("worker_agent.artifacts")

    def other(real: Any) -> Any:
        def members(*given: Any) -> Any:
            return change(list(real(*given)))

        return members

    wrap(artifacts, "_members", other)


@mutant("commit marker first", "index-names-every-file")
def _marker_first() -> None:
    seal = _seal()

    def early(real: Any) -> Any:
        def commit(folder: Any, submit: Any, **named: Any) -> None:
            head = seal.envelope(submit.job, named["created_at"])
            files = {name: path for name, path in seal.INDEXED.items() if (folder / path).exists()}
            index = seal.JobIndex(**head, artifact_profile=submit.job.artifact_profile, files=files)
            real(folder, submit, **named)
            seal._close_with(folder, "job_index.json", index)

        return commit

    wrap(module("worker_agent.results.seal"), "commit", early)


@mutant("commit marker missing", "sets-are-complete")
def _marker_missing() -> None:
    _packing(lambda members: [each for each in members if each[0].path != "job_index.json"])


@mutant("extra file", "manifest-is-complete")
def _extra_file() -> None:
    tar = module("rch.contract.tar")
    _packing(lambda members: [*members, (tar.Member(path="extra.txt", size=1), (b"x",))])


@mutant("file twice", "sets-hold-plain-members")
def _file_twice() -> None:
    tar = module("rch.contract.tar")
    wrap(module("worker_agent.artifacts"), "write_tar", lambda _: _plain_tar(tar))
    _packing(lambda members: [*members, (tar.Member(path="summary.json", size=1), (b"x",))])


def _plain_tar(tar: Any) -> Any:
    def write(members: Any, **_: Any) -> Any:
        for member, content in members:
            yield tar.member_header(member)
            yield from content
            yield bytes(-member.size % 512)
        yield tar.END

    return write


@mutant("link in a set", "sets-hold-plain-members")
def _link() -> None:
    tar = module("rch.contract.tar")
    _packing(lambda members: [*members, (tar.Member(path="z", kind="symlink", target="build.log"), ())])


@mutant("manifest unsorted", "manifest-is-sorted")
def _unsorted() -> None:
    wrap(_seal(), "sort_entries", lambda real: lambda entries: tuple(reversed(real(entries))))


@mutant("wrong root", "root-is-right")
def _wrong_root() -> None:
    _seal().root_sha256 = lambda _entries: "0" * 64


@mutant("wrong size", "sizes-are-right")
def _wrong_size() -> None:
    def more(real: Any) -> Any:
        def entries(folder: Any) -> Any:
            for entry in real(folder):
                wrong = entry.path == "metrics.json"
                yield replaced(entry, size=entry.size + 1) if wrong else entry

        return entries

    wrap(_seal(), "entries_of", more)
    tar = module("rch.contract.tar")

    def true_sizes(members: list[Any]) -> Any:
        for member, content in members:
            data = b"".join(content)
            yield (tar.Member(path=member.path, kind=member.kind, size=len(data)), (data,))

    _packing(true_sizes)


@mutant("wrong digest", "digests-are-right")
def _wrong_digest() -> None:
    def other(real: Any) -> Any:
        def entries(folder: Any) -> Any:
            for entry in real(folder):
                yield replaced(entry, sha256="ab" * 32) if entry.path == "build.log" else entry

        return entries

    wrap(_seal(), "entries_of", other)


@mutant("set changes between fetches", "set-is-the-same-again")
def _another_set() -> None:
    artifacts, tar = module("worker_agent.artifacts"), module("rch.contract.tar")
    artifacts._found = lambda _folder: None
    name = f"stamp-{os.getpid()}-{os.urandom(4).hex()}"
    _packing(lambda members: [*members, (tar.Member(path=name, kind="directory"), ())])


@mutant("log that was not tailed", "live-text-is-the-log")
def _other_log() -> None:
    tar = module("rch.contract.tar")

    def other(members: list[Any]) -> Any:
        for member, content in members:
            is_log = member.path == "build.log"
            yield (tar.Member(path="build.log", size=6), (b"quiet\n",)) if is_log else (member, content)

    _packing(other)


@mutant("job key inputs in another form", "key-inputs-are-the-form")
def _other_form() -> None:
    import msgspec

    _seal().jcs = lambda value: msgspec.json.format(msgspec.json.encode(value))


@mutant("success of a failed test", "ends-are-told-apart")
def _green() -> None:
    finish = module("worker_agent.results.finish")

    def green(real: Any) -> Any:
        def terminal(state: Any, _decision: Any, at: str) -> Any:
            return replaced(real(state, _decision, at), state="SUCCEEDED")

        return terminal

    wrap(finish, "_terminal", green)


# --- attestations -------------------------------------------------------------------------


def _attest(**changes: Any) -> None:
    wrap(_seal(), "Attestation", lambda real: lambda **named: real(**{**named, **changes}))


@mutant("nonce not repeated", "attestation-repeats-the-nonce")
def _no_nonce() -> None:
    _attest(host_nonce="nonce-0000")


@mutant("wrong source attested", "attestation-names-the-job")
def _wrong_source() -> None:
    _attest(source_sha256="0" * 64)


@mutant("wrong manifest attested", "attestation-names-the-manifest")
def _wrong_manifest() -> None:
    _attest(manifest_sha256="0" * 64)


@mutant("other capabilities attested", "attestation-names-the-capabilities")
def _other_capabilities() -> None:
    _attest(capabilities_sha256="0" * 64)


@mutant("unsigned while signing is offered", "key-is-the-advertised-one")
def _unsigned() -> None:
    _seal()._signed = lambda _folder, attestation, *_: attestation


@mutant("signed by another key", "key-is-the-advertised-one")
def _other_key() -> None:
    wrap(
        _seal(), "commit", lambda real: lambda *given, **named: real(*given, **{**named, "seed": bytes(32)})
    )


@mutant("signature of something else", "signature-is-right")
def _other_signature() -> None:
    def changed(real: Any) -> Any:
        return lambda attestation, seed: replaced(
            real(attestation, seed), worker={"name": "x", "fingerprint": None}
        )

    wrap(_seal(), "sign", changed)


@mutant("no statements", "envelopes-are-signed")
def _no_statements() -> None:
    _seal().statements = lambda _told: ()


@mutant("statement by another key", "envelopes-are-signed")
def _forged_statement() -> None:
    wrap(_seal(), "enclose", lambda real: lambda statement, _seed: real(statement, bytes(32)))


@mutant("provenance of another source", "provenance-is-about-the-set")
def _other_provenance() -> None:
    provenance = module("rch.contract.provenance")

    def other(real: Any) -> Any:
        return lambda told: {**real(told), "digest": {"sha256": "0" * 64}}

    wrap(provenance, "_source", other)
