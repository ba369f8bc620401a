"""The socket's method that asks again for what a run was, or for what failed of it (section 12)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import anyio
import msgspec

from rch.contract import local_api as api
from rch.contract.errors import Failure, Kind
from rch.contract.records import JobIndex, TestSummary, decode_record
from rchd.core import model as m
from rchd.core.ask import step_dir
from rchd.core.plan import again
from rchd.core.rerun import failed_steps, narrowing_to
from rchd.driver import Driver
from rchd.edges.core_rows import decode_run
from rchd.edges.socket import Connection
from rchd.edges.store import StateStore

MAX_SUMMARY_BYTES = 16 << 20

Named = Callable[[str], Awaitable[str]]
Submit = Callable[[api.SubmitParams, Connection], Awaitable[api.RunView]]


class RerunApi:
    """`named` gives the id that a name means, `submit` takes the request as `runs.submit` does."""

    def __init__(
        self, artifacts: Path, driver: Driver, store: StateStore, named: Named, submit: Submit
    ) -> None:
        self._artifacts = artifacts
        self._driver = driver
        self._store = store
        self._named = named
        self._submit = submit

    async def rerun(self, params: api.RerunParams, connection: Connection) -> api.RunView:
        """Of the project's tree as it is now; with `failed` what failed there, by the verified set."""
        run = await self._whole(await self._named(params.run))
        asked = again(run.accepted)
        if params.failed:
            steps = failed_steps(run)
            read = partial(_summaries, self._artifacts, run, steps)
            narrowing = narrowing_to(run, await anyio.to_thread.run_sync(read))
            asked = msgspec.structs.replace(asked, narrowing=narrowing)
        asked = msgspec.structs.replace(
            asked,
            client_token=params.client_token,
            on_disconnect=params.on_disconnect,
            progress=params.progress,
        )
        return await self._submit(asked, connection)

    async def _whole(self, run_id: str) -> m.Run:
        """The run with all that is known of it, from the core or the store."""
        if (run := self._driver.core.runs.get(run_id)) is not None:
            return run
        row = await anyio.to_thread.run_sync(self._store.run, run_id)
        if row is None:
            raise Failure(Kind.USAGE, f"run {run_id} is not accepted yet", subkind="UNKNOWN_RUN")
        return decode_run(row.doc)


def _summaries(artifacts: Path, run: m.Run, steps: list[int]) -> dict[int, TestSummary]:
    """What the tests of these steps said; `Failure` USAGE where there is no such file."""
    found = {}
    for index in steps:
        folder = artifacts / step_dir(run, index)
        try:
            named = decode_record(_read(folder / "job_index.json"), JobIndex).files.get("test_summary")
            if named is None or Path(named).name != named:
                raise FileNotFoundError(2, "the job's index names no test_summary")
            found[index] = decode_record(_read(folder / named), TestSummary)
        except (OSError, ValueError, Failure) as error:
            why = (error.strerror if isinstance(error, OSError) else None) or error
            action = run.accepted.steps[index].action
            raise Failure(
                Kind.USAGE,
                f"rerun --failed: what failed in step {action} of run {run.run_id} cannot be read: {why}",
                hint=f"rchctl rerun {run.run_id}; a run of artifact_profile rich keeps the list",
            ) from error
    return found


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(MAX_SUMMARY_BYTES + 1)
    if len(data) > MAX_SUMMARY_BYTES:
        raise ValueError(f"{path.name} is over {MAX_SUMMARY_BYTES} bytes")
    return data
