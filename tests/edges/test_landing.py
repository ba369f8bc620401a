"""The program that a set-up runs on a worker, called as the host calls it, in a home of its own."""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rchd.edges import landing, landing_call
from rchd.edges.landing_site import command, program

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOWN"
NEW = f'restrict,command="/h/agent/current/bin/rch-worker xcode rpc" {KEY} rch@host'


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def call(op: str, data: bytes = b"", **request: Any) -> list[dict[str, Any]]:
    """What it says, word for word."""
    line = json.dumps({"op": op, "token": "T0KEN", **request}).encode() + b"\n"
    out = io.StringIO()
    landing.serve(io.BytesIO(line + data), out)
    lines = [each for each in out.getvalue().splitlines() if each]
    return [json.loads(each.removeprefix("T0KEN ")) for each in lines]


def done(op: str, **request: Any) -> dict[str, Any]:
    answer = call(op, **request)[-1]
    assert "done" in answer, answer
    found: dict[str, Any] = answer["done"]
    return found


def installed(home: Path, *names: str) -> Path:
    base = home / ".local/share/rch-worker/agent"
    for name in names:
        (base / name).mkdir(parents=True)
        (base / name / "complete.json").write_text("{}")
    return base


# --- authorized_keys --------------------------------------------------------------------------


def authorized(home: Path, before: str | None, line: str = NEW) -> tuple[bool, str]:
    path = home / ".ssh" / "authorized_keys"
    if before is not None:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(before.encode())
        path.chmod(0o644)
    changed = done("authorize", key=KEY, line=line)["changed"]
    assert [each.name for each in path.parent.iterdir()] == ["authorized_keys"]
    return changed, path.read_bytes().decode()


@pytest.mark.spec("3.1")
def test_the_line_is_added_once_and_no_other_is_touched(home: Path) -> None:
    assert authorized(home, None) == (True, f"{NEW}\n")
    assert (home / ".ssh").stat().st_mode & 0o777 == 0o700
    assert authorized(home, None) == (False, f"{NEW}\n")
    others = '# mine\r\n\n  from="10.0.0.1" ssh-rsa AAAAB3 me\nnot a key at all'
    assert authorized(home, others) == (True, f"{others}\n{NEW}\n")
    assert (home / ".ssh" / "authorized_keys").stat().st_mode & 0o777 == 0o600


@pytest.mark.spec("3.1")
def test_our_line_of_an_older_place_is_renewed_and_keeps_whence_it_may_come(home: Path) -> None:
    told = 'restrict,command="env RCH_WORKER_HOME=/v /o/rch-worker xcode rpc",from="10.0.0.0/8"'
    old = f"{told} {KEY} x y"
    new = f'restrict,command="/h/agent/current/bin/rch-worker xcode rpc",from="10.0.0.0/8" {KEY} x y'
    assert authorized(home, f"ssh-rsa AAAA a\n{old}\nssh-rsa BBBB b\n") == (
        True,
        f"ssh-rsa AAAA a\n{new}\nssh-rsa BBBB b\n",
    )
    sourced = NEW.replace('rpc"', 'rpc",from="192.0.2.7"')
    assert authorized(home, f"{old}\n", sourced) == (True, f"{sourced}\n")


@pytest.mark.spec("3.1")
@pytest.mark.parametrize(
    "line",
    [
        f"{KEY} me",
        f'command="/h/agent/current/bin/rch-worker xcode rpc" {KEY}',
        f'restrict,pty,command="/x/rch-worker xcode rpc" {KEY}',
        f'restrict,command="/bin/sh; rch-worker xcode rpc x" {KEY}',
    ],
)
def test_a_key_that_has_other_rights_there_is_refused(home: Path, line: str) -> None:
    (home / ".ssh").mkdir()
    keys = home / ".ssh" / "authorized_keys"
    keys.write_text(f"{NEW}\n{line}\n")
    (answer,) = call("authorize", key=KEY, line=NEW)
    assert answer["failed"][1] == "authorized_keys has this key with other rights: line 2"
    assert keys.read_text() == f"{NEW}\n{line}\n"


def test_a_file_that_cannot_be_read_is_not_written_anew(home: Path) -> None:
    (home / ".ssh" / "authorized_keys").mkdir(parents=True)
    (answer,) = call("authorize", key=KEY, line=NEW)
    assert answer["failed"][1].startswith("IsADirectoryError")


def test_a_link_stays_one(home: Path) -> None:
    (home / ".ssh").mkdir()
    (home / "dots").mkdir()
    (home / "dots" / "keys").write_text("")
    (home / ".ssh" / "authorized_keys").symlink_to(home / "dots" / "keys")
    done("authorize", key=KEY, line=NEW)
    assert (home / "dots" / "keys").read_text() == f"{NEW}\n"
    assert (home / ".ssh" / "authorized_keys").is_symlink()


# --- versions ---------------------------------------------------------------------------------


@pytest.mark.spec("3.1")
def test_current_leads_to_whole_versions_alone_and_says_what_was_before(home: Path) -> None:
    base = installed(home, "1-a", "2-b")
    (base / "3-cut").mkdir()
    assert done("switch", build="1-a") == {"before": None}
    assert done("switch", build="2-b") == {"before": "1-a"}
    assert done("switch", build="2-b") == {"before": "1-a"}, "it was cut, and may still be taken back"
    assert done("switch", build="2-b", settled=True) == {"before": "1-a"}
    assert done("switch", build="2-b") == {"before": "2-b"}
    assert call("switch", build="3-cut")[-1]["failed"][1] == "version 3-cut is not installed"
    assert (base / "current").readlink().name == "2-b"
    (base / ".current.new").symlink_to("nowhere")  # a cut has left it
    assert done("switch", build="1-a") == {"before": "2-b"}


@pytest.mark.spec("3.1")
def test_a_version_goes_when_nothing_runs_from_it(home: Path) -> None:
    base = installed(home, "1-a", "2-b", "3-c", "4-d")
    done("switch", build="4-d", settled=True)
    program = base / "1-a" / "worker.py"
    program.write_text("print('up', flush=True)\ninput()\n")
    with subprocess.Popen(
        [sys.executable, str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as job:
        assert job.stdout is not None
        assert job.stdout.readline() == "up\n"
        assert done("prune", keep=["3-c"]) == {"removed": ["2-b"], "used": ["1-a"]}
        assert program.exists()
        job.communicate("\n")
    assert done("prune", keep=["3-c"]) == {"removed": ["1-a"], "used": []}
    assert sorted(each.name for each in base.iterdir()) == ["3-c", "4-d", "current"]


def test_two_set_ups_wait_for_one_another_and_not_for_ever(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = installed(home, "1-a")
    monkeypatch.setattr(landing_call, "LOCK_SECONDS", 0.0)
    holder = os.open(base, os.O_RDONLY)
    try:
        fcntl.flock(holder, fcntl.LOCK_EX)
        refused = call("switch", build="1-a")[-1]["failed"]
        assert (refused[0], refused[2]) == ("switch", "wait, and run it again")
    finally:
        os.close(holder)
    assert done("switch", build="1-a") == {"before": None}


@pytest.mark.parametrize(("data", "said"), [(b"abc", "was cut 2 bytes"), (b"abcde", "did not arrive as")])
def test_what_was_cut_or_changed_on_the_way_is_installed_by_nobody(
    home: Path, data: bytes, said: str
) -> None:
    wheel = {"name": "../../a.whl", "size": 5, "sha256": hashlib.sha256(b"12345").hexdigest()}
    answer = call(
        "install", data, build="1-a", python=sys.executable, index=False, wanted="x", wheels=[wheel]
    )
    assert answer[0] == {"step": "ship"}
    assert said in answer[-1]["failed"][1]
    base = home / ".local/share/rch-worker/agent"
    assert [each.name for each in base.iterdir()] == [".incoming"]
    assert [each.name for each in (base / ".incoming").iterdir()] == ["a.whl"]


def test_a_step_that_fails_says_which_and_what_the_program_said(home: Path) -> None:
    python = home / "python"
    python.write_text("#!/bin/sh\necho out; echo 'no venv for you' >&2; exit 7\n")
    python.chmod(0o755)
    answer = call("install", build="1-a", python=str(python), index=False, wanted="x", wheels=[])
    step, message, hint, said = answer[-1]["failed"]
    assert (step, message, said) == ("venv", "python ended with 7", "no venv for you")
    assert "python3-venv" in hint


# --- the text ---------------------------------------------------------------------------------


@pytest.mark.spec("3.1")
def test_the_text_runs_on_a_bare_python_behind_a_shell_that_prints(home: Path) -> None:
    (home / ".ssh").mkdir()
    (home / ".ssh" / "authorized_keys").write_text(f"{NEW}\n")
    line = json.dumps({"op": "look", "token": "T0KEN", "python": sys.executable, "key": KEY}).encode()
    shell = ["/bin/sh", "-c", f"printf 'motd without an end'; {command(sys.executable)}"]
    ended = subprocess.run(
        shell, input=program() + line + b"\n", capture_output=True, check=True, env={"HOME": str(home)}
    )
    (word,) = [each for each in ended.stdout.decode().splitlines() if each.startswith("T0KEN ")]
    found = json.loads(word.removeprefix("T0KEN "))["done"]
    assert (found["key"], found["line"], found["installed"]) == ("ours", NEW, [])
    assert found["pythons"][0]["version"] == list(sys.version_info[:3])
    assert "import rchd" not in program().decode()
    assert "from rchd" not in program().decode()


def test_the_text_is_read_by_an_old_python() -> None:
    import ast

    ast.parse(program(), feature_version=(3, 7))


@pytest.mark.spec("3.1")
@pytest.mark.parametrize("index", [True, False])
def test_what_was_not_sent_comes_from_the_worker_s_own_index_if_it_may(home: Path, *, index: bool) -> None:
    python, told = home / "python", home / "told"
    python.write_text(
        f'#!/bin/sh\necho "$*" >> {told}\ncase "$*" in *--no-index*) echo no msgspec >&2; exit 1 ;; esac\n'
    )
    python.chmod(0o755)
    (home / "folder" / "bin").mkdir(parents=True)
    (home / "folder" / "bin" / "python").symlink_to(python)
    request = {"op": "install", "token": "T0KEN", "python": str(python), "index": index, "wanted": "x.whl"}
    asked = landing_call.Call(request, io.BytesIO(), io.StringIO())
    if index:
        landing._packages(asked, str(home / "folder"), str(home))
    else:
        with pytest.raises(landing_call.Refused) as caught:
            landing._packages(asked, str(home / "folder"), str(home))
        assert (caught.value.said, "--wheels" in (caught.value.hint or "")) == ("no msgspec", True)
    words = [line.split() for line in told.read_text().splitlines()]
    assert ["--no-index" in each for each in words] == ([True, False] if index else [True])
    assert all(each[-1] == str(home / "x.whl") and "--find-links" in each for each in words)
