"""`rchctl demo` around the client: what it cleans, passes on and stops. A stub stands for the client."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.cli import Cli
from support.until import until

from rch.contract.errors import Failure
from rchctl import demo as demos
from rchctl.demo import Demo, find_swift

CLIENT = """#!/bin/sh
swift=$(command -v swift || echo none)
echo "$* in $PWD with $RCH_HOME socket ${RCH_SOCKET:-default} swift $swift" >>"$CALLS"
case "$*" in
  verify|"verify --simulate") exit "$CODE" ;;
  "artifacts latest") echo "$RCH_HOME/data/run"; echo "more" ;;
  "daemon stop") exit "$STOP" ;;
esac
"""


class Stage:
    """A place with a stub of the client and of Swift."""

    def __init__(self, root: Path, deep: str = "") -> None:
        self.root, self.said = root, list[str]()
        self.folder = root / deep / "demo"
        self.client, self.swift = root / "client", root / "tools/swift"
        for path, text in ((self.client, CLIENT), (self.swift, "#!/bin/sh\necho Swift\n")):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            path.chmod(0o755)

    def run(self, code: int = 0, *, stop: int = 0, swift: bool = True) -> int:
        """The demo's end."""
        env = {
            "PATH": "/usr/bin:/bin",
            "CALLS": str(self.root / "calls"),
            "CODE": str(code),
            "STOP": str(stop),
        }
        return Demo(
            folder=self.folder,
            client=[str(self.client)],
            env={**env, "RCH_SOCKET": "/never/s", "RCH_RCHD": "never"},
            swift=self.swift if swift else None,
            say=self.said.append,
        ).run()

    @property
    def calls(self) -> list[str]:
        """What the client was asked for."""
        return (self.root / "calls").read_text().splitlines()

    @property
    def words(self) -> list[str]:
        """The same without its circumstances."""
        return [line.split(" in ")[0] for line in self.calls]


@pytest.fixture
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    return Stage(tmp_path_factory.mktemp("d"))  # so short a path that its socket may lie there


@pytest.mark.parametrize("code", [0, 50, 91])
def test_the_demo_ends_as_the_run_does_and_stops_its_daemon(stage: Stage, code: int) -> None:
    assert stage.run(code) == code
    home = f"{stage.folder}/home"
    assert stage.said[1:3] == [f"exit code {code}", f"artifacts in {home}/data/run"]
    assert stage.words == ["verify", "artifacts latest", "daemon stop"]
    begin = f"verify in {stage.folder}/project with {home} socket default swift {stage.swift}"
    assert stage.calls[0] == begin


def test_a_cancelled_job_is_seen_to_its_end(stage: Stage) -> None:
    assert stage.run(80) == 80
    assert stage.words[1] == "wait --quiet latest"


def test_a_second_demo_stops_the_first_and_begins_anew(stage: Stage) -> None:
    stage.run()
    (stage.folder / "home").mkdir()
    stage.run()
    assert stage.words[3:] == ["daemon stop", "verify", "artifacts latest", "daemon stop"]
    assert not (stage.folder / "home").exists()


def test_an_earlier_daemon_that_does_not_stop_keeps_its_home(stage: Stage) -> None:
    stage.run()
    (stage.folder / "home").mkdir()
    with pytest.raises(Failure, match="does not stop"):
        stage.run(stop=4)
    assert (stage.folder / "home").exists()


def test_a_folder_that_no_demo_has_made_is_left_alone(stage: Stage) -> None:
    stage.folder.mkdir(parents=True)
    (stage.folder / "thesis.txt").write_text("years")
    with pytest.raises(Failure, match="no demo has made"):
        stage.run()
    assert [each.name for each in stage.folder.iterdir()] == ["thesis.txt"]


def test_the_package_is_copied_whole_and_without_products(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(demos.PROJECTS, tmp_path / "projects")
    (tmp_path / "projects/package/.build").mkdir()
    monkeypatch.setattr(demos, "PROJECTS", tmp_path / "projects")
    stage.run()
    project = stage.folder / "project"
    assert (project / ".rch/xcode.toml").is_file()
    assert (project / "Package.swift").is_file()
    assert not (project / ".build").exists()


def test_a_deep_folder_gets_a_short_socket_that_goes_away(tmp_path: Path) -> None:
    stage = Stage(tmp_path, "d" * 90)
    assert stage.run() == 0
    socket = Path(stage.calls[0].partition(" socket ")[2].partition(" swift ")[0])
    assert len(str(socket)) < 60
    assert not socket.parent.exists()
    assert all(f" socket {socket} " in line for line in stage.calls)


def test_without_a_toolchain_it_takes_the_xcode_project(stage: Stage) -> None:
    assert stage.run(swift=False) == 0
    assert stage.words[0] == "verify --simulate"
    assert (stage.folder / "project/Lantern.xcodeproj").is_dir()


def test_a_swift_that_does_not_run_is_none(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demos, "_USUAL", ("~/mine/swift",))
    env = {"PATH": str(stage.swift.parent), "HOME": str(stage.root)}
    assert find_swift(env) == stage.swift
    stage.swift.write_text("#!/bin/sh\nexit 1\n")
    assert find_swift(env) is None
    mine = stage.root / "mine/swift"
    mine.parent.mkdir()
    shutil.copy(stage.client, mine)
    assert find_swift({**env, "CALLS": "/dev/null"}) == mine


def test_a_demo_that_is_told_to_end_stops_its_daemon_first(stage: Stage) -> None:
    text = CLIENT.replace('exit "$CODE"', "exec sleep 60")
    stage.client.write_text(text)
    code = (
        "import os, sys; from pathlib import Path; from rchctl.demo import Demo\n"
        "sys.exit(Demo(Path(sys.argv[1]), [sys.argv[2]], os.environ, None, print).run())"
    )
    calls = stage.root / "calls"
    env = {"PATH": "/usr/bin:/bin", "CALLS": str(calls), "STOP": "0"}
    argv = [sys.executable, "-c", code, str(stage.folder), str(stage.client)]
    with subprocess.Popen(argv, env=env, stdout=subprocess.DEVNULL) as process:
        until(lambda: calls.exists() and calls.read_text() != "")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 128 + signal.SIGTERM
    assert stage.words == ["verify --simulate", "daemon stop"]


def test_the_verb_marks_every_line_of_a_simulation_and_uses_the_state_folder(tmp_path: Path) -> None:
    cli = Cli(tmp_path)
    done = cli("demo", "--simulate", "--json")
    assert done.returncode == 2
    held = tmp_path / "state/demo"
    held.mkdir(parents=True)
    (held / "mine").touch()
    done = cli("demo", "--simulate")
    assert (done.returncode, "no demo has made" in done.stderr) == (2, True)
    assert str(held) in done.stderr
