"""Secrets: by their look and by their name, in streams, results, records and the daemon's log."""

from __future__ import annotations

import io
import json
import time
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st
from support import jobs

from rch.config.layers import load_config
from rch.config.root import find_root
from rch.contract.errors import Failure
from rch.contract.local_api import SubmitParams
from rch.contract.neutral import neutral
from rch.contract.records import Source
from rch.contract.redact import REDACTED, Looks, Scrubber, holds_secret, scrub
from rchd.core.plan import Minted, accepted_run, again, planned_steps
from rchd.edges.logclean import without_secrets
from worker_agent.buildfiles import BuildLog, EventFile
from worker_agent.masking import Mask, StreamMask
from worker_agent.model import PhaseExit
from worker_agent.output import JobOutput
from worker_agent.requestlog import RequestLog
from worker_agent.results.buildlog import LogReader
from worker_agent.results.cases import Attempt, Case, Text
from worker_agent.results.finish import Ending, finish

pytestmark = pytest.mark.spec("11")

# What must not be seen of each, and the text that it comes in.
KEY = "\n".join(["MIIEowIBAAKCAQEA" + "b" * 48, "c" * 64, "ZZZZ=="])
LOOKS: dict[str, tuple[str, str]] = {
    "github": ("ghp_" + "A1b2" * 9, "{}"),
    "github, fine": ("github_pat_" + "A1_" * 20, "{}"),
    "gitlab": ("glpat-" + "x1-y" * 5, "{}"),
    "aws id": ("AKIA" + "ABCDEFGH23456789", "{}"),
    "aws key": ("wJalrXUtnFEMI/K7MDENG/" + "b" * 18, "aws_secret_access_key = {}"),
    "slack": ("xoxb-" + "123456789012-abcdef", "{}"),
    "slack hook": ("T0000AAAA/B0000BBBB/" + "c" * 24, "https://hooks.slack.com/services/{}"),
    "jwt": ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl", "{}"),
    "bearer": ("abcDEF0123456789~x/y=", "Authorization: Bearer {}"),
    "basic": ("dXNlcjpwYXNzd29yZA==", "authorization: Basic {}"),
    "url": ("user:p4ssw0rd", "https://{}@host/path"),
    "url without a name": ("0123456789abcdef0123456789", "https://{}@host/path"),
    "assigned": ("hunter2hunter2", "export DEPLOY_TOKEN={}"),
    "key": (KEY, "-----BEGIN RSA PRIVATE KEY-----\n{}\n-----END RSA PRIVATE KEY-----"),
    "key in one line": (
        KEY.replace("\n", "\\n"),
        "-----BEGIN PRIVATE KEY-----\\n{}\\n-----END PRIVATE KEY-----",
    ),
    "key with a header": (
        KEY,
        "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\n{}\n-----END EC PRIVATE KEY-----",
    ),
    "key without an end": (KEY, "-----BEGIN PRIVATE KEY-----\n{}"),
}
PLAIN = (
    "/job/Sum.swift:3:5: error: cannot find 'token' in scope",
    "func f(token: AuthenticationToken, password: String)",
    "https://host:8080/path?a=b and ssh://git@host:22/x and http://[::1]:80/",
    "task-runner ghp_short eyJust words AKIA xox sk- -----BEGIN CERTIFICATE-----",
    "Test Case '-[AppTests.SumTests testA]' passed (0.001 seconds).",
    "bearer of bad news; basic arithmetic; authorization: none",
    "platform=iOS Simulator,name=iPhone 16,OS=latest",
)
WORDS = [*PLAIN, "\n", " ", "x", *(text.format(secret) for secret, text in LOOKS.values())]
TEXTS = st.lists(st.sampled_from(WORDS) | st.text(max_size=6), max_size=6).map("".join)


@pytest.mark.parametrize(("secret", "text"), LOOKS.values(), ids=LOOKS)
@pytest.mark.parametrize("size", [1, 2, 7, 64, 10_000])
def test_what_looks_like_a_secret_is_taken_out_wherever_the_pieces_are_cut(
    secret: str, text: str, size: int
) -> None:
    data = f"before\n{text.format(secret)}\nafter it: b".encode()
    scrubber, passed = Scrubber(), b""
    for at in range(0, len(data), size):
        passed += scrubber.feed(data[at : at + size])
    told = (passed + scrubber.feed(b"", last=True)).decode()
    for part in secret.replace("\\n", "\n").split("\n"):
        assert part not in told
    assert REDACTED in told
    assert told.startswith("before\n")
    assert told.endswith("\nafter it: b")
    assert holds_secret(text.format(secret))


@pytest.mark.parametrize("text", PLAIN)
def test_what_does_not_look_like_one_is_left_to_the_letter(text: str) -> None:
    assert scrub(text) == text
    scrubber = Scrubber()
    assert b"".join(scrubber.feed(bytes([one])) for one in f"{text}\n".encode()) == f"{text}\n".encode()


@settings(deadline=None)
@given(TEXTS, st.data())
def test_pieces_make_no_difference_and_twice_is_as_once(text: str, draw: st.DataObject) -> None:
    data = text.encode("utf-8", "surrogatepass")
    cuts = draw.draw(st.lists(st.integers(0, len(data)), max_size=6).map(sorted))
    scrubber, passed = Scrubber(), b""
    for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        passed += scrubber.feed(data[start:end])
    passed += scrubber.feed(b"", last=True)
    whole = scrub(text)
    assert passed == whole.encode("utf-8", "surrogatepass")
    assert scrub(whole) == whole


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_bytes_that_hold_no_secret_come_through_as_they_are(data: bytes) -> None:
    scrubber = Scrubber()
    assert scrubber.feed(data) + scrubber.feed(b"", last=True) == data


def test_only_the_beginning_of_a_secret_is_held_back() -> None:
    scrubber = Scrubber()
    assert scrubber.feed(b"....") == b"...."
    assert scrubber.feed(b"x gh") == b"x "
    assert scrubber.feed(b"ost\n") == b"ghost\n"
    assert scrubber.feed(b"see https://host/" + b"p" * 5000)[:10] == b"see https:"


def test_a_line_that_opens_a_key_hides_nothing_that_does_not_look_like_one() -> None:
    text = "-----BEGIN PRIVATE KEY-----\nerror: a failure\nTest Case 'x' failed\n"
    assert scrub(text) == f"{REDACTED}\nerror: a failure\nTest Case 'x' failed\n"


ADVERSE = [
    "a",
    "\x1b[0m",
    "\x1b]",
    "ghp_\x1b[0m",
    "TOKEN=\u200b",
    "é",
    "://a:",
    "eyJ",
    "-eyJ",
    "ghp_",
    "bearer ",
    "-----BEGIN ",
    "TOKEN=",
    "https://",
    "://:",
]


def cost(piece: str, size: int) -> float:
    """Processor seconds for a line of `size` bytes, in the pieces that a pipe gives."""
    data = piece.encode() * (size // len(piece))
    scrubber, began = Scrubber(), time.process_time()
    for at in range(0, len(data), 1 << 16):
        scrubber.feed(data[at : at + (1 << 16)])
    scrubber.feed(b"", last=True)
    return time.process_time() - began


@pytest.mark.parametrize("piece", ADVERSE)
def test_a_long_line_costs_what_its_length_costs(piece: str) -> None:
    """The bound is wide: what it has to tell apart is less than a second from minutes."""
    assert cost(piece, 1 << 19) < 20


@pytest.mark.faults_long
@pytest.mark.parametrize("piece", ADVERSE)
def test_a_line_of_ten_megabytes_is_scrubbed_in_bounded_time(piece: str) -> None:
    assert cost(piece, 10 << 20) < 90


@settings(deadline=None)
@given(st.text(alphabet="abX", min_size=4, max_size=12), TEXTS, st.data())
def test_a_value_of_the_environment_is_in_no_piece_of_a_log(
    value: str, text: str, draw: st.DataObject
) -> None:
    data = f"{text}{value}{text}".encode("utf-8", "surrogatepass")
    mask, passed = StreamMask({"DEPLOY_TOKEN": value}), b""
    size = draw.draw(st.integers(1, 20))
    for at in range(0, len(data), size):
        passed += mask.feed(data[at : at + size])
    passed += mask.flush()
    assert value.encode() not in passed.replace(REDACTED.encode(), b"|")


@pytest.mark.spec("11")
@pytest.mark.parametrize("opening", ["\x9b", "\x1b[", "\x1b[38;5", "\x1b]0;", "\x90", "\x1b"])
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_a_sequence_without_its_end_hides_no_secret_in_the_bytes(opening: str, size: int) -> None:
    """A terminal takes the first letter for the sequence's; who opens the file sees all of them."""
    token = "ghp_" + "a" * 36
    data = f"{opening}horse {opening}{token}\n".encode()
    mask, passed = StreamMask({"DEPLOY_TOKEN": "horse"}), b""
    for at in range(0, len(data), size):
        passed += mask.feed(data[at : at + size])
    passed += mask.flush()
    assert b"horse" not in passed
    assert token.encode() not in passed
    assert token not in scrub(f"{opening}{token}")


# What no reader of a log sees, in its midst.
UNSEEN = [
    "\x1b[0m",
    "\x1b[38;5;196m",
    "\x1b]8;;https://x/\x1b\\",
    "\u200b",
    "\u2060",
    "\x00",
    "\x7f",
    "\u202e",
]


@settings(deadline=None)
@given(st.sampled_from([*LOOKS.values(), ("correct-horse", "x {} y")]), st.data())
def test_a_secret_that_is_cut_by_what_is_not_shown_is_not_shown(
    look: tuple[str, str], draw: st.DataObject
) -> None:
    secret, text = look
    begin = text.index("{}")
    text = text.format(secret)
    places = st.integers(begin, begin + len(secret)) | st.integers(0, len(text))
    for at in sorted(draw.draw(st.lists(places, min_size=1, max_size=4)), reverse=True):
        text = text[:at] + draw.draw(st.sampled_from(UNSEEN)) + text[at:]
    data, mask = f"before {text}\nafter: it".encode(), StreamMask({"A_TOKEN": "correct-horse"})
    size = draw.draw(st.integers(1, 20) | st.just(1000))
    passed = b"".join(mask.feed(data[at : at + size]) for at in range(0, len(data), size)) + mask.flush()
    shown = neutral(passed.decode())
    for part in secret.replace("\\n", "\n").split("\n"):
        assert part not in shown
    assert shown.startswith("before ")
    assert shown.endswith("\nafter: it")
    assert Mask({"A_TOKEN": "correct-horse"}).text(data.decode()).encode() == passed


@settings(deadline=None)
@given(st.lists(st.sampled_from([*WORDS, *UNSEEN, "\x1b", "\x1b[", "é"]), max_size=12), st.data())
def test_what_is_not_shown_hides_nothing_of_what_is(words: list[str], draw: st.DataObject) -> None:
    text = "".join(words)
    data = text.encode()
    cuts = draw.draw(st.lists(st.integers(0, len(data)), max_size=6).map(sorted))
    scrubber, passed = Scrubber(), b""
    for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        passed += scrubber.feed(data[start:end])
    passed += scrubber.feed(b"", last=True)
    assert passed.decode() == scrub(text)
    shown = neutral(passed.decode())
    if b"".join(piece.data for piece in Looks().pieces(data, last=True)) == data:
        assert shown == scrub(neutral(text))
    else:  # the bytes hold one; of the mark, too, a sequence takes the beginning
        assert shown == scrub(neutral(text)) or "ACTED]" in shown
    if not holds_secret(text):
        assert passed == data


@settings(deadline=None)
@given(st.binary(max_size=300), st.data())
def test_bytes_of_any_kind_come_through_in_any_pieces(data: bytes, draw: st.DataObject) -> None:
    size = draw.draw(st.integers(1, 20))
    scrubber = Scrubber()
    passed = b"".join(scrubber.feed(data[at : at + size]) for at in range(0, len(data), size))
    assert passed + scrubber.feed(b"", last=True) == data


def test_a_secret_full_of_what_is_not_shown_is_held_in_bounded_room() -> None:
    scrubber, told = Scrubber(), 0
    for _ in range(200):
        told += len(scrubber.feed(b"ghp_" + b"\x1b[0m" * 4096))
    told += len(scrubber.feed(b"", last=True))
    assert told < 4 << 20


def test_a_text_that_was_cut_ends_before_the_beginning_of_a_secret() -> None:
    mask = Mask({"API_KEY": "correct horse battery"})
    cut = ("x" * 1990 + " correct horse")[:2000]
    assert "correct" not in mask.text(cut)
    assert "ghp_" not in mask.text("x " * 996 + "ghp_aaaa")
    assert mask.text("short correct hor") == "short correct hor"


def job_output(tmp_path: Path, data: bytes, size: int, env: dict[str, str]) -> tuple[str, str]:
    """`build.log` and `events.jsonl` of a tool that printed `data`."""
    log, events = (
        BuildLog(tmp_path / "build.log", 0),
        EventFile(tmp_path / "events.jsonl", lambda: jobs.NOW),
    )
    reader = LogReader(tmp_path)
    reader.begin("build")
    output = JobOutput(log, events, reader, env)
    for at in range(0, len(data), size):
        output.take(data[at : at + size])
    output.close(None)
    log.close()
    events.close()
    return (tmp_path / "build.log").read_text(), (tmp_path / "events.jsonl").read_text()


@pytest.mark.parametrize("size", [3, 4096])
def test_no_secret_comes_to_rest_in_the_log_or_the_events(tmp_path: Path, size: int) -> None:
    told = "\n".join(
        f"{tmp_path}/A.swift:1:1: error: {text.format(secret)}" for secret, text in LOOKS.values()
    )
    data = f"{told}\n/x/B.swift:1:1: error: hunter2hunter2 done\n".encode()
    log, events = job_output(tmp_path, data, size, {"API_KEY": "hunter2hunter2"})
    assert events.count('"diagnostic"') > 5
    for secret, _ in LOOKS.values():
        for part in secret.split("\n"):
            assert part not in log + events
    assert "B.swift:1:1: error: [REDACTED] done" in log


def sealed(tmp_path: Path, secret: str, env: dict[str, str]) -> dict[str, str]:
    """Every text file of the set of a job whose results file holds a secret that its log does not."""
    layout = jobs.layout(tmp_path / "job")
    layout.scratch.mkdir(parents=True, exist_ok=True)
    layout.artifacts.mkdir(parents=True, exist_ok=True)
    case = '<testcase classname="M.{0}" name="t{0}" time="0.1"><failure message="{1}"/></testcase>'
    body = case.format("A", f"got {secret}") + case.format(f"B{secret}", f"{'x' * 1985} {secret}")
    (layout.scratch / "xunit.xml").write_text(f"<testsuites><testsuite>{body}</testsuite></testsuites>")
    job = jobs.job("test")
    ending = Ending(
        phases=(PhaseExit("build", 0, None, 1), PhaseExit("test", 1, None, 1)),
        ended=None,
        state=jobs.state(job),
        attempts=1,
        duration_ms=1,
        env=env,
    )
    layout.log.touch()
    done = finish(
        layout,
        jobs.submit(job),
        ending,
        worker_name="mini",
        capabilities=jobs.capabilities(),
        now=lambda: jobs.NOW,
    )
    assert done.summary.status == "failed"
    return {file.name: file.read_text() for file in layout.artifacts.iterdir() if file.is_file()}


@pytest.mark.parametrize("unseen", ["\x1b[0m", "\u200b"])
def test_a_secret_in_two_colours_is_in_no_record_and_no_log(tmp_path: Path, unseen: str) -> None:
    cut = f"ghp_{unseen}{'A1b2' * 9}"
    log, events = job_output(tmp_path, f"/x/B.swift:1:1: error: {cut} done\n".encode(), 7, {})
    files = sealed(tmp_path, cut, {})
    assert "A1b2" not in log + events
    for name, text in files.items():
        assert "ghp_A1b2" not in neutral(text), name


@pytest.mark.parametrize("secret", ["ghp_" + "A1b2" * 9, "correct-horse-battery"])
def test_no_secret_of_a_results_file_is_in_any_record_of_the_set(tmp_path: Path, secret: str) -> None:
    files = sealed(tmp_path, secret, {"DEPLOY_TOKEN": "correct-horse-battery"})
    assert {"summary.json", "test_summary.json", "junit.xml", "build_summary.json"} <= set(files)
    for name, text in files.items():
        assert secret not in text, name
        assert secret[:12] not in text, name
    assert REDACTED in files["junit.xml"]
    assert REDACTED in files["test_summary.json"]


def test_a_secret_that_is_a_word_of_ours_breaks_no_record(tmp_path: Path) -> None:
    files = sealed(tmp_path, "nothing", {"A_TOKEN": "test", "B_TOKEN": "failed", "C_TOKEN": "success"})
    assert json.loads(files["summary.json"])["status"] == "failed"
    assert json.loads(files["executor_env.json"])["keys"] == ["A_TOKEN", "B_TOKEN", "C_TOKEN"]


def test_every_member_that_a_project_wrote_is_masked_and_no_other() -> None:
    secret = "ghp_" + "A1b2" * 9
    text = Text(secret, secret, 3)
    attempt = Attempt(secret, "failed", 1, (text,))
    case = Case(secret, secret, "failed", secret, 1, secret, "phone", (text,), (attempt,), (attempt,))
    assert secret not in repr(Mask({}).of((case,)))
    assert Mask({"A_TOKEN": "failed"}).of(case).outcome == "failed"
    plain = replace(
        case, suite="a", name="b", message="", identifier="", texts=(), attempts=(), arguments=()
    )
    assert Mask({}).of(plain) == plain


def test_the_daemons_log_holds_no_secret() -> None:
    out = io.StringIO()
    log = structlog.wrap_logger(
        structlog.PrintLogger(out), processors=[without_secrets, structlog.processors.JSONRenderer()]
    )
    secret = "ghp_" + "A1b2" * 9
    log.warning(
        "run.refused", message=f"x {secret}", argv=["swift", secret], env={"API_KEY": "k", "A": "1"}
    )
    line = json.loads(out.getvalue())
    assert secret not in out.getvalue()
    assert (line["env"], line["argv"]) == ({"API_KEY": REDACTED, "A": "1"}, ["swift", REDACTED])


def test_the_workers_own_log_holds_no_secret(tmp_path: Path) -> None:
    secret = "ghp_" + "A1b2" * 9
    log = RequestLog(tmp_path / "log", {"SSH_ORIGINAL_COMMAND": f"x {secret}"})
    log.write("probe", "r", "ok", 0.0)
    log.trace(ValueError(secret))
    assert secret not in (tmp_path / "log").read_text()


def _package(tmp_path: Path, toml: str = "backend = 'swiftpm'\n") -> Path:
    (tmp_path / ".rch").mkdir()
    (tmp_path / ".rch/xcode.toml").write_text(toml)
    (tmp_path / "Package.swift").touch()
    return tmp_path


def test_a_refusal_of_a_config_does_not_repeat_a_secret(tmp_path: Path) -> None:
    secret = "ghp_" + "A1b2" * 9
    root = _package(tmp_path, f"backend = 'swiftpm'\n[bundle]\nmode = '{secret}'\n")
    with pytest.raises(Failure) as refused:
        load_config(find_root(root), host_config=None, overrides={})
    assert secret not in refused.value.message
    assert "bundle.mode" in refused.value.message


def test_a_refused_command_line_is_on_record_without_its_secrets(tmp_path: Path) -> None:
    secret = "ghp_" + "A1b2" * 9
    argv = ("swift", "test", f"-Dtoken={secret}")
    resolved = load_config(find_root(_package(tmp_path)), host_config=None, overrides={})
    accepted = accepted_run(
        params=SubmitParams(start=str(tmp_path), argv=argv),
        root=str(tmp_path),
        project="p",
        resolved=resolved,
        planned=planned_steps(resolved, None, argv, None),
        source=Source(
            source_sha256="0" * 64,
            content_sha256="0" * 64,
            spool_name="s",
            tar_bytes=1,
            compressed_bytes=1,
            files=1,
        ),
        git=None,
        warnings=(),
        minted=Minted(run_id="r" * 12, job_ids=["j" * 12], nonces=["n"], created_at=jobs.NOW),
    )
    assert accepted.steps[0].reasons
    assert secret not in msgspec.json.encode(accepted).decode()
    with pytest.raises(Failure, match="the command line are secrets"):
        again(accepted)
