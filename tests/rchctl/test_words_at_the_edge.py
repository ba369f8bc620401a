"""What is typed wrong, and places that cannot be written: one line in plain words, and no raw error."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

from rch.contract.errors import Failure, Kind
from rch.contract.redact import scrub_words
from rchctl.__main__ import main
from rchctl.commands import workers_add, workers_key
from rchctl.console import Console
from rchctl.context import Context
from rchctl.inventory_file import refuse_unfit

PIN = "SHA256:" + "a" * 43


def given(**change: Any) -> argparse.Namespace:
    plain: dict[str, Any] = {
        "what": "add",
        "name": "mini",
        "host": "h",
        "user": None,
        "port": None,
        "priority": None,
        "tag": [],
    }
    return argparse.Namespace(
        **{**plain, "fingerprint": None, "ssh_key": None, "yes": False, "json": False, **change}
    )


@pytest.mark.spec("6")
@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"name": "../x"}, "name '../x' is not a word of letters, digits"),
        ({"name": "a b"}, "name 'a b' is not a word of letters"),
        ({"port": 99999}, "--port '99999' is not a whole number from 1 to 65535"),
        ({"priority": -1}, "--priority '-1' is not a whole number from 0 to 1000000"),
        ({"host": "-oProxyCommand=x"}, "--host '-oProxyCommand=x' is not one word that does not begin"),
        ({"tag": ["ok", "a b"]}, "--tag 'ok a b' is not words that"),
        ({"fingerprint": "SHA256:AAAA"}, "--fingerprint 'SHA256:AAAA' is not SHA256: and 43 letters"),
    ],
)
def test_what_the_inventory_would_not_take_is_refused_in_words(change: dict[str, Any], told: str) -> None:
    with pytest.raises(Failure) as refused:
        refuse_unfit("add", given(**change))
    assert refused.value.exit_code == 2
    assert told in refused.value.message
    refuse_unfit("add", given(port=22, priority=0, user="ci", tag=["a"], fingerprint=PIN))


class _Context:
    """As far as the question about a host key goes."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.console = args, Console({})


@pytest.mark.spec("10")
def test_the_command_that_is_hinted_at_has_every_word_that_was_given(monkeypatch: Any) -> None:
    monkeypatch.setattr("rchctl.asking.has_somebody", lambda: False)
    args = given(user="ci", port=2222, ssh_key="k f", tag=["a", "b"], priority=0)
    context: Any = _Context(args)
    key = {"type": "ssh-ed25519", "fingerprint": PIN, "short": False, "known": False}
    with pytest.raises(Failure) as refused:
        workers_add.accepted_key(context, {"where": "h", "keys": [key]})
    words = "rchctl workers add mini --host h --user ci --port 2222 --tag a --tag b --priority 0"
    assert str(refused.value.hint).endswith(f"{words} --ssh-key 'k f' --fingerprint {PIN}")


@pytest.mark.spec("10")
def test_who_says_no_to_a_key_is_not_told_to_pin_it(monkeypatch: Any) -> None:
    monkeypatch.setattr("rchctl.asking.has_somebody", lambda: True)
    monkeypatch.setattr("rchctl.asking.answer", lambda *_: "no")
    context: Any = _Context(given())
    key = {"type": "ssh-ed25519", "fingerprint": PIN, "short": False, "known": False}
    with pytest.raises(Failure) as refused:
        workers_add.accepted_key(context, {"where": "h", "keys": [key]})
    assert "pin" not in str(refused.value.hint)


def test_a_machine_that_is_not_reached_while_it_is_added_is_no_worker_to_probe(monkeypatch: Any) -> None:
    def silent(*_: Any, **__: Any) -> Any:
        raise Failure(Kind.SSH, "no answer", subkind="UNREACHABLE")

    monkeypatch.setattr(Context, "call", silent)
    context = Context("workers", given(), Console({}), {})
    with pytest.raises(Failure) as refused:
        workers_add.scanned(context, {})
    assert "--host HOST --port PORT" in str(refused.value.hint)


@pytest.fixture(name="no_home")
def fixture_no_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A HOME that is a file."""
    home = tmp_path / "home"
    home.write_text("x")
    for name in ("RCH_HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.chdir(tmp_path)
    return home


def test_a_home_that_is_none_is_told_in_words(no_home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["workers", "key", "q", "--create"]) == 3
    told = capfd.readouterr().err
    assert f"{no_home}/.ssh: Not a directory" in told
    assert "--ssh-key FILE" in told


def test_a_report_is_written_to_the_temporary_folder_where_there_is_no_home(
    no_home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["bugreport"]) == 0
    written = Path(capfd.readouterr().out.splitlines()[-1])
    assert (written.parent, written.is_file()) == (no_home.parent, True)


def test_a_report_does_not_fall_into_the_folder_where_somebody_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "checkout").mkdir()
    monkeypatch.chdir(tmp_path / "checkout")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RCH_HOME", str(tmp_path / "rch"))
    assert main(["bugreport"]) == 0
    written = Path(capfd.readouterr().out.splitlines()[-1])
    assert written.is_file()
    assert written.parent == tmp_path / "rch/state/bugreports"
    assert not list((tmp_path / "checkout").iterdir())
    assert main(["bugreport", "--output", "a\n::error::x"]) == 0
    assert "\n::error::" not in capfd.readouterr().out


@pytest.mark.spec("11")
def test_values_of_flags_that_name_a_secret_are_taken_out_of_a_command() -> None:
    words = [
        "worker",
        "--token",
        "x1",
        "--password=y1",
        "API_KEY=z1",
        "--port",
        "22",
        "--token",
        "--yes",
        "a",
    ]
    clean = "worker --token [REDACTED] --password=[REDACTED] API_KEY=[REDACTED] --port 22 --token --yes a"
    assert " ".join(scrub_words(words)) == clean


def test_a_value_on_a_terminal_is_one_line(monkeypatch: Any) -> None:
    monkeypatch.setattr("os.isatty", lambda _: True)
    told: list[bytes] = []
    monkeypatch.setattr("rchctl.console._write", lambda _, data: told.append(bytes(data)))
    Console({}).value("a\n::error::b\n")
    assert told == [b"a ::error::b\n"]


@pytest.mark.parametrize(
    ("env", "live"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
)
def test_no_line_is_rewritten_where_no_colour_is_wanted(
    env: dict[str, str], live: object, monkeypatch: Any
) -> None:
    monkeypatch.setattr("os.isatty", lambda _: True)
    assert Console(env).live is live


def test_gc_says_which_run_it_keeps(monkeypatch: Any, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(Context, "call", lambda *_, **__: {"pinned": ["0198c2f0-7a11"]})
    assert main(["gc", "--keep", "latest"]) == 0
    assert capfd.readouterr().out == "0198c2f0-7a11 is kept for good\n"


def test_a_worker_that_is_not_added_yet_can_have_its_key_made(monkeypatch: Any) -> None:
    def unknown(*_: Any, **__: Any) -> Any:
        raise Failure(Kind.USAGE, "no worker 'mini' in the inventory (known: none)")

    monkeypatch.setattr(Context, "call", unknown)
    with pytest.raises(Failure) as refused:
        workers_key._offered(Context("workers", given(), Console({}), {}))
    assert "rchctl workers key mini --create" in str(refused.value.hint)
