"""What the daemon does of a set-up when a step fails, with the far end played."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from rch.contract.errors import Failure, Kind
from rch.contract.local_door import AddressParams, TryView
from rch.contract.local_setup import InstallParams, LookParams
from rchd import api_setup
from rchd.api_setup import SetupApi
from rchd.edges.landing_site import Site, command
from rchd.edges.ssh_transport import SessionRefused
from rchd.edges.wheels import Wheel

pytestmark = pytest.mark.spec("3.1")

OWN = "SHA256:" + "ab" * 32
ADDRESS = AddressParams(name="mini", host="mini.example")
INSTALL = InstallParams(login=ADDRESS, probe=ADDRESS, key="ssh-ed25519 AAAA", line="restrict,…")


class Machine:
    """The far end: what is installed there, which Pythons it has, and whether a probe is answered."""

    def __init__(self) -> None:
        self.current: str | None = None
        self.installed: list[str] = []
        like = {"venv": True, "machine": "arm64", "libc": ""}
        self.pythons: list[dict[str, Any]] = [
            {"path": "/usr/bin/python3", "version": [3, 9, 6], **like},
            {"path": "/opt/python3.13", "version": [3, 13, 1], **like},
        ]
        self.answer: Failure | str = OWN
        self.steps: list[tuple[str, str]] = []
        self.sent: list[str] = []

    async def call(self, op: str, request: dict[str, Any], *, python: str, **more: Any) -> dict[str, Any]:
        self.steps.append((op, python))
        match op:
            case "look":
                facts = {"home": "/h", "system": "Darwin", "release": "macOS 15", "machine": "arm64"}
                facts |= {"hostname": "mini", "base": "/h/agent", "key": "absent"}
                found = {"pythons": self.pythons, "installed": self.installed, "current": self.current}
                return {**facts, "disk_free_bytes": 1, **found}
            case "install":
                self.sent = [wheel["name"] for wheel in request["wheels"]]
                assert [wheel.name for wheel in more["wheels"]] == self.sent
                made = request["build"] not in self.installed
                self.installed += [request["build"]] * made
                return {"made": made, "own": OWN}
            case "switch":
                before, self.current = self.current, request["build"]
                return {"before": before}
            case "authorize":
                return {"changed": True}
        return {"removed": [], "used": []}

    async def tried(self, _params: AddressParams, _connection: Any) -> TryView:
        if isinstance(self.answer, Failure):
            raise self.answer
        return TryView(probe={"capabilities": {"attestation_pubkey_fingerprint": self.answer}}, probe_ms=1)


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine()
    agent = Wheel("rch_worker-0.1.0-py3-none-any.whl", b"agent", "f" * 64)
    monkeypatch.setattr(api_setup, "agent_wheel", lambda: agent)

    @asynccontextmanager
    async def site(_self: SetupApi, _login: AddressParams) -> AsyncIterator[Machine]:
        yield machine

    monkeypatch.setattr(SetupApi, "_site", site)
    return machine


def setup_of(far: Machine, tmp_path: Path) -> SetupApi:
    parts: Any = None
    door: Any = far
    return SetupApi(
        tmp_path / "none.toml", door=door, pool=parts, prober=parts, driver=parts, agent=lambda: None
    )


async def test_the_newest_python_that_will_do_carries_it_and_what_fits_is_sent(
    far: Machine, tmp_path: Path
) -> None:
    made: Any = await setup_of(far, tmp_path).installed(INSTALL, parts())
    assert (made.made, made.before, made.own) == (True, None, OWN)
    assert [op for op, _ in far.steps] == ["look", "install", "authorize", "switch", "switch", "prune"]
    assert {python for op, python in far.steps if op != "look"} == {"/opt/python3.13"}
    assert all(name.endswith("-none-any.whl") for name in far.sent), "nothing of Linux goes to a Mac"
    assert far.sent[-1] == "rch_worker-0.1.0-py3-none-any.whl"


async def test_a_new_version_that_does_not_answer_is_taken_back(far: Machine, tmp_path: Path) -> None:
    far.current, far.installed = "0.0.9-old", ["0.0.9-old"]
    far.answer = Failure(Kind.EXECUTOR, "no JSON", subkind="PROTOCOL_ERROR")
    with pytest.raises(Failure, match=r"no JSON; version 0\.0\.9-old is in force again") as caught:
        await setup_of(far, tmp_path).installed(INSTALL, parts())
    assert caught.value.exit_code == 40
    assert far.current == "0.0.9-old"
    assert far.steps[-1][0] == "switch", "and nothing is removed"


async def test_one_that_answers_with_another_key_is_not_who_was_set_up(
    far: Machine, tmp_path: Path
) -> None:
    far.current, far.installed, far.answer = "0.0.9-old", ["0.0.9-old"], "SHA256:another"
    with pytest.raises(Failure, match="answers with the key SHA256:another") as caught:
        await setup_of(far, tmp_path).installed(INSTALL, parts())
    assert (caught.value.exit_code, far.current) == (93, "0.0.9-old")


async def test_a_version_that_is_there_is_sent_no_more(far: Machine, tmp_path: Path) -> None:
    first = await setup_of(far, tmp_path).installed(INSTALL, parts())
    far.answer = Failure(Kind.SSH, "cut")
    with pytest.raises(Failure, match=r"^cut$"):
        await setup_of(far, tmp_path).installed(INSTALL, parts())
    assert (far.sent, far.current) == ([], first.build), "there is nothing to go back to"


@pytest.mark.parametrize(("venv", "hint"), [(False, "apt-get install python3-venv"), (True, "install one")])
async def test_a_machine_without_a_python_that_will_do_says_what_it_has(
    far: Machine, tmp_path: Path, *, venv: bool, hint: str
) -> None:
    far.pythons[1] |= {"venv": venv, "version": [3, 13, 1] if not venv else [3, 10, 0]}
    looked = await setup_of(far, tmp_path).looked(LookParams(login=ADDRESS), parts())
    assert looked.python is None
    with pytest.raises(Failure, match=r"/usr/bin/python3 \(3\.9\.6\)") as caught:
        await setup_of(far, tmp_path).installed(INSTALL, parts())
    assert hint in caught.value.hint
    assert caught.value.label == "SSH / SETUP"


async def test_wheels_of_a_folder_go_before_those_of_this_machine(far: Machine, tmp_path: Path) -> None:
    from msgspec.structs import replace

    (tmp_path / "wheels").mkdir()
    wanted = replace(INSTALL, wheels=str(tmp_path / "wheels"))
    with pytest.raises(Failure, match="holds no wheel"):
        await setup_of(far, tmp_path).installed(wanted, parts())
    (tmp_path / "wheels" / "msgspec-9-cp313-cp313-macosx_11_0_arm64.whl").write_bytes(b"x")
    await setup_of(far, tmp_path).installed(wanted, parts())
    assert "msgspec-9-cp313-cp313-macosx_11_0_arm64.whl" in far.sent


# --- what is heard --------------------------------------------------------------------------


def heard(said: bytes, status: int | None = 0, errors: str = "") -> Any:
    connection: Any = None
    return Site("mini", connection)._answer("install", "T0KEN", said, status, errors)


async def test_a_line_that_is_gone_between_two_steps_is_told_as_such() -> None:
    class Gone:
        async def open_session(self, _command: str, _released: Any) -> Any:
            raise SessionRefused("not connected")

    connection: Any = Gone()
    with pytest.raises(Failure, match="switch: the line was cut: not connected") as caught:
        await Site("mini", connection).call("switch", {}, python="python3", seconds=1)
    assert caught.value.label == "SSH / UNREACHABLE"


def test_the_word_is_found_whatever_else_a_shell_prints() -> None:
    noise = b"Welcome!\n\xff\xfe T0KE\nT0KEN not json\nT0KEN []\nlast"
    assert heard(noise + b'T0KEN {"done": {"a": 1}}\nbye\n') == {"a": 1}


@pytest.mark.parametrize(
    ("said", "status", "errors", "message"),
    [
        (b"", 127, "sh: python3: not found", "no Python was started there: sh: python3: not found"),
        (b'{"protocol_version":0,"ok":false}\n', 0, "", "runs rch-worker and opens no shell"),
        (b'T0KEN {"step": "venv"}\n', None, "", "mini: venv: the line was cut"),
        (b"This account is not available.\n", 1, "", "it ended with 1: This account is not available."),
        (
            b'T0KEN {"failed": ["venv", "it \\u001b[2J ended", null, "a\\nb\\u202e"]}\n',
            0,
            "",
            "mini: venv: it  ended: a b",
        ),
    ],
)
def test_what_went_wrong_there_is_one_harmless_line(
    said: bytes, status: int | None, errors: str, message: str
) -> None:
    with pytest.raises(Failure) as caught:
        heard(said, status, errors)
    assert message in caught.value.message
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 2000


@pytest.mark.parametrize("bad", ["/opt/my python", "python3; rm", "$(x)", "a'b", ""])
def test_a_path_that_a_shell_might_read_otherwise_is_refused(bad: str) -> None:
    with pytest.raises(Failure, match="is no plain path"):
        command(bad)


def parts() -> Any:
    """A connection that nobody looks at."""
    return None
