"""`rchctl bugreport`: what is in it, and what must never be."""

from __future__ import annotations

import getpass
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from support.cli import Cli
from support.fake_daemon import FakeDaemon
from support.homes import keep, queued

from rch.files.paths import HostPaths, host_paths
from rchctl.bug_names import Names

RUN = "run-queued-0001"
LEAK = "ghp_" + "0123456789abcdefghijABCDEFGHIJ"
WORKERS = """
[[worker]]
name = "studio"
host = "mac.corp.example"
user = "builder"
ssh_key_path = "/home/builder/.ssh/rch"
known_host_fingerprint = "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
"""


@pytest.fixture(name="paths")
def fixture_paths(cli: Cli) -> HostPaths:
    """A home with a run, a log and secrets in all places where somebody may put one."""
    paths = host_paths(cli.environment)
    keep(paths, [queued(1)])
    paths.config_dir.mkdir()
    paths.config_toml.write_text(f'# a comment with {LEAK}\n[custom]\napi_token = "hunter2"\nplain = 3\n')
    paths.workers_toml.write_text(WORKERS)
    paths.log.write_text(
        json.dumps({"event": "dialled", "host": "mac.corp.example", "as": "builder@inner.corp.example"})
        + f"\nit said {LEAK}\nlast line\n"
    )
    folder = paths.artifacts / RUN
    (folder / "worker_selection.json").write_text(
        json.dumps({"capabilities": {"hostname": "inner.corp.example"}})
    )
    log = folder / "host" / "job" / "live.log"
    log.parent.mkdir(parents=True)
    log.write_text(f"compiling for inner.corp.example\nexport TOKEN={LEAK}\n")
    return paths


def spread(cli: Cli, *args: str) -> dict[str, str]:
    """The report's files, from a folder."""
    done = cli("bugreport", "--output", "report", *args)
    assert done.returncode == 0, done.stderr
    folder = cli.home / "report"
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.spec("6")
@pytest.mark.usefixtures("paths")
def test_no_secret_and_no_name_of_a_machine_is_in_it(cli: Cli) -> None:
    files = spread(cli, RUN, "--with-logs")
    whole = "".join(files.values())
    for word in (LEAK, "hunter2", "corp.example", "builder", "SHA256:AAAA", ".ssh/rch"):
        assert word not in whole, word
    assert json.loads(files["config.json"]) == {"custom": {"api_token": "[REDACTED]", "plain": 3}}
    (worker,) = json.loads(files["workers.json"])["worker"]
    assert (worker["name"], worker["host"][:6]) == ("studio", "<host-")
    # One name, one word, wherever it stands: that is how a log is read beside an inventory.
    assert worker["host"] in files["rchd.log"]
    assert files["rchd.log"].endswith("[REDACTED]\nlast line\n")
    assert files[f"runs/{RUN}/host/job/live.log"].splitlines()[1] == "[REDACTED]"


@pytest.mark.usefixtures("paths")
def test_it_has_the_facts_without_a_daemon_and_starts_none(cli: Cli) -> None:
    cli.env["RCH_RCHD"] = "/nonexistent"
    files = spread(cli)
    database = json.loads(files["database.json"])
    assert (database["runs"], database["events"], database["there"]) == ({"QUEUED": 1}, 0, True)
    assert "no daemon answers" in json.loads(files["daemon.json"])["error"]
    assert json.loads(files["versions.json"])["dependencies"]["msgspec"]
    where = json.loads(files["places.json"])
    assert where["state"]["disk_free"] > 0
    assert where["locks"]["rchd.lock"] == "free"
    assert where["runs_on_disk"] == 1
    assert not [name for name in files if name.startswith("runs/")]
    assert all(name in files["README.txt"] for name in files if name != "README.txt")


def test_of_a_run_come_its_records_and_neither_logs_nor_lists_of_files(cli: Cli, paths: HostPaths) -> None:
    names = set(spread(cli, "run-q"))
    assert f"runs/{RUN}/run_state.json" in names
    assert not [
        name for name in names if name.endswith((".log", "source_manifest.json")) and "runs/" in name
    ]
    assert (paths.artifacts / RUN / "source_manifest.json").exists()


@pytest.mark.usefixtures("paths")
def test_names_are_left_where_that_is_asked_for(cli: Cli) -> None:
    files = spread(cli, "--with-names")
    assert "mac.corp.example" in files["workers.json"]
    assert LEAK not in "".join(files.values())


@pytest.mark.usefixtures("paths")
def test_the_daemons_own_word_is_in_it(cli: Cli, daemon: FakeDaemon) -> None:
    daemon.on("daemon.metrics", {"text": "rch_runs 1\n", "samples": [], "content_type": ""})
    daemon.on("workers.list", {"workers": [{"name": "studio", "host": "mac.corp.example"}]})
    files = spread(cli)
    assert json.loads(files["daemon.json"])["health"]["status"] == "ok"
    assert files["metrics.txt"] == "rch_runs 1\n"
    assert "corp.example" not in files["daemon.json"]


@pytest.mark.usefixtures("paths")
def test_it_is_one_private_file_that_names_what_it_holds(cli: Cli) -> None:
    done = cli("bugreport", "--json", "--output", "r.tar.gz")
    data = json.loads(done.stdout)["data"]
    path = cli.home / "r.tar.gz"
    assert (data["path"], path.stat().st_mode & 0o777) == (str(path), 0o600)
    with tarfile.open(path) as tar:
        assert [f"r/{each['name']}" for each in data["files"]] == tar.getnames()
        assert {member.uname for member in tar} == {""}
    told = cli("bugreport")
    assert "nothing was sent" in told.stderr
    assert Path(told.stdout.splitlines()[-1]).name.startswith("rch-bugreport-2")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--with-logs",), "--with-logs needs a run"),
        (("run-x",), "no run of the name 'run-x'"),
        (("--output", "."), "is there already"),
    ],
)
@pytest.mark.usefixtures("paths")
def test_what_cannot_be_is_refused(cli: Cli, words: tuple[str, ...], why: str) -> None:
    done = cli("bugreport", *words)
    assert (done.returncode, why in done.stderr) == (2, True)
    assert not list(cli.home.glob("rch-bugreport-*"))


def test_an_empty_home_can_be_reported_too(cli: Cli) -> None:
    files = spread(cli)
    assert json.loads(files["database.json"]) == {"there": False}
    assert json.loads(files["workers.json"]) is None


def _names(*words: tuple[str, str]) -> Callable[[str], str]:
    names = Names()
    for kind, name in words:
        names.add(kind, name)
    return lambda text: str(names.clean(text))


def test_a_name_is_replaced_as_a_word_and_the_longest_first() -> None:
    clean = _names(
        ("user", "ann"), ("host", "mini"), ("host", "mini.local"), ("user", "a"), ("user", "root")
    )
    assert clean("ann@mini.local: /Users/ann/annex, mini") == (
        "<user-1>@<host-2>: /Users/<user-1>/annex, <host-1>"
    )
    assert clean("a root") == "a root"


def test_who_reports_is_not_named_either(cli: Cli) -> None:
    user = getpass.getuser()
    if user != "root":
        assert f"/{user}/" not in "".join(spread(cli).values())
