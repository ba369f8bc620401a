"""`rchctl attest`: sets that lie on disk, examined and exported with no daemon."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from securesystemslib.dsse import Envelope
from securesystemslib.signer import SSlibKey  # type: ignore[attr-defined]
from support.cli import Cli
from support.fake_daemon import FakeDaemon
from support.sealed import KEY, OTHER_KEY, SEED, WORKER, Host, a_job, capabilities, loaded, sealed

from rch.contract.provenance import PROVENANCE, TEST_RESULT
from rch.contract.records import RunIndex, StepPointer, encode_record
from rch.contract.signing import public_key_of
from rch.files.durable import remove_tree
from rch.files.paths import host_paths
from rchd.edges import artifacts

pytestmark = [pytest.mark.spec("10")]


class Kept:
    """A run's folder in the client's own home, with one published set."""

    def __init__(
        self, home: Path, folder: Path, seed: bytes | None = SEED, *, simulated: bool = False
    ) -> None:
        self.paths = host_paths({"RCH_HOME": str(home)})
        self.host = Host(self.paths.artifacts, a_job(), told=capabilities(seed, simulated=simulated))
        self.host.fetch(loaded(folder))
        assert artifacts.publish(self.host.at)
        self.run = self.paths.artifacts / self.host.job.run_id
        self.step = self.host.at.step
        pointer = StepPointer(
            index=0,
            action="test",
            job_id=self.host.job.job_id,
            attestation_verification_path=f"host/{self.host.job.job_id}/attestation_verification.json",
        )
        index = RunIndex(created_at="2026-01-02T03:04:05Z", run_id=self.run.name, steps=(pointer,))
        (self.run / "run_index.json").write_bytes(encode_record(index))

    def pin(self, *keys: str) -> None:
        self.paths.workers_toml.parent.mkdir(parents=True, exist_ok=True)
        self.paths.workers_toml.write_text(
            f'[[worker]]\nname = "{WORKER}"\ntransport = "local"\n'
            f"attestation_pubkey_fingerprint = {json.dumps(keys)}\n"
        )


@pytest.fixture(name="folder", scope="module")
def fixture_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sealed(tmp_path_factory.mktemp("sealed"))


@pytest.fixture(name="kept")
def fixture_kept(cli: Cli, folder: Path) -> Kept:
    return Kept(cli.home, folder)


def told(cli: Cli, *words: str) -> tuple[int, dict[str, Any]]:
    done = cli("attest", *words, "--json")
    assert done.stderr == ""
    answer: dict[str, Any] = json.loads(done.stdout)
    assert (answer["exit_code"], answer["command"]) == (done.returncode, "attest")
    return done.returncode, answer


def test_a_set_is_verified_by_the_pin_of_its_worker_with_no_daemon(cli: Cli, kept: Kept) -> None:
    kept.pin(OTHER_KEY, KEY)
    done = cli("attest", "verify", str(kept.step))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[:3] == [
        "verified: test job-0000000001",
        f"  signed by the pinned key {KEY}",
        "  pins: workers.toml",
    ]
    assert f"statements: {PROVENANCE}, {TEST_RESULT}" in done.stdout
    assert not cli.socket.exists()
    code, answer = told(cli, "verify", kept.run.name)  # the run's id is as good
    assert (code, answer["data"]["sets"][0]["result"]) == (0, "verified")
    assert not cli.socket.exists()


@pytest.mark.fault("A3")
@pytest.mark.fault("A6")
def test_a_key_that_is_pinned_no_more_is_93(cli: Cli, kept: Kept) -> None:
    kept.pin(OTHER_KEY)
    code, answer = told(cli, "verify", str(kept.run))
    assert (code, answer["error"]["kind"]) == (93, "ATTESTATION")
    assert f"is signed by {KEY}; pinned is {OTHER_KEY}" in answer["error"]["message"]
    assert told(cli, "verify", str(kept.run), "--pin", KEY)[0] == 0


def test_where_nobody_pinned_anything_that_is_said(cli: Cli, kept: Kept, folder: Path) -> None:
    done = cli("attest", "verify", str(kept.step))
    assert done.returncode == 0
    assert done.stdout.startswith("unpinned: test")
    assert f"signed by {KEY}, which is not pinned" in done.stdout
    assert "workers.toml has no mini: give its key with --pin" in done.stdout
    code, answer = told(cli, "verify", str(folder))  # a set that lies by itself
    (only,) = answer["data"]["sets"]
    assert (code, only["result"], only["worker"]) == (0, "unpinned", None)
    assert "no record beside the set" in only["pins_from"]


@pytest.mark.fault("A1")
def test_a_changed_byte_is_70_and_is_named(cli: Cli, kept: Kept) -> None:
    log = kept.step / "build.log"
    log.write_bytes(log.read_bytes().replace(b"Build", b"build"))
    done = cli("attest", "verify", str(kept.run))
    assert done.returncode == 70
    assert done.stdout.startswith("failed: test job-0000000001\n  build.log: sha256 ")
    code, answer = told(cli, "verify", str(kept.run))
    assert (code, answer["error"]["subkind"]) == (70, "INTEGRITY_MISMATCH")
    assert answer["data"]["sets"][0]["kind"] == "ARTIFACTS"
    out = cli.home / "out.jsonl"
    assert cli("attest", "export", str(kept.run), "--output", str(out)).returncode == 70
    assert not out.exists()


@pytest.mark.fault("A1")
def test_a_set_that_the_index_promises_and_that_is_gone_is_missed(cli: Cli, kept: Kept) -> None:
    remove_tree(kept.step)
    code, answer = told(cli, "verify", str(kept.run))
    assert code == 70
    assert "the index says that it was fetched" in answer["error"]["message"]


def test_a_step_that_no_worker_made_is_told_as_the_hosts(cli: Cli, kept: Kept) -> None:
    own = kept.run / "steps" / "build" / "job-0000000002"
    own.mkdir(parents=True)
    for name in ("summary.json", "job_index.json"):
        (own / name).write_text("{}")
    code, answer = told(cli, "verify", str(kept.run))
    assert (code, [each["result"] for each in answer["data"]["sets"]]) == (0, ["host", "unpinned"])


def test_an_unsigned_and_a_simulated_set_are_told_for_what_they_are(cli: Cli, tmp_path: Path) -> None:
    kept = Kept(cli.home, sealed(tmp_path / "made", seed=None, simulated=True), None, simulated=True)
    done = cli("attest", "verify", str(kept.step))
    assert done.returncode == 0
    assert all(line.startswith("simulated: ") for line in done.stdout.splitlines())
    assert "simulated: unsigned: test" in done.stdout
    done = cli("attest", "export", str(kept.step))
    assert (done.returncode, done.stdout) == (2, "")
    assert "holds no statements" in done.stderr
    assert told(cli, "verify", str(kept.step), "--pin", KEY)[0] == 93


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("verify",), "DIR|RUN is missing"),
        (("prove", "x"), "unknown word 'prove'"),
        (("verify", "./none"), "is no folder"),
        (("verify", "."), "is no artifact set and no run's folder"),
        (("verify", ".", "--pin", "SHA256:00"), "is not SHA256: and 64 hex digits"),
        (("verify", ".", "--output", "x"), "goes with export"),
        (("export", ".", "--format", "xml"), "unknown format 'xml'"),
    ],
)
def test_what_is_not_understood_is_2(cli: Cli, words: tuple[str, ...], why: str) -> None:
    done = cli("attest", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert why in done.stderr


def test_an_inventory_that_is_not_right_is_told(cli: Cli, kept: Kept) -> None:
    kept.pin("SHA256:short")
    assert cli("attest", "verify", str(kept.step)).returncode == 3
    assert cli("attest", "verify", str(kept.step), "--pin", KEY).returncode == 0


# --- export -------------------------------------------------------------------------------


def verified_elsewhere(envelope: dict[str, Any]) -> dict[str, Any]:
    """The statement, once another implementation has verified the signature."""
    read = Envelope.from_dict(envelope)
    read.verify([SSlibKey(KEY, "ed25519", "ed25519", {"public": public_key_of(SEED).hex()})], 1)
    statement: dict[str, Any] = msgspec.json.decode(read.payload)
    return statement


def test_a_bundle_has_an_envelope_a_line_that_others_verify(cli: Cli, kept: Kept) -> None:
    done = cli("attest", "export", str(kept.run))
    assert (done.returncode, done.stderr) == (0, "")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [verified_elsewhere(each)["predicateType"] for each in lines] == [PROVENANCE, TEST_RESULT]
    out = cli.home / "run.intoto.jsonl"
    assert cli("attest", "export", str(kept.run), "--output", str(out)).stdout == f"{out}\n"
    assert out.read_text() == done.stdout


def test_envelopes_go_into_a_file_each(cli: Cli, kept: Kept) -> None:
    words = ("export", str(kept.step), "--format", "dsse")
    assert cli("attest", *words).returncode == 2
    out = cli.home / "statements"
    code, answer = told(cli, *words, "--output", str(out))
    assert code == 0
    names = ["job-0000000001.provenance.dsse.json", "job-0000000001.test-result.dsse.json"]
    assert sorted(path.name for path in out.iterdir()) == names
    for each in answer["data"]["statements"]:
        envelope = json.loads(Path(each["path"]).read_bytes())
        assert verified_elsewhere(envelope)["predicateType"] == each["type"]
    _, answer = told(cli, *words)
    assert [set(each) for each in answer["data"]["statements"]] == [{"job_id", "type", "envelope"}] * 2


def test_an_output_that_cannot_be_written_is_told(cli: Cli, kept: Kept) -> None:
    for shape in ("jsonl", "dsse"):
        words = ("export", str(kept.step), "--format", shape, "--output", "/proc/none/here")
        done = cli("attest", *words)
        assert done.returncode == 2
        assert "cannot be written" in done.stderr


def test_a_run_that_only_the_daemon_knows_by_that_name_is_asked_for(
    cli: Cli, daemon: FakeDaemon, kept: Kept
) -> None:
    daemon.change(state="SUCCEEDED", exit_code=0, run_dir=str(kept.run))
    code, answer = told(cli, "verify", "latest")
    assert (code, answer["data"]["place"]) == (0, str(kept.run))
