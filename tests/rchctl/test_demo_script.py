"""`scripts/demo` around the client: what it cleans, passes on and stops. Stubs stand for both programs."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CLIENT = """#!/bin/sh
echo "$* in $PWD with $RCH_HOME socket ${RCH_SOCKET:-default}" >>"$CALLS"
case "$*" in
  verify|"verify --simulate") exit "$CODE" ;;
  "artifacts latest") echo "$RCH_HOME/data/run"; echo "more" ;;
esac
"""


class Demo:
    """A checkout with the script and stubs."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("scripts", "contrib"):
            shutil.copytree(ROOT / name, root / name)
        self.write(".venv/bin/rchctl", CLIENT)
        self.write("tools/swift", "#!/bin/sh\necho Swift\n")

    def write(self, name: str, text: str) -> None:
        """An executable."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)

    def run(self, code: int = 0, *flags: str) -> subprocess.CompletedProcess[str]:
        """The script's end."""
        env = {
            "PATH": f"{self.root}/tools:/usr/bin:/bin",
            "HOME": str(self.root),
            "CALLS": str(self.root / "calls"),
            "CODE": str(code),
        }
        return subprocess.run(
            [self.root / "scripts/demo", *flags],
            env=env,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    @property
    def calls(self) -> list[str]:
        """What the client was asked for."""
        return (self.root / "calls").read_text().splitlines()


@pytest.fixture
def demo(tmp_path: Path) -> Demo:
    return Demo(tmp_path)


@pytest.mark.parametrize("code", [0, 50, 91])
def test_the_demo_ends_as_the_run_does_and_stops_its_daemon(demo: Demo, code: int) -> None:
    result = demo.run(code)
    home = f"{demo.root}/.demo/home"
    assert result.returncode == code, result.stderr
    assert result.stdout.splitlines()[1:3] == [
        f"demo: exit code {code}",
        f"demo: artifacts in {home}/data/run",
    ]
    assert [line.split(" in ")[0] for line in demo.calls] == ["verify", "artifacts latest", "daemon stop"]
    assert demo.calls[0].startswith(f"verify in {demo.root}/.demo/project with {home} ")


def test_a_cancelled_job_is_seen_to_its_end(demo: Demo) -> None:
    assert demo.run(80).returncode == 80
    assert demo.calls[1].startswith("wait --quiet latest ")


def test_a_second_demo_stops_the_first_and_begins_anew(demo: Demo) -> None:
    demo.run()
    (demo.root / ".demo/home").mkdir()
    demo.run()
    assert [line.split(" in ")[0] for line in demo.calls[3:]] == [
        "daemon stop",
        "verify",
        "artifacts latest",
        "daemon stop",
    ]
    assert not (demo.root / ".demo/home").exists()


def test_the_package_is_copied_whole_and_without_products(demo: Demo) -> None:
    (demo.root / "contrib/demo/.build").mkdir()
    demo.run()
    project = demo.root / ".demo/project"
    assert (project / ".rch/xcode.toml").is_file()
    assert (project / "Package.swift").is_file()
    assert not (project / ".build").exists()


def test_a_deep_checkout_gets_a_short_socket_that_goes_away(tmp_path: Path) -> None:
    demo = Demo(tmp_path / ("d" * 90))
    assert demo.run().returncode == 0
    socket = Path(demo.calls[0].partition(" socket ")[2])
    assert len(str(socket)) < 60
    assert not socket.parent.exists()
    assert all(line.endswith(f" socket {socket}") for line in demo.calls)


def test_the_demo_on_stand_ins_takes_the_xcode_project_and_marks_every_line(demo: Demo) -> None:
    result = demo.run(0, "--simulate")
    assert result.returncode == 0, result.stderr
    assert all(line.startswith("simulated: demo: ") for line in result.stdout.splitlines())
    assert demo.calls[0].startswith("verify --simulate in ")
    assert (demo.root / ".demo/project/Lantern.xcodeproj").is_dir()
