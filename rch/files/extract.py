"""The one extractor, for both ends (spec section 5, last rule; faults T1-T3).

It makes regular files, folders and vetted relative links, nothing else, and only below a folder
that was empty. While files are written there is no link in the tree: links are made last, when
every one of them has been followed through all others and found to stay inside.
"""

from __future__ import annotations

import errno
import hashlib
import os
from contextlib import closing
from pathlib import Path

import msgspec

from rch.contract.tar import Member, MemberKind
from rch.contract.tar_names import TarError, shown
from rch.contract.tar_reader import Limits, TarReader
from rch.files.descent import FOLDER_FLAGS, Descent
from rch.files.durable import sync_and_close, sync_file
from rch.files.unzstd import DecodeError, Readable

__all__ = ["NEW_FILE", "ExtractError", "Extracted", "Limits", "extract", "one_name", "open_destination"]

_PIECE = 1 << 20
_OPEN_AT_ONCE = 16  # written files that wait to be synced together
NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class ExtractError(ValueError):
    """The stream is no set that may be unpacked; `reason` is one line."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Extracted(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What was made: `size` and `sha256` of files, `target` of links."""

    path: str
    kind: MemberKind
    size: int = 0
    sha256: str | None = None
    target: str | None = None
    executable: bool = False


def extract(
    stream: Readable,
    destination: Path,
    *,
    limits: Limits,
    canonical: bool,
    durable: bool = False,
) -> list[Extracted]:
    """Unpack the tar in `stream` into `destination`, which is made or is an empty folder.

    `canonical`: a source; only the exact bytes of canonical_tar@1 pass. Otherwise an artifact
    set: folders may be listed, links are refused. Files become 0644 or 0755, folders 0755.
    `durable` syncs every file and folder. Gives what was made: of an artifact set all folders
    first, also those that only stood in a name, then files and links in the order of the tar.

    `ExtractError` for a stream that is refused, a `destination` that is not empty, or a name
    that the file system takes for another; `OSError` for what the machine cannot do. What was
    written until then is the caller's to remove.
    """
    root = open_destination(destination)
    try:
        with Descent(root, make=True, durable=durable) as descent:
            with closing(_Extraction(descent, durable=durable)) as run:
                run.unpack(stream, TarReader(limits=limits, canonical=canonical))
            folders = [] if canonical else [Extracted(path=path, kind="directory") for path in descent.made]
        if durable:
            sync_file(root)
    except (TarError, DecodeError) as error:
        raise ExtractError(str(error)) from error
    except FileExistsError as error:
        raise one_name(error) from error
    finally:
        os.close(root)
    return folders + run.done


def one_name(error: FileExistsError) -> ExtractError:
    """The refusal of a name that the file system takes for one that is there."""
    return ExtractError(f"{shown(str(error.filename))} is one name with another here")


def open_destination(destination: Path) -> int:
    """The descriptor of a folder that is made here or empty; `ExtractError` for anything else."""
    if not os.path.lexists(destination):
        destination.mkdir(mode=0o755)
    try:
        root = os.open(destination, FOLDER_FLAGS)
    except OSError as error:
        if error.errno in {errno.ENOTDIR, errno.ELOOP}:
            raise ExtractError(f"{destination} is no folder") from error
        raise
    with os.scandir(root) as entries:
        empty = next(entries, None) is None
    if not empty:
        os.close(root)
        raise ExtractError(f"{destination} is not empty")
    return root


class _Extraction:
    """One unpacking: the file that is being written, and what is done."""

    def __init__(self, descent: Descent, *, durable: bool) -> None:
        self.done: list[Extracted] = []
        self._descent = descent
        self._durable = durable
        self._member = Member(path="")
        self._fd = -1
        self._unsynced: list[int] = []
        self._left = 0
        self._hash: hashlib._Hash | None = None

    def close(self) -> None:
        """Leave no descriptor open, whatever came of it."""
        fds, self._unsynced = [*self._unsynced, self._fd], []
        for fd in fds:
            if fd >= 0:
                os.close(fd)

    def unpack(self, stream: Readable, reader: TarReader) -> None:
        """Write as the bytes come, then vet and make the links."""
        while data := stream.read(_PIECE):
            for event in reader.feed(data):
                if isinstance(event, Member):
                    self._begin(event)
                else:
                    self._write(event)
        self._sync()
        reader.close()
        for made in self.done:
            if made.target is not None:
                folder, _, name = made.path.rpartition("/")
                os.symlink(made.target, name, dir_fd=self._descent.at(folder))

    def _begin(self, member: Member) -> None:
        if member.kind == "directory":
            self._descent.at(member.path)
        elif member.kind == "symlink":
            self.done.append(Extracted(path=member.path, kind="symlink", target=member.target))
        else:
            folder, _, name = member.path.rpartition("/")
            mode = 0o755 if member.executable else 0o644
            self._fd = os.open(name, NEW_FILE, mode, dir_fd=self._descent.at(folder))
            os.fchmod(self._fd, mode)  # whatever the umask
            self._member, self._left, self._hash = member, member.size, None
            if not member.size:
                self._end()

    def _write(self, piece: memoryview) -> None:
        if self._hash is None:
            self._hash = hashlib.sha256(piece)
        else:
            self._hash.update(piece)
        self._left -= len(piece)
        while piece:
            piece = piece[os.write(self._fd, piece) :]
        if not self._left:
            self._end()

    def _sync(self, at_least: int = 1) -> None:
        """Make durable and close what was written, if it is so many files."""
        if len(self._unsynced) >= at_least:
            fds, self._unsynced = self._unsynced, []
            sync_and_close(fds)

    def _end(self) -> None:
        fd, self._fd = self._fd, -1
        if self._durable:
            self._unsynced.append(fd)
            self._sync(at_least=_OPEN_AT_ONCE)
        else:
            os.close(fd)
        member = self._member
        self.done.append(
            Extracted(
                path=member.path,
                kind="file",
                size=member.size,
                sha256=(self._hash or hashlib.sha256()).hexdigest(),
                executable=member.executable,
            )
        )
