"""`rchd --rebuild` at its edges: what it replaces, what it keeps, and a death at each of its steps."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from support.homes import keep, queued

from rch.contract.errors import Failure, Kind
from rch.contract.records import encode_record
from rch.files import durable
from rch.files.locks import FileLock
from rch.files.paths import HostPaths, host_paths
from rchd.edges.core_rows import rows_of
from rchd.edges.rebuild import Rebuilt, rebuild
from rchd.edges.store import SqliteStore

RUNS = 7
NAMED = "one for two"


@pytest.fixture(name="paths")
def fixture_paths(tmp_path: Path) -> HostPaths:
    paths = host_paths({"RCH_HOME": str(tmp_path)})
    keep(paths, [queued(number) for number in (3, 1, 5, 2, 4, 7, 6)])
    return paths


def stored(paths: HostPaths) -> list[str]:
    """The runs that a daemon would find, in its order."""
    store = SqliteStore.open(paths.database)
    try:
        return [row.run_id for row in store.load(active_only=True).runs]
    finally:
        store.close()


def made(paths: HostPaths, *, force: bool = False) -> Rebuilt:
    return rebuild(paths, rows_of, force=force)


BY_ACCEPTANCE = [f"run-queued-{number:04}" for number in range(1, RUNS + 1)]


def _zero(path: Path) -> None:
    path.write_bytes(b"")


def _page(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[2 * 4096 : 3 * 4096] = bytes(4096)
    path.write_bytes(data)


def _text(path: Path) -> None:
    path.write_text("no database at all\n" * 500)


def _bad_row(path: Path) -> None:
    con = sqlite3.connect(path)
    con.execute("UPDATE runs SET doc = CAST(doc || ' ' AS BLOB) WHERE run_id = 'run-queued-0004'")
    con.commit()
    con.close()


def _gone(path: Path) -> None:
    path.unlink()


def _log_alone(path: Path) -> None:
    path.rename(path.with_name("rchd.db-wal"))


def _link_to_nowhere(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


@pytest.mark.spec("4")
@pytest.mark.fault("H9")
@pytest.mark.parametrize("harm", [_zero, _page, _text, _bad_row, _gone, _log_alone, _link_to_nowhere])
def test_what_is_damaged_is_made_anew_and_kept_aside(
    paths: HostPaths, harm: Callable[[Path], None]
) -> None:
    harm(paths.database)
    told = made(paths)
    assert [run.run_id for run in told.runs] == BY_ACCEPTANCE
    assert all(run.notes == [] for run in told.runs)
    assert stored(paths) == BY_ACCEPTANCE
    aside = [path for path in paths.state_dir.iterdir() if ".bak" in path.name]
    assert bool(aside) is (harm is not _gone)
    assert not paths.database.is_symlink()


@pytest.mark.spec("4")
@pytest.mark.fault("H9")
@pytest.mark.parametrize("version", [1, 99])
def test_a_sound_or_newer_database_is_left_alone_without_force(paths: HostPaths, version: int) -> None:
    con = sqlite3.connect(paths.database)
    con.execute(f"PRAGMA user_version = {version:d}")
    con.commit()
    con.close()
    before = paths.database.read_bytes()
    with pytest.raises(Failure) as caught:
        made(paths)
    assert (caught.value.kind, caught.value.subkind) == (Kind.DAEMON, "STATE")
    assert paths.database.read_bytes() == before
    told = made(paths, force=True)
    assert told.aside is not None
    assert Path(told.aside).read_bytes() == before
    assert stored(paths) == BY_ACCEPTANCE


@pytest.mark.spec("4")
@pytest.mark.parametrize("which", ["lock", "writer"])
def test_while_another_process_lives_here_nothing_is_done(paths: HostPaths, which: str) -> None:
    place = paths.lock if which == "lock" else paths.database.with_name("rchd.db.lock")
    holder = FileLock(place, "somebody else")
    assert holder.try_acquire()
    paths.database.unlink()
    with pytest.raises(Failure, match="somebody else") as caught:
        made(paths)
    assert caught.value.subkind == "ALREADY_RUNNING"
    assert not paths.database.exists()
    holder.release()
    assert made(paths).left_out == []


class Dying(durable.System):
    """Fails for good from the n-th rename or sync on, as after a death."""

    def __init__(self, at: int) -> None:
        self.left = at

    def _step(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise OSError(errno.EIO, "it died")

    def rename(self, src: Path, dst: Path) -> None:
        self._step()
        super().rename(src, dst)

    def sync(self, fd: int) -> None:
        self._step()
        super().sync(fd)


@pytest.mark.spec("4")
@pytest.mark.fault("H9")
@pytest.mark.fault("H1")
def test_after_a_death_at_any_step_no_daemon_starts_with_less(
    paths: HostPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps, refusals = 0, 0
    while True:
        with monkeypatch.context() as patch:
            patch.setattr(durable, "_sys", Dying(steps))
            try:
                made(paths, force=True)
            except Failure:
                died = True
            else:
                died = False
        try:
            assert sorted(stored(paths)) == BY_ACCEPTANCE
        except Failure as refused:
            assert "its rebuild was cut off" in refused.message  # noqa: PT017  (both are right)
            assert died
            refusals += 1
            made(paths)
            assert stored(paths) == BY_ACCEPTANCE
        if not died:
            break
        steps += 1
    assert steps > 5
    assert refusals > 1
    assert not [path for path in paths.state_dir.iterdir() if path.suffix in {".rebuild", ".rebuilt"}]


@pytest.mark.fault("H9")
def test_a_token_names_one_run_and_a_copy_is_none(paths: HostPaths) -> None:
    for number in (2, 5):
        run = queued(number)
        named = msgspec.structs.replace(run.accepted, client_token=NAMED)
        (paths.artifacts / run.run_id / "accepted.json").write_bytes(encode_record(named))
    (paths.artifacts / "run-of-nobody").mkdir()
    paths.database.unlink()
    told = made(paths)
    notes = {run.run_id: run.notes for run in told.runs if run.notes}
    assert notes == {"run-queued-0005": ["its client_token is that of an earlier run"]}
    assert [Path(each.path).name for each in told.left_out] == ["run-of-nobody"]
    store = SqliteStore.open(paths.database)
    found = store.by_token(NAMED)
    store.close()
    assert found is not None
    assert found.run_id == "run-queued-0002"


@pytest.mark.spec("4")
def test_events_go_on_above_all_that_were_told(paths: HostPaths) -> None:
    paths.database.unlink()
    made(paths)
    store = SqliteStore.open(paths.database)
    first = store.last_event_seq()
    store.close()
    made(paths, force=True)
    store = SqliteStore.open(paths.database)
    assert store.last_event_seq() == first > 1_000_000_000_000
    assert [event.run_id for event in store.events_after(0)] == [BY_ACCEPTANCE[-1]]
    store.close()


@pytest.mark.fault("H9")
def test_a_bundle_that_is_gone_is_told(paths: HostPaths) -> None:
    (paths.spool / "spool.tar.zst").unlink()
    paths.database.unlink()
    told = made(paths)
    assert {tuple(run.notes) for run in told.runs} == {
        ("its bundle is not in the spool: it can be served only where its source is known",)
    }
