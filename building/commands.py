"""Setuptools' commands with our ways: pages are made for a wheel, and equal sources give equal bytes.

`SOURCE_DATE_EPOCH` is the time of every file in a package; without it, that of pyproject.toml is.
"""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from distutils.command.install_data import install_data
from pathlib import Path
from typing import Any

from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.sdist import sdist

from building.content import ROOT, documents
from building.pages import made_files

_MADE = {"__pycache__", ".build", ".swiftpm", ".DS_Store"}


def source_epoch() -> int:
    """The time that a package bears, in seconds."""
    return int(os.environ.get("SOURCE_DATE_EPOCH") or (ROOT / "pyproject.toml").stat().st_mtime)


class InstallData(install_data):
    """Adds what is made of the parsers, and the documents; an editable installation has neither."""

    def run(self) -> None:
        """Make the files below build/, and install them with the others."""
        if "editable_wheel" not in self.distribution.command_obj:
            made = Path(self.get_finalized_command("build").build_base) / "made"
            for place, text in made_files(self.distribution, source_epoch()):
                path = made / place
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
                self.data_files.append((str(Path(place).parent), [str(path)]))
            self.data_files += [(folder, [name]) for name, folder in documents()]
        super().run()


class BdistWheel(bdist_wheel):  # type: ignore[misc]  # setuptools brings no types
    """A wheel that tells nothing of the umask and the clock under which it was made."""

    def run(self) -> None:
        """As setuptools; a time that nobody gave is that of the sources."""
        os.environ.setdefault("SOURCE_DATE_EPOCH", str(source_epoch()))
        super().run()

    def write_wheelfile(self, *args: Any, **options: Any) -> None:
        """Called when all else is in place: modes become those that git keeps."""
        super().write_wheelfile(*args, **options)
        for path in Path(self.bdist_dir).rglob("*"):
            path.chmod(_mode(path.stat().st_mode, is_folder=path.is_dir()))


class Sdist(sdist):  # type: ignore[misc]  # as above
    """A tar archive without owners, sorted, all of one time."""

    def make_release_tree(self, base_dir: str, files: list[str]) -> None:
        """As setuptools, without what was made here."""
        super().make_release_tree(base_dir, [each for each in files if not _MADE & set(Path(each).parts)])
        for path in sorted(
            Path("tests").rglob("*")
        ):  # a worker's marks, which setuptools takes for no files
            if path.is_symlink() and not path.exists() and not _MADE & set(path.parts):
                to = Path(base_dir) / path
                to.parent.mkdir(parents=True, exist_ok=True)
                to.symlink_to(path.readlink())

    def make_archive(self, base_name: str, format: str, root_dir: Any = None, *args: Any, **kw: Any) -> str:  # noqa: A002  (setuptools' name)
        """`base_name`.tar.gz of the folder of that name, which setuptools has filled."""
        if format != "gztar":
            return str(super().make_archive(base_name, format, root_dir, *args, **kw))
        out, top = Path(f"{base_name}.tar.gz"), Path(base_name).name
        epoch, buffer = source_epoch(), io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for path in (Path(top), *sorted(Path(top).rglob("*"))):
                entry = archive.gettarinfo(path)
                entry.mtime, entry.uid, entry.gid, entry.uname, entry.gname = epoch, 0, 0, "", ""
                entry.mode = _mode(entry.mode, is_folder=entry.isdir())
                if entry.islnk():  # setuptools links where it can
                    entry.type, entry.linkname, entry.size = tarfile.REGTYPE, "", path.stat().st_size
                if entry.isreg():
                    with path.open("rb") as file:
                        archive.addfile(entry, file)
                else:
                    archive.addfile(entry)
        out.parent.mkdir(parents=True, exist_ok=True)
        with out.open("wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=epoch) as packed:
            packed.write(buffer.getvalue())
        return str(out)


def _mode(mode: int, *, is_folder: bool) -> int:
    return 0o755 if is_folder or mode & 0o100 else 0o644


COMMANDS = {"install_data": InstallData, "bdist_wheel": BdistWheel, "sdist": Sdist}
