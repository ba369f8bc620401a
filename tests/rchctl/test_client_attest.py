"""`rchctl attest`: sets that lie on disk, examined and exported with no daemon."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
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
    (own / "job_index.json").write_text("{}")
    said = json.loads((kept.step / "summary.json").read_bytes())
    for status, code, result in (("failed", 0, "host"), ("success", 70, "failed")):
        (own / "summary.json").write_text(json.dumps({**said, "status": status}))
        answer = told(cli, "verify", str(kept.run))
        assert (answer[0], [each["result"] for each in answer[1]["data"]["sets"]]) == (
            code,
            [result, "unpinned"],
        )


@pytest.mark.fault("A4")
def test_where_a_key_is_given_nothing_but_what_it_signed_will_do(cli: Cli, kept: Kept) -> None:
    assert told(cli, "verify", str(kept.run), "--pin", KEY)[0] == 0
    for name in ("manifest.json", "attestation.json"):
        (kept.step / name).unlink()
    index = json.loads((kept.run / "run_index.json").read_bytes())
    index["steps"][0]["attestation_verification_path"] = None
    (kept.run / "run_index.json").write_text(json.dumps(index))
    for words in ((), ("--pin", KEY)):
        code, answer = told(cli, "verify", str(kept.run), *words)
        assert (code, "is gone" in answer["error"]["message"]) == (70, True)
    remove_tree(kept.run / "host")
    (kept.step / "summary.json").unlink()
    assert told(cli, "verify", str(kept.run))[1]["data"]["sets"][0]["result"] == "host"
    code, answer = told(cli, "verify", str(kept.run), "--pin", KEY)
    assert (code, answer["error"]["kind"]) == (93, "ATTESTATION")


def _unsigned(step: Path) -> None:
    """A set of another log that nobody signed, right in itself."""
    made = loaded(step)
    made.files["build.log"] = b"EVIL\n"
    made.put_manifest()
    made.put_attestation()
    for name in ("build.log", "manifest.json", "attestation.json"):
        (step / name).write_bytes(made.files[name])


SPELLINGS: dict[str, Callable[[Path, Path], Path]] = {
    "as it is": lambda step, _: step,
    "a link to the set": lambda step, home: _link(home / "link", step),
    "a link to the run": lambda step, home: _link(home / "run", step.parents[2]) / "steps/test" / step.name,
    "up and down": lambda step, _: step.parent / ".." / step.parent.name / step.name,
    "a folder in it": lambda step, _: step / "result.xcresult" / "..",
}


def _link(at: Path, to: Path) -> Path:
    at.symlink_to(to)
    return at


@pytest.mark.fault("A4")
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_set_is_held_to_the_records_beside_it_however_it_is_spelled(
    cli: Cli, kept: Kept, spelling: str
) -> None:
    _unsigned(kept.step)
    place = SPELLINGS[spelling](kept.step, cli.home)
    code, answer = told(cli, "verify", str(place))
    assert code == 70
    assert (
        "manifest.json: is not the one that was verified when it was fetched"
        in answer["data"]["sets"][0]["errors"]
    )


@pytest.mark.fault("A4")
def test_a_link_in_a_run_is_no_set_of_it(cli: Cli, kept: Kept, folder: Path) -> None:
    remove_tree(kept.step)
    kept.step.symlink_to(folder)
    for place in (kept.step, kept.run):
        code, answer = told(cli, "verify", str(place))
        assert (code, "is a link" in answer["error"]["message"]) == (70, True)


@pytest.mark.fault("A4")
def test_records_of_the_host_that_are_gone_are_missed(cli: Cli, kept: Kept) -> None:
    for name in ("run_index.json", "accepted.json", "capabilities.json"):
        (kept.run / name).unlink(missing_ok=True)
        code, answer = told(cli, "verify", str(kept.run))
        assert (code, f"{name}: missing" in json.dumps(answer["data"])) == (70, True)
    remove_tree(kept.run / "host")
    for place in (kept.step, kept.run):
        code, answer = told(cli, "verify", str(place))
        assert (code, "no record of the host lies there" in json.dumps(answer["data"])) == (70, True)
        code, answer = told(cli, "verify", str(place), "--pin", KEY)
        assert (code, "no record of the host" in answer["data"]["sets"][0]["notes"][-1]) == (0, True)
        assert told(cli, "verify", str(place), "--pin", OTHER_KEY)[0] == 93


@pytest.mark.parametrize("name", ["accepted.json", "capabilities.json", "run_index.json", "verification"])
def test_a_pipe_in_place_of_a_record_holds_nobody_up(cli: Cli, kept: Kept, name: str) -> None:
    path = kept.run / name
    if name == "verification":
        path = kept.host.at.host / "attestation_verification.json"
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    code, answer = told(cli, "verify", str(kept.run))
    assert (code, f"{path.name}: is no regular file" in json.dumps(answer["data"])) == (70, True)


@pytest.fixture(name="deep")
def fixture_deep(kept: Kept) -> Iterator[Kept]:
    """Folders in the set, deeper than the interpreter's stack; gone after it, for others walk here too."""
    at = os.open(kept.step, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=at)
        at, above = os.open("d", os.O_RDONLY, dir_fd=at), at
        os.close(above)
    os.close(at)
    yield kept
    subprocess.run(["rm", "-rf", str(kept.step / "d")], check=True)


def test_folders_deeper_than_a_set_may_be_are_told_and_not_walked(cli: Cli, deep: Kept) -> None:
    code, answer = told(cli, "verify", str(deep.step))
    errors = answer["data"]["sets"][0]["errors"]
    assert code == 70
    assert "and 79 more" in errors
    assert len(errors) < 100


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
