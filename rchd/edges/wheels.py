"""Wheels of what is installed here: the agent's own, and those of the libraries that it needs.

A wheel is a zip with a list of its files, and what is installed has that list: so both are made without a
network and without the tools that build packages, from a checkout as from an installation.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import rch
from rch.contract.decoding import decode_json
from rch.contract.errors import Failure, Kind

NEEDS = ("junitparser>=3.2", "msgspec>=0.19", "pynacl>=1.5", "rfc8785>=0.1.4", "zstandard>=0.22")
"""What the agent imports beside the standard library: what pyproject.toml has for all and as `worker`."""
AGENT = "rch-worker"
PACKAGES = ("rch", "worker_agent")
_EPOCH = (1980, 1, 1, 0, 0, 0)
_NOT_TAKEN = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json"}
_NAME = re.compile(r"[A-Za-z0-9._-]+")


class Wheel(NamedTuple):
    """`name` is the file's, which says for which Pythons and systems it is; `digest` is over its files."""

    name: str
    data: bytes
    digest: str


class Machine(NamedTuple):
    """For whom a wheel would be: `system` and `machine` as uname has them, `python` is `3.11`."""

    system: str
    machine: str
    python: str
    libc: str


def agent_wheel() -> Wheel:
    """`rch` and `worker_agent` as they lie here, as the distribution `rch-worker`, for any system."""
    info = f"rch_worker-{rch.__version__}.dist-info"
    files = {name: path.read_bytes() for name, path in sorted(_sources())}
    needs = "".join(f"Requires-Dist: {each}\n" for each in NEEDS)
    files[f"{info}/METADATA"] = (
        f"Metadata-Version: 2.1\nName: {AGENT}\nVersion: {rch.__version__}\n"
        f"Summary: The worker of rch.\nRequires-Python: >=3.11\n{needs}"
    ).encode()
    files[f"{info}/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: rch\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    files[f"{info}/entry_points.txt"] = b"[console_scripts]\nrch-worker = worker_agent.__main__:main\n"
    return _wheel(f"rch_worker-{rch.__version__}-py3-none-any.whl", info, files)


def _sources() -> Iterator[tuple[str, Path]]:
    for package in PACKAGES:
        spec = find_spec(package)  # finds it, and imports nothing
        if spec is None or spec.origin is None:
            raise Failure(
                Kind.CONFIG, f"the package {package} is not installed here", hint="install rch anew"
            )
        top = Path(spec.origin).parent
        for path in top.rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc":
                yield f"{package}/{path.relative_to(top).as_posix()}", path


def needed(there: Machine, here: Machine) -> list[Wheel]:
    """Wheels of the libraries, with all that these need, as far as they are made for `there`."""
    found = [each for each in _closure(NEEDS) if _fits(_tags(each), there, here)]
    return [wheel for each in found if (wheel := repacked(each)) is not None]


def _closure(needs: Iterable[str]) -> list[Distribution]:
    """What is installed of `needs`, and of what that needs; what is too much of it does no harm."""
    found: dict[str, Distribution] = {}
    left = list(needs)
    while left:
        need = left.pop()
        name = _NAME.match(need)
        if name is None or "extra ==" in need or (key := _normal(name[0])) in found:
            continue
        try:
            found[key] = distribution(key)
        except PackageNotFoundError:
            continue
        left += found[key].requires or ()
    return [found[key] for key in sorted(found)]


def repacked(installed: Distribution) -> Wheel | None:
    """The wheel from which it was installed; None where that cannot be told, as of an editable one."""
    name, files = _normal(installed.metadata["Name"]).replace("-", "_"), {}
    if _is_editable(installed):
        return None
    info = ""
    for entry in installed.files or ():
        parts = entry.parts
        if entry.is_absolute() or ".." in parts or "__pycache__" in parts:
            continue  # scripts, which are made anew there, and what was compiled here
        if parts[0].endswith(".dist-info"):
            info = parts[0]
            if len(parts) == 2 and parts[1] in _NOT_TAKEN:
                continue
        try:
            files[entry.as_posix()] = Path(str(installed.locate_file(entry))).read_bytes()
        except OSError:
            return None
    tags = [tag.split("-") for tag in _tags(installed)]
    if not tags or not info:
        return None
    compressed = "-".join(".".join(dict.fromkeys(column)) for column in zip(*tags, strict=True))
    return _wheel(f"{name}-{installed.version}-{compressed}.whl", info, files)


def _is_editable(installed: Distribution) -> bool:
    text = installed.read_text("direct_url.json")
    return text is not None and bool(decode_json(text).get("dir_info", {}).get("editable"))


def _tags(installed: Distribution) -> list[str]:
    """`PYTHON-ABI-SYSTEM` each; none where its installer kept no such list."""
    lines = (installed.read_text("WHEEL") or "").splitlines()
    return [line.partition(":")[2].strip() for line in lines if line.startswith("Tag:")]


def _fits(tags: list[str], there: Machine, here: Machine) -> bool:
    """Whether it is worth sending; pip there has the last word.

    What runs here and is no pure Python runs there on the same system, machine and kind of C library.
    """
    if any(tag.startswith("py") and tag.endswith("-none-any") for tag in tags):
        return True
    if (there.system, there.machine) != (here.system, here.machine):
        return False
    if there.libc.partition(" ")[0] != here.libc.partition(" ")[0]:
        return False
    return there.python == here.python or any("-abi3-" in tag for tag in tags)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _wheel(name: str, info: str, files: Mapping[str, bytes]) -> Wheel:
    """The zip with its list; equal files make an equal one."""
    rows = [f"{path},sha256={_digest(data)},{len(data)}" for path, data in sorted(files.items())]
    record = "\n".join([*rows, f"{info}/RECORD,,"]) + "\n"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in [*sorted(files.items()), (f"{info}/RECORD", record.encode())]:
            entry = zipfile.ZipInfo(path, _EPOCH)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o100644 << 16
            archive.writestr(entry, data, compresslevel=1)  # it goes over the line once, and is waited for
    return Wheel(name, buffer.getvalue(), hashlib.sha256(record.encode()).hexdigest())


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
