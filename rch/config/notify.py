"""`[notify]`: what is told at the end of a run, to whom. The host's own `config.toml` alone says it.

A checkout that could name a command would run it on the machine of whoever verifies it.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from rch.config.schema import Table

Words = tuple[Annotated[str, Meta(min_length=1, max_length=4096)], ...]


class Notify(Table, frozen=True, kw_only=True):
    """Whether and how the end of a run is told. `command` is an argv, never given to a shell.

    `when`: of every run, or of those that failed; `finished_after_seconds`: of those alone that took so
    long. The command is ended after `timeout_seconds`.
    """

    command: Words = ()
    desktop: bool = False
    when: Literal["always", "failure"] = "always"
    finished_after_seconds: Annotated[int, Meta(ge=0, le=86_400)] = 0
    timeout_seconds: Annotated[int, Meta(ge=1, le=300)] = 10

    def wants(self, state: str, duration_ms: int | None) -> bool:
        """Whether the end of a run in `state` is told; a cancelled run did not fail."""
        if not (self.command or self.desktop) or (self.when == "failure" and state != "FAILED"):
            return False
        return (duration_ms or 0) >= self.finished_after_seconds * 1000
