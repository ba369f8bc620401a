"""What a stranger's bytes cost: memory in a process of its own, and work that stays in proportion."""

from __future__ import annotations

import io
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from support import hostile_frames, tars

from rch.contract import tar_names
from rch.contract.tar import TarError
from rch.contract.tar_names import MAX_HOPS, LinkError, Names, fold
from rch.contract.tar_reader import Limits, TarReader
from rch.files.durable import remove_tree
from rch.files.extract import ExtractError, extract
from rch.files.unzstd import MAX_WINDOW

MIB = 1 << 20
# The kernel hands the peak of who started a process down to it, so that a large test runner would hide
# all of it: Linux's own mark of this program's memory comes first.
PEAK = """
import io, resource, sys
def peak():
    try:
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) << 10 for line in file if line.startswith("VmHWM"))
    except OSError:
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
data = sys.stdin.buffer.read()
"""
UNZSTD = f"""{PEAK}
from rch.files.unzstd import DecodeError, bounded_reader
before = peak()
reader, made = bounded_reader(io.BytesIO(data), max_output=int(sys.argv[1])), 0
try:
    while piece := reader.read(1 << 20):
        made += len(piece)
except DecodeError as error:
    print(error)
print(made)
print(peak() - before)
"""
UNTAR = f"""{PEAK}
from rch.contract.tar import TarError
from rch.contract.tar_reader import Limits, TarReader
before = peak()
reader = TarReader(limits=Limits(max_entries=1_000_000, max_bytes=1 << 40), canonical=False)
try:
    for _ in range(4096):  # the same piece over and over: 256 MiB
        reader.feed(data)
except TarError as error:
    print(error)
print(peak() - before)
"""


def run(script: str, data: bytes, *words: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", script, *words], input=data, capture_output=True, check=True
    )
    return done.stdout.decode().splitlines()


@pytest.mark.spec("3.2")
@pytest.mark.fault("Z1")
@pytest.mark.parametrize("window_log", [20, 27])
def test_a_bomb_takes_less_than_twice_its_window(window_log: int) -> None:
    whole = hostile_frames.bomb(10 << 30, declared=False)
    frame = hostile_frames.header(window_log=window_log) + whole[6:]
    said, made, took = run(UNZSTD, frame, str(256 * MIB))
    assert said == f"the stream unpacks to more than {256 * MIB} bytes"
    assert int(made) <= 256 * MIB
    assert int(took) < max(2 << window_log, 16 * MIB)
    assert 1 << window_log <= MAX_WINDOW


@pytest.mark.fault("Z1")
@pytest.mark.parametrize(
    "form", ["window log 31", "one segment of 4 GiB", "skippable frames for ever", "many tiny frames"]
)
def test_what_is_refused_by_its_form_takes_no_memory(form: str) -> None:
    *_, took = run(UNZSTD, hostile_frames.FORMS[form], str(1 << 40))
    assert int(took) < 8 * MIB


@pytest.mark.fault("T2")
@pytest.mark.parametrize(
    ("piece", "said"),
    [
        (tars.header(b"@pax", typeflag=b"x", size=b"77777777777\0"), "a PAX entry of"),
        (tars.header(b"a", size=b"77777777777\0") + bytes(65536 - 512), ""),
        (tars.END, "bytes stand after the end"),
    ],
    ids=["a PAX entry of 8 GiB", "a file that never ends", "zeros for ever"],
)
def test_a_reader_of_tars_keeps_nothing_of_what_passes(piece: bytes, said: str) -> None:
    first, took = ["", *run(UNTAR, piece)][-2:]
    assert first.startswith(said)
    assert int(took) < 8 * MIB


# --- work ---------------------------------------------------------------------------------


def test_links_to_a_chain_of_long_targets_are_followed_once_each(monkeypatch: pytest.MonkeyPatch) -> None:
    folds = 0

    def counting(path: str) -> str:
        nonlocal folds
        folds += 1
        return fold(path)

    names = Names()
    way = "d/" * 60 + "../" * 60
    for number in range(MAX_HOPS - 1):
        names.add_link(f"c{number:02}", f"{way}c{number + 1:02}")
    for number in range(2000):
        names.add_link(f"z{number:04}", "c00")
    monkeypatch.setattr(tar_names, "fold", counting)
    names.check_links()
    assert folds < 25_000  # each link of the chain once; 10 million where each is followed anew


def test_a_target_cannot_grow_beyond_any_name_there_is() -> None:
    names = Names()
    names.add_link("a", ("n" * 200 + "/") * 15 + "n")
    names.add_link("b", "a/" + ("m" * 200 + "/") * 15 + "m")
    with pytest.raises(LinkError, match="leads to a name over 4095 bytes"):
        names.check_links()


@pytest.mark.faults_long
@pytest.mark.fault("T2")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("canonical", [True, False])
def test_a_million_entries_pass_and_one_more_does_not(*, canonical: bool) -> None:
    reader = TarReader(limits=Limits(max_entries=1_000_000, max_bytes=1), canonical=canonical)
    for start in range(0, 1_000_000, 10_000):
        reader.feed(b"".join(tars.file(b"%07d" % number) for number in range(start, start + 10_000)))
    assert reader.entries == 1_000_000
    with pytest.raises(TarError, match="more than 1000000 entries"):
        reader.feed(tars.file(b"9999999"))


# --- a race for real ----------------------------------------------------------------------

SWAPPER = """
import os, sys, time
from contextlib import suppress
out, away = sys.argv[1:]
print("ready", flush=True)
while True:
    with suppress(OSError):
        os.rename(out + "/d", out + "/old")
        os.symlink(away, out + "/d")
        time.sleep(0.001)
    with suppress(OSError):
        os.unlink(out + "/d")
    with suppress(OSError):
        os.rename(out + "/old", out + "/d")
    time.sleep(0.001)
"""


@pytest.mark.spec("5")
@pytest.mark.fault("T2")
def test_a_process_that_swaps_folders_for_links_has_nothing_written_or_removed_elsewhere(
    tmp_path: Path,
) -> None:
    away, out = tmp_path / "away", tmp_path / "out"
    away.mkdir()
    (away / "000").write_text("untouched")
    data = b"".join(tars.file(b"%c/%03d" % (b"de"[n % 2], n), b"evil") for n in range(200)) + tars.END
    limits = Limits(max_entries=1000, max_bytes=MIB)
    words = [sys.executable, "-c", SWAPPER, str(out), str(away)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as swapper:
        try:
            assert swapper.stdout is not None
            assert swapper.stdout.readline() == b"ready\n"
            for _ in range(20):
                with suppress(OSError, ExtractError):
                    extract(io.BytesIO(data), out, limits=limits, canonical=False)
                while out.exists():
                    with suppress(OSError):
                        remove_tree(out)
                assert [path.name for path in away.iterdir()] == ["000"]
        finally:
            swapper.kill()
    assert (away / "000").read_text() == "untouched"
