"""A scripted worker that takes uploads in parts, its own way if the scenario has one.

`command(scenario, file)` runs it as a program. What came lies in the file.
"""

from __future__ import annotations

import sys
from pathlib import Path

from support.fake_worker import FEATURES, FakeWorker, Request


class PartsWorker(FakeWorker):
    """Without a scenario's quirk it keeps parts as it should, and believes every digest."""

    def __init__(self, scenario: str, arguments: list[str]) -> None:
        super().__init__(sys.stdin.buffer, sys.stdout.buffer, scenario, arguments)
        self.features = [*FEATURES, "upload_resumable"]
        self.place = Path(arguments[0])

    @property
    def size(self) -> int:
        """How much is there."""
        return self.place.stat().st_size if self.place.exists() else 0

    def do_upload_source(self, request: Request) -> None:
        payload = request["payload"]
        body = self.source.read(payload["stream"]["content_length"])
        resume = payload.get("resume")
        if resume is None:
            self.place.write_bytes(body)
            self.reply(request, payload={"stored": True})
        elif resume["offset"] != self.size and body:
            self.refuse(request, "INVALID_REQUEST", reason="offset", next_offset=self.size)
        else:
            with self.place.open("ab") as file:
                file.write(body)
            if resume["last"]:
                self.reply(request, payload={"stored": True})
            else:
                self.reply(request, payload={"stored": False, "next_offset": self.size})

    # --- other ways -----------------------------------------------------------------------

    def beyond_upload_source(self, request: Request) -> None:
        self.reply(request, payload={"stored": False, "next_offset": 1 << 40})

    def says_nothing_upload_source(self, request: Request) -> None:
        self.reply(request, payload={"stored": False})

    def stuck_upload_source(self, request: Request) -> None:
        """Takes everything and stays where it was."""
        self.source.read(request["payload"]["stream"]["content_length"])
        self.reply(request, payload={"stored": False, "next_offset": 0})

    def always_corrects_upload_source(self, request: Request) -> None:
        """Is never where the host thinks."""
        self.source.read(request["payload"]["stream"]["content_length"])
        there = request["payload"]["resume"]["offset"] ^ 1
        if request["payload"]["stream"]["content_length"]:
            self.refuse(request, "INVALID_REQUEST", reason="offset", next_offset=there)
        else:
            self.reply(request, payload={"stored": False, "next_offset": 0})

    def loses_upload_source(self, request: Request) -> None:
        """Loses what it had, once, when it has two parts or more."""
        mark = self.place.with_suffix(".lost")
        if not mark.exists() and request["payload"]["resume"]["offset"] and self.size:
            mark.touch()
            self.place.unlink()
        self.do_upload_source(request)

    def no_room_upload_source(self, request: Request) -> None:
        """Takes parts from nobody just now."""
        if "resume" in request["payload"]:
            self.source.read(request["payload"]["stream"]["content_length"])
            self.refuse(request, "FEATURE_MISSING", reason="too_many_parts")
        else:
            self.do_upload_source(request)


_BOOT = "import sys; sys.path.insert(0, sys.argv.pop(1)); from support.fake_parts import main; main()"


def command(scenario: str, file: Path) -> tuple[str, ...]:
    """The argv that runs a scenario."""
    return (sys.executable, "-E", "-c", _BOOT, str(Path(__file__).parents[1]), scenario, str(file))


def main() -> None:
    """Follow the scenario that the arguments name."""
    sys.exit(PartsWorker(sys.argv[1], sys.argv[2:]).run())
