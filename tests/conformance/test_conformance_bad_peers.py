"""`rch-conformance worker` beside peers that flood, that do not end, and users who change their mind."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conformance.test_conformance_worker import SUITE
from support.until import until

from rch_conformance import running
from rch_conformance.checks import Broken
from rch_conformance.cli import main
from rch_conformance.worker import peer as peers
from rch_conformance.worker.channel import Channel, Silence


def test_a_flood_on_standard_error_is_bounded_and_its_end_shown() -> None:
    with pytest.raises(Silence) as caught, Channel(["sh", "-c", "yes flood >&2"], 0.4) as channel:
        channel.line()
    text = str(caught.value)
    assert text.startswith("nothing came from the worker within 0.4 s; its standard error ends:")
    assert text.endswith("flood")
    assert len(text) < 2200


def test_a_worker_that_says_much_on_standard_error_is_not_blocked() -> None:
    much = "head -c 1000000 /dev/zero >&2"
    words = f"{much}; echo BEFORE >&2; echo hello; {much}"
    with Channel(["sh", "-c", words], 20) as channel:
        assert channel.line() == b"hello"
        assert channel.exit_code() == 0
        assert "BEFORE" not in channel.said()  # only the end is kept


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("exit 7", "exits with 7"),
        ("kill -9 $$", "is ended by signal 9"),
        ("echo no key >&2; exit 1", "exits with 1; its standard error ends: no key"),
        ("exec >&-; sleep 3600", "did not end by itself"),
    ],
)
def test_how_a_worker_ended_that_gave_no_answer_is_said(script: str, told: str) -> None:
    peer = peers.Peer(["sh", "-c", f"read line; {script}"], 20)
    with pytest.raises(Broken) as caught:
        peer.ask("probe", {})
    assert str(caught.value) == f"the worker ended the channel without an answer; its command {told}"


def test_channels_that_outlive_their_input_are_soon_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "END_PATIENCE_SECONDS", 0.05)
    peer = peers.Peer(["sh", "-c", "echo '{}'; exec sleep 3600"], 20)
    given = []
    for _ in range(4):
        with peer.open() as channel:
            given.append(channel.patience)
            peer.read(channel)
    assert given == [0.05, 0.05, 0.05, 0]


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_run_with_what_there_is(sent: signal.Signals, code: int, tmp_path: Path) -> None:
    at, report = tmp_path / "pid", tmp_path / "report.xml"
    words = [*SUITE, "--json", "--junit", str(report), "--section", "3.1"]
    worker = ["sh", "-c", f"echo $$ > {at}.new; mv {at}.new {at}; exec sleep 3600"]
    with subprocess.Popen(
        [*words, "--", *worker], stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    ) as run:
        until(at.exists)
        run.send_signal(sent)
        out, err = run.communicate(timeout=30)
    assert run.returncode == code
    told = json.loads(out)
    assert told["exit_code"] == code
    assert told["results"] == []
    assert b"interrupted: 0 of " in err
    assert report.read_bytes().startswith(b"<?xml")
    with pytest.raises(ProcessLookupError):
        os.kill(int(at.read_text()), 0)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--junit", "{tmp}/no/such/folder.xml", "--", "true"], "folder.xml"),
        (["--junit", "{tmp}", "--", "true"], "--junit"),
        (["--", "/nonexistent/worker"], "/nonexistent/worker"),
        (["--", "{tmp}/plain"], "plain"),
        (["--job-timeout", "-5", "--", "true"], "--job-timeout"),
        (["--job-timeout", "inf", "--", "true"], "--job-timeout"),
        (["--job-timeout", "nan", "--", "true"], "--job-timeout"),
    ],
)
def test_what_cannot_be_done_is_said_before_the_checks(
    words: list[str], named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "plain").write_text("no program")
    try:
        code = main(["worker", *(word.format(tmp=tmp_path) for word in words)])
    except SystemExit as error:
        code = int(str(error.code))
    assert code == 2
    told = capsys.readouterr()
    assert named in told.err
    assert told.out == ""


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("env", "coloured"),
    [
        ({"TERM": "xterm"}, True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False),
        ({"TERM": "xterm", "NO_COLOR": ""}, True),
        ({"TERM": "dumb"}, False),
    ],
)
def test_colours_are_for_those_who_want_them(
    env: dict[str, str], coloured: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stdout", _Terminal())
    assert running._coloured() is coloured


def test_the_progress_line_is_no_longer_than_a_terminal_is_wide(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}
    for term in ("xterm", "dumb"):
        monkeypatch.setenv("TERM", term)
        screen = _Terminal()
        monkeypatch.setattr(sys, "stderr", screen)
        monkeypatch.setattr(running, "_width", lambda: 30)
        running._Progress(7).begin("3.4", "a sentence that is much longer than the terminal is wide")
        seen[term] = screen.getvalue()
    assert seen == {"xterm": "\r\x1b[K1/7 3.4 a sentence that is mu", "dumb": ""}
