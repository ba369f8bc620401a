from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rch.contract.errors import Failure, Kind
from rch.files import paths
from rch.files.paths import check_socket_path, host_paths, worker_paths

HOME = {"HOME": "/home/ann"}


@pytest.mark.spec("12")
def test_without_variables_the_host_lives_under_the_users_home() -> None:
    host = host_paths(HOME)
    assert host.config_dir == Path("/home/ann/.config/rch")
    assert host.workers_toml == Path("/home/ann/.config/rch/workers.toml")
    assert host.config_toml == Path("/home/ann/.config/rch/config.toml")
    assert host.artifacts == Path("/home/ann/.local/share/rch/artifacts/xcode")
    assert host.database == Path("/home/ann/.local/state/rch/rchd.db")
    assert host.spool == Path("/home/ann/.local/state/rch/spool")
    assert host.log == Path("/home/ann/.local/state/rch/rchd.log")
    assert host.lock == Path("/home/ann/.local/state/rch/rchd.lock")
    assert host.start_lock == Path("/home/ann/.local/state/rch/start.lock")
    assert host.host_id_file == Path("/home/ann/.local/state/rch/host_id")
    assert host.run_dir == Path("/home/ann/.local/state/rch/run")
    assert host.socket == Path("/home/ann/.local/state/rch/run/rchd.sock")
    assert host.socket_lock == Path("/home/ann/.local/state/rch/run/rchd.sock.lock")


@pytest.mark.spec("12")
def test_the_xdg_variables_move_each_its_own_part() -> None:
    host = host_paths(
        {
            **HOME,
            "XDG_CONFIG_HOME": "/c",
            "XDG_DATA_HOME": "/d",
            "XDG_STATE_HOME": "/s",
            "XDG_RUNTIME_DIR": "/run/user/7",
        }
    )
    assert (host.config_dir, host.data_dir, host.state_dir) == (
        Path("/c/rch"),
        Path("/d/rch"),
        Path("/s/rch"),
    )
    assert host.socket == Path("/run/user/7/rch/rchd.sock")
    assert host.run_dir == Path("/run/user/7/rch")


def test_rch_home_moves_everything_whatever_else_is_set() -> None:
    host = host_paths({**HOME, "RCH_HOME": "/x", "XDG_CONFIG_HOME": "/c", "XDG_RUNTIME_DIR": "/run/user/7"})
    assert (host.config_dir, host.data_dir, host.state_dir) == (
        Path("/x/config"),
        Path("/x/data"),
        Path("/x/state"),
    )
    assert host.socket == Path("/x/run/rchd.sock")


@pytest.mark.spec("12")
def test_rch_socket_moves_the_socket_its_folder_and_its_lock_alone() -> None:
    host = host_paths({**HOME, "RCH_HOME": "/x", "RCH_SOCKET": "/tmp/s/a.sock"})
    assert (host.socket, host.run_dir) == (Path("/tmp/s/a.sock"), Path("/tmp/s"))
    assert host.socket_lock == Path("/tmp/s/a.sock.lock")
    assert host.state_dir == Path("/x/state")


def test_an_empty_variable_counts_as_unset() -> None:
    empty = {"RCH_HOME": "", "RCH_SOCKET": "", "XDG_RUNTIME_DIR": "", "XDG_STATE_HOME": ""}
    assert host_paths({**HOME, **empty}) == host_paths(HOME)


def test_a_relative_value_is_taken_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    host = host_paths({**HOME, "RCH_HOME": ".demo", "RCH_SOCKET": "s.sock"})
    assert host.state_dir == tmp_path / ".demo/state"
    assert host.socket == tmp_path / "s.sock"
    assert worker_paths({"RCH_WORKER_HOME": "w"}).data_dir == tmp_path / "w/data"


def test_a_tilde_means_the_home_of_that_environment() -> None:
    assert host_paths({**HOME, "RCH_HOME": "~/gate"}).data_dir == Path("/home/ann/gate/data")


def test_the_worker_keeps_its_things_apart_from_the_host() -> None:
    worker = worker_paths(HOME)
    assert worker.config_file == Path("/home/ann/.config/rch/worker.toml")
    assert worker.sources == Path("/home/ann/.local/share/rch-worker/sources")
    assert worker.jobs == Path("/home/ann/.local/share/rch-worker/jobs")
    assert worker.runs == Path("/home/ann/.local/share/rch-worker/runs")
    assert worker.caches == Path("/home/ann/.local/share/rch-worker/caches")
    assert worker.leases == Path("/home/ann/.local/state/rch-worker/leases")
    assert worker.locks == Path("/home/ann/.local/state/rch-worker/locks")
    assert worker.log == Path("/home/ann/.local/state/rch-worker/rch-worker.log")


def test_a_worker_has_one_place_for_its_locks_whoever_calls_it() -> None:
    terminal = {**HOME, "XDG_STATE_HOME": "/elsewhere", "XDG_DATA_HOME": "/elsewhere", "RCH_HOME": "/x"}
    assert worker_paths(terminal) == worker_paths(HOME)


def test_rch_worker_home_moves_all_of_the_worker() -> None:
    worker = worker_paths({**HOME, "RCH_WORKER_HOME": "/w"})
    assert worker.config_file == Path("/w/config/worker.toml")
    assert (worker.data_dir, worker.state_dir) == (Path("/w/data"), Path("/w/state"))


@pytest.mark.fault("H7")
@pytest.mark.parametrize("limit", [104, 108])
def test_a_socket_path_may_fill_the_address_but_for_its_nul(
    limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "_SUN_PATH_BYTES", limit)
    longest = Path("/" + "x" * (limit - 2))
    check_socket_path(longest)
    with pytest.raises(Failure) as caught:
        check_socket_path(longest.with_name(longest.name + "y"))
    assert (caught.value.kind, caught.value.subkind) == (Kind.DAEMON, "SOCKET_PATH")
    assert caught.value.exit_code == 4
    for part in (str(longest), str(limit), str(limit + 1), "RCH_SOCKET"):
        assert part in caught.value.message


@pytest.mark.fault("H7")
def test_a_socket_path_is_measured_in_bytes() -> None:
    with pytest.raises(Failure):
        check_socket_path(Path("/" + "ü" * 60))


@pytest.mark.fault("H7")
def test_the_platform_agrees_with_the_limit(tmp_path: Path) -> None:
    import socket

    folder = tmp_path / "s"
    folder.mkdir()
    room = paths._SUN_PATH_BYTES - len(str(folder)) - 2
    if room < 1:
        pytest.skip("the folder for tests is too long itself")
    fits = folder / ("x" * room)
    check_socket_path(fits)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(fits))
    with socket.socket(socket.AF_UNIX) as server, pytest.raises(OSError, match="too long"):
        server.bind(str(fits) + "xx")


def test_the_thin_client_pays_for_the_standard_library_alone() -> None:
    code = (
        "import sys; import rch.files.paths, rch.files.locks;"
        "print([m for m in ('msgspec', 'anyio', 'asyncio', 'sqlite3', 'subprocess') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
