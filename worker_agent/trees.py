"""A stored source as files (spec section 5, last rule; section 11).

The names are those that were looked at when the source was stored; its index says where each file's
bytes stand, so that no header is read again and several threads write at once. As with every
extraction here: regular files, folders and links alone, below a folder that was empty, through
descriptors that no link can bend, and the links last.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rch.files.descent import FOLDER_FLAGS, Descent
from rch.files.extract import NEW_FILE, one_name, open_destination
from worker_agent.source_index import CutShort, SourceMember, SourceReader
from worker_agent.sources import Sources

THREADS = min(4, os.cpu_count() or 1)
_WINDOW = 1 << 20
_FEW = 256
"""So many files are not worth another thread."""


def unpack(sources: Sources, source_sha256: str, destination: Path) -> None:
    """Have the source in `destination`, which is made or is an empty folder.

    RpcError SOURCE_MISSING where its bytes are no longer its own; `ExtractError` for a folder that is
    not empty, or a name that the file system takes for another; `OSError` for what the machine cannot
    do. What was written until then is the caller's to remove.
    """
    sources.facts(source_sha256)
    members = sources.members(source_sha256)
    with sources.open(source_sha256) as source:
        lay_out(source, members, destination)


def lay_out(
    source: SourceReader,
    members: Sequence[SourceMember],
    destination: Path,
    there: Sequence[SourceMember] = (),
) -> None:
    """Write members of a verified source; as `unpack`. `there`: those that `destination` holds, alone."""
    root = os.open(destination, FOLDER_FLAGS) if there else open_destination(destination)
    try:
        files = [member for member in members if member.target is None]
        with Descent(root, make=True) as descent:
            descent.made.update(dict.fromkeys(folders_of(there)))
            for folder in sorted({member.path.rpartition("/")[0] for member in members}):
                descent.at(folder)
        in_shares(files, lambda share: _write_some(source, share, root))
        put_links(members, root)
    except FileExistsError as error:
        raise one_name(error) from error
    finally:
        os.close(root)


def folders_of(members: Iterable[SourceMember]) -> set[str]:
    """Every folder on the way to one of them."""
    found: set[str] = set()
    for member in members:
        folder = member.path.rpartition("/")[0]
        while folder and folder not in found:
            found.add(folder)
            folder = folder.rpartition("/")[0]
    return found


def put_links(members: Iterable[SourceMember], root: int) -> None:
    """Make the links among them, whose folders are there."""
    with Descent(root) as descent:
        for member in members:
            if member.target is not None:
                folder, _, name = member.path.rpartition("/")
                os.symlink(member.target, name, dir_fd=descent.at(folder))


def in_shares(files: Sequence[SourceMember], act: Callable[[Sequence[SourceMember]], None]) -> None:
    """Have several threads act on a stretch of them each; on few, none but this one."""
    threads = max(1, min(THREADS, len(files) // _FEW))
    if threads == 1:
        act(files)
        return
    share = -(-len(files) // threads)
    shares = [files[at : at + share] for at in range(0, len(files), share)]
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(act, each) for each in shares]:
            done.result()


def _write_some(source: SourceReader, files: Sequence[SourceMember], root: int) -> None:
    """Write files that stand one after the other; what is read at once holds many small ones."""
    window, start = memoryview(b""), 0
    with Descent(root) as descent:
        for member in files:
            folder, _, name = member.path.rpartition("/")
            mode = 0o755 if member.executable else 0o644
            fd = os.open(name, NEW_FILE, mode, dir_fd=descent.at(folder))
            try:
                os.fchmod(fd, mode)  # whatever the umask
                if member.size > _WINDOW:
                    for piece in source.content(member):
                        _write(fd, memoryview(piece))
                    continue
                begin = member.content - start
                if begin < 0 or begin + member.size > len(window):
                    window, start, begin = (
                        memoryview(source.read_at(member.content, _WINDOW)),
                        member.content,
                        0,
                    )
                    if len(window) < member.size:
                        raise CutShort(f"{member.path!r} ends beyond its source")
                _write(fd, window[begin : begin + member.size])
            finally:
                os.close(fd)


def _write(fd: int, piece: memoryview) -> None:
    while piece:
        piece = piece[os.write(fd, piece) :]
