"""The worker's own key, made on first use and kept for its owner's eyes alone (spec section 10).

The file holds the seed and the public key as hex, so that a probe tells the fingerprint without
loading a cipher. Whoever can build on this worker as this user can read it.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import msgspec

from rch.contract.decoding import decode_json
from rch.contract.signing import fingerprint_of, public_key_of
from rch.contract.worker_rpc import Code, RpcError
from rch.files.durable import make_dirs, sync_dir, temp_name, write_atomic

_SEED_BYTES = 32
_MAX_BYTES = 4096


class WorkerKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key as it is kept: 32 bytes each, as hex."""

    seed: str
    public: str

    @property
    def fingerprint(self) -> str:
        """How hosts pin it."""
        return fingerprint_of(bytes.fromhex(self.public))


def worker_key(path: Path) -> WorkerKey:
    """The key at `path`, made if there is none; `RpcError` where the file is none of this user's own."""
    found = _read(path)
    if found is not None:
        return found
    _make(path)
    made = _read(path)
    if made is None:
        raise _unusable(path, "is gone again")
    return made


def _read(path: Path) -> WorkerKey | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unusable(path, f"cannot be read: {error.strerror}") from error
    with os.fdopen(fd, "rb") as file:
        told = os.fstat(file.fileno())
        if not stat.S_ISREG(told.st_mode) or told.st_uid != os.geteuid():
            raise _unusable(path, "is no file of this user")
        if told.st_mode & 0o077:
            mode = stat.S_IMODE(told.st_mode)
            raise _unusable(path, f"can be read by others (mode {mode:04o}): chmod 600")
        data = file.read(_MAX_BYTES)
    try:
        key = decode_json(data, WorkerKey)
        whole = len(bytes.fromhex(key.seed)) == len(bytes.fromhex(key.public)) == _SEED_BYTES
    except (msgspec.MsgspecError, ValueError):
        whole = False
    if not whole:
        raise _unusable(path, "holds no key")
    return key


def _make(path: Path) -> None:
    """A new key under its name, unless another process is quicker: then that one's stands."""
    seed = os.urandom(_SEED_BYTES)
    key = WorkerKey(seed=seed.hex(), public=public_key_of(seed).hex())
    make_dirs(path.parent)
    draft = temp_name(path)
    try:
        write_atomic(draft, msgspec.json.encode(key), mode=0o600)
        os.link(draft, path)
        sync_dir(path.parent)
    except FileExistsError:
        return
    except OSError as error:
        raise _unusable(path, f"cannot be made: {error.strerror}") from error
    finally:
        draft.unlink(missing_ok=True)


def _unusable(path: Path, what: str) -> RpcError:
    return RpcError(Code.INTERNAL, f"the worker's key {path} {what}", {"reason": "worker_key"})
