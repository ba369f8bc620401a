"""The wheel in an empty venv: what each extra brings, and what is said where one was left out."""

from __future__ import annotations

import json
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from support.installed import Installed, has, packages
from support.lab import REPO

import rch
from rch.contract.extras import DISTRIBUTION, EXTRAS, Origin, lacking, read_origin

PROJECT = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packages(tmp_path_factory)[0]


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Iterator[Installed]:
    installed = Installed(tmp_path_factory.mktemp("host"), wheel, "host")
    yield installed
    installed("rchctl", "daemon", "stop")


def test_all_programs_tell_the_one_version(host: Installed) -> None:
    told = {name: host(name, "--version").stdout.split() for name in PROJECT["scripts"]}
    assert {name: words[:2] for name, words in told.items()} == {
        name: [name, rch.__version__] for name in PROJECT["scripts"]
    }


def test_the_demo_runs_from_the_wheel_on_its_own_stand_ins(host: Installed) -> None:
    done = host("rchctl", "demo", "--simulate")
    assert done.returncode == 0, done.stderr
    assert "SIMULATED: passed" in done.stdout
    demo = host.home / ".local/state/rch/demo"
    assert (demo / "project/Lantern.xcodeproj").is_dir()
    assert list(demo.glob("home/data/artifacts/xcode/*/run_index.json"))


def test_a_service_is_written_by_the_wheel(host: Installed) -> None:
    done = host("rchctl", "daemon", "install", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert str(host.top / "bin") in done.stdout


def test_bash_completes_by_the_file_that_is_installed(host: Installed) -> None:
    script = host.top / "share/bash-completion/completions/rchctl"
    asks = (
        f'. "{script}"; COMP_WORDS=(rchctl veri); COMP_CWORD=1; set -- $(complete -p rchctl);'
        ' while [ "$1" != -F ]; do shift; done; "$2" rchctl veri rchctl; echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", asks], env=host.environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["verify"], done.stderr


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_read_theirs(host: Installed, shell: str) -> None:
    if not has(shell):
        pytest.skip(f"no {shell} on this machine")
    place = {"zsh": "zsh/site-functions/_rchctl", "fish": "fish/vendor_completions.d/rchctl.fish"}[shell]
    argv = [shell, "-n", str(host.top / "share" / place)]
    done = subprocess.run(argv, env=host.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_man_finds_the_pages_of_the_prefix(host: Installed) -> None:
    if not has("man"):
        pytest.skip("no man on this machine")
    argv = ["man", "-M", str(host.top / "share/man"), "rchctl-verify"]
    done = subprocess.run(argv, env=host.environment, capture_output=True, text=True, check=False)
    assert "on a worker; exit with the verdict" in " ".join(done.stdout.split()), done.stderr


_IMPORT_ALL = """
import importlib, pkgutil, rch, sys, worker_agent
for package in (rch, worker_agent):
    for each in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not each.name.endswith("__main__"):
            importlib.import_module(each.name)
import nacl.signing, junitparser.xunit2
print(*{name.partition(".")[0] for name in sys.modules})
"""


def test_a_worker_has_all_that_it_imports_and_nothing_of_the_host(wheel: Path, tmp_path: Path) -> None:
    worker = Installed(tmp_path, wheel, "worker")
    here = {path.name for path in worker.site.iterdir()}
    assert not here & set(EXTRAS["host"])
    done = worker("python", "-c", _IMPORT_ALL)
    assert done.returncode == 0, done.stderr
    assert not set(done.stdout.split()) & {*EXTRAS["host"], *EXTRAS["tui"]}
    asked = {"api_version": "1", "id": "1", "op": "probe"}
    answer = worker("rch-worker", "xcode", "rpc", stdin=f"{json.dumps(asked)}\n")
    assert answer.stdout.startswith("{"), answer.stderr


def test_an_extra_that_was_left_out_is_told_with_what_brings_it(wheel: Path, tmp_path: Path) -> None:
    bare = Installed(tmp_path, wheel)
    no_daemon = bare("rchctl", "status")
    assert no_daemon.returncode == 4
    assert "rchd needs the package anyio" in no_daemon.stderr
    assert no_daemon.stderr.rstrip().endswith(f"hint: pip install '{wheel}[host]'")
    for verb in ("check", "run"):
        assert f"pip install '{wheel}[host]'" in bare("rchd", verb).stderr
    no_screen = bare("rchctl", "top")
    assert (no_screen.returncode, f"pip install '{wheel}[tui]'" in no_screen.stderr) == (2, True), no_screen
    no_script = bare("rchctl", "completion", "bash")
    assert (no_script.returncode, f"pip install '{wheel}[host]'" in no_script.stderr) == (2, True)
    no_worker = bare("rch-worker", "xcode", "rpc")
    assert (no_worker.returncode, f"pip install '{wheel}[worker]'" in no_worker.stderr) == (1, True)


_IMPORT_CONFORMANCE = """
import importlib, pkgutil, rch_conformance
for each in pkgutil.walk_packages(rch_conformance.__path__, "rch_conformance."):
    if not each.name.endswith("__main__"):
        importlib.import_module(each.name)
"""


def test_whoever_implements_a_worker_needs_no_extra(wheel: Path, tmp_path: Path) -> None:
    bare = Installed(tmp_path, wheel)
    assert not {*EXTRAS["host"], *EXTRAS["worker"]} & {path.name for path in bare.site.iterdir()}
    every = bare("python", "-c", _IMPORT_CONFORMANCE)
    assert every.returncode == 0, every.stderr
    listed = bare("rch-conformance", "worker", "--list")
    assert (listed.returncode, "seq-rises-by-one" in listed.stdout) == (0, True), listed.stderr
    mock = [str(bare.top / "bin/rch-mock-worker"), "--state", str(tmp_path / "mock")]
    held = bare("rch-conformance", "worker", "--section", "3.1", "--", *mock)
    assert held.returncode == 0, held.stdout + held.stderr


def test_the_words_name_what_the_extras_bring() -> None:
    wanted = {
        extra: {
            Requirement(each).name.replace("-", "_") for each in PROJECT["optional-dependencies"][extra]
        }
        for extra in EXTRAS
    }
    assert {extra: set(brought) for extra, brought in EXTRAS.items()} == {
        extra: names - {PROJECT["name"].replace("-", "_")} for extra, names in wanted.items()
    }
    assert PROJECT["name"] == DISTRIBUTION
    assert lacking(ModuleNotFoundError(name="sqlite3"), "rchd", Origin()) is None
    told = lacking(ModuleNotFoundError(name="jinja2.ext"), "report", Origin("/w/a.whl"))
    assert told is not None
    assert told.hint == "pip install '/w/a.whl[host]'"


@pytest.mark.parametrize(
    ("noted", "command"),
    [
        ({"url": "file:///a%20b/r.whl", "archive_info": {}}, "pip install '/a b/r.whl[host]'"),
        ({"url": "file:///src", "dir_info": {}}, "pip install '/src[host]'"),
        ({"url": "file:///src", "dir_info": {"editable": True}}, "pip install -e '/src[host]'"),
        ({"url": "https://h/r.whl", "archive_info": {}}, "pip install 'rch-xcode[host] @ https://h/r.whl'"),
        (
            {"url": "https://h/r", "vcs_info": {"vcs": "git", "commit_id": "ab12"}},
            "pip install 'rch-xcode[host] @ git+https://h/r@ab12'",
        ),
    ],
)
def test_what_is_missing_comes_from_where_the_rest_came_from(noted: dict[str, Any], command: str) -> None:
    assert read_origin(noted).command("host") == command


@pytest.mark.parametrize("noted", [None, [], {}, {"url": 1}])
def test_without_a_known_origin_no_index_is_named(noted: object) -> None:
    told = read_origin(noted)._replace(pip="/my venv/bin/pip").command("tui")
    assert told == (
        "with the wheel that it was installed from: '/my venv/bin/pip' install"
        f" 'PATH/rch_xcode-{rch.__version__}-py3-none-any.whl[tui]'"
    )


def test_a_wheel_that_is_gone_is_named_by_its_kind_alone(wheel: Path, tmp_path: Path) -> None:
    kept = Path(shutil.copy(wheel, tmp_path / wheel.name))
    bare = Installed(tmp_path / "bare", kept)
    kept.unlink()
    told = bare("rchd", "check").stderr
    assert str(kept) not in told
    assert f"pip install 'PATH/{wheel.name}[host]'" in told
