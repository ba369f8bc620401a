"""The pages say nothing that is not so: doctests, generated tables, variables."""

from __future__ import annotations

import doctest
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from reference import artifacts, machines
from reference.commands import exit_codes_told
from reference.exit_codes import MEANING
from reference.gate import VALUES
from reference.pages import arranged, for_the_site, from_reference, pages
from reference.protocols import FEATURES, RESULTS
from support.pages import DOCS, REPO, blocks, hand_written

from rch.config.daemon_config import DaemonConfig
from rch.config.inventory import WorkerEntry
from rch.config.keys import known_keys
from rch.config.schema import Config, NamespaceRow, StepTable
from rch.config.worker_config import WorkerConfig
from rch.contract.errors import registry
from rch.contract.local_api import METHODS
from rch.contract.policy import GRAMMARS, Check
from rch.contract.worker_rpc import OPERATIONS, Feature
from rchctl.verbs import VERBS
from rchd.core.run import MOVES

DOCTESTS = [page for page in hand_written() if ">>> " in page.read_text(encoding="utf-8")]


@pytest.mark.parametrize("page", DOCTESTS, ids=lambda page: page.stem)
def test_the_doctests_of_a_page_hold(page: Path) -> None:
    text = "\n".join(block.text for block in blocks(page, "python", "pycon") if ">>> " in block.text)
    test = doctest.DocTestParser().get_doctest(text, {}, page.stem, str(page), 0)
    assert test.examples
    assert doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test).failed == 0


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    return pages(DOCS)


@pytest.mark.spec("8")
def test_every_artifact_has_its_place_its_writer_and_its_members(made: dict[str, str]) -> None:
    assert artifacts.undocumented() == set()
    for kind in artifacts.kinds():
        for field in kind.__struct_fields__:
            assert f"`{field}`" in made["artifacts.md"]


def test_every_verb_is_there_with_its_flags_and_exit_codes(made: dict[str, str]) -> None:
    for verb in VERBS:
        assert f"\n## rchctl {verb}\n" in made["rchctl.md"]
    assert set(exit_codes_told(DOCS)) == set(VERBS)


@pytest.mark.spec("8")
def test_every_exit_code_is_there_with_its_meaning(made: dict[str, str]) -> None:
    assert {0, *(entry.exit_code for _, _, entry in registry())} == set(MEANING)
    for kind, subkind, entry in registry():
        row = f"| `{kind}` | {f'`{subkind}`' if subkind else 'none'} |"
        assert any(
            line.startswith(row) and entry.remedy in line for line in made["exit-codes.md"].splitlines()
        )


@pytest.mark.spec("6")
def test_every_flag_that_the_gate_knows_is_there(made: dict[str, str]) -> None:
    for grammar in GRAMMARS.values():
        assert all(f"`{word}`" in made["gate.md"] for word in (*grammar.flags, *grammar.denied))
    assert set(VALUES) == set(Check)


@pytest.mark.spec("12")
def test_both_protocols_are_there_whole(made: dict[str, str]) -> None:
    assert set(RESULTS) == set(OPERATIONS)
    assert set(FEATURES) == set(Feature)
    assert all(f"\n## {method}\n" in made["local-api.md"] for method in METHODS)
    assert all(f"\n## {op}\n" in made["worker-api.md"] for op in OPERATIONS)


@pytest.mark.spec("4")
def test_the_pictures_show_every_phase_and_every_move_of_the_table(made: dict[str, str]) -> None:
    assert set(machines.PHASE_PLACES) == set(machines.phases())
    arrows = machines.phase_arrows()
    assert {arrow.start for arrow in arrows} >= {phase.__name__ for phase, _ in MOVES}
    assert {("Submitting", "Following"), ("Following", "Fetching")} <= {arrow[:2] for arrow in arrows}
    assert all(name in made["pictures/run-phases.svg"] for name in machines.phases())


def test_every_variable_of_the_programs_stands_in_places() -> None:
    told = (DOCS / "places.md").read_text(encoding="utf-8")
    told += (DOCS / "configuration.md").read_text(encoding="utf-8")  # of a hook, and of nothing else
    read = set()
    for room in ("rch", "rchd", "rchctl", "worker_agent"):
        for path in (REPO / room).rglob("*.py"):
            read |= set(re.findall(r"""["'](RCH_[A-Z_]+)["']""", path.read_text(encoding="utf-8")))
    assert {name for name in read if f"`{name}`" not in told} == set()
    assert "RCH_HOME" in read


def known_anywhere() -> set[str]:
    """Every key of every file, those of arrays of tables below the array's name."""
    keys = {
        *known_keys(Config),
        *known_keys(DaemonConfig),
        *known_keys(WorkerConfig),
        *known_keys(WorkerEntry),
    }
    rows = {"worker.": WorkerEntry, "actions.step.": StepTable, "policy.namespace.": NamespaceRow}
    return keys | {f"{prefix}{key}" for prefix, cls in rows.items() for key in known_keys(cls)}


def keys_in(tree: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in tree.items():
        tables = value if isinstance(value, list) and value and isinstance(value[0], dict) else [value]
        for each in tables:
            if isinstance(each, dict):
                yield from keys_in(each, f"{prefix}{key}.")
            else:
                yield f"{prefix}{key}"


@pytest.mark.spec("6")
def test_every_key_in_an_example_of_a_config_file_is_one() -> None:
    shown = {
        key
        for page in hand_written()
        if page.stem not in {"simulation", "mock-worker"}  # whose examples are of scenarios
        for block in blocks(page, "toml")
        for key in keys_in(tomllib.loads(block.text))
    }
    assert shown - known_anywhere() == set()
    assert {"worker.host", "cache.namespace", "notify.command"} <= shown


def test_the_picture_is_small_and_of_no_machine() -> None:
    picture = (DOCS / "pictures" / "demo.svg").read_text(encoding="utf-8")
    assert len(picture.encode()) < 60_000
    assert "SUCCEEDED" in picture
    assert re.findall(r"(?<!demo)/(?:root|home|work|Users|tmp)/", picture) == []
    assert re.findall(r"""(?:href|src|url\()["'(]*https?:""", picture) == []


def test_a_page_that_is_new_is_in_the_index_and_one_that_is_gone_is_not(tmp_path: Path) -> None:
    for name in ("index.md", "start.md", "new-page.md"):
        (tmp_path / name).touch()
    index = "# It\n\n```{toctree}\nThe start <start>\ngone-page\n```\n```{toctree}\n<the rest>\n```\n"
    assert (
        arranged(index, tmp_path)
        == "# It\n\n```{toctree}\nThe start <start>\n```\n```{toctree}\nnew-page\n```\n"
    )


def test_links_lead_to_where_the_site_has_the_page() -> None:
    there = from_reference("[a](docs/cli.md#x) [b](CHANGELOG.md) [c](https://x.y)", PurePosixPath())
    assert there == "[a](../cli.md#x) [b](changes.md) [c](https://x.y)"
    assert for_the_site("[a](../README.md) [b](decisions)", DOCS) == "[a](reference/readme.md) b"
